"""From CSV files to a model that serves, by the commands that a user types, with a base of two thin layers."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from cli.model_commands import COMMANDS, evaluate, export, train
from cli.ranges_command import ranges
from ml import artifact, held
from ml.classifier import Classifier
from ml.data import DEFAULT_NAMES, read_folder
from ml.encoding import pad
from ml.posts import Post
from tests.tiny_model import POSITIONS, TEXTS, make_base

QUICK = ["--epochs", "3", "--lr", "5e-3", "--max-tokens", "32", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty posts for each of the six topics, told apart by their words; some with two topics."""
    folder = tmp_path_factory.mktemp("posts")
    rng = np.random.default_rng(0)
    for number, topic in enumerate(DEFAULT_NAMES):
        words = re.findall(r"\w{3,}", TEXTS[number])
        with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["doc_text", "image2text", "speech2text"])
            for _ in range(40):
                doc, image, speech = (" ".join(rng.choice(words, 4)) for _ in range(3))
                writer.writerow([doc, image if rng.random() < 0.5 else "", speech if rng.random() < 0.3 else ""])
            writer.writerow(["Скидка на матч", "", ""] if topic in ("sport", "ads") else [f"{words[0]}!", "", ""])
    return folder


@pytest.fixture(scope="module")
def none_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("none") / "none.tsv"
    lines = [f"health\tчисло {'и ' * (row % 9)}ещё {row}" for row in range(30)]
    file.write_text("category\ttext\n" + "\n".join([*lines, "sports\tматч и финал"]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(posts: Path, none_file: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "mine"
    none = ["--none", f"{none_file}=health"]
    run(train, posts, "--base", base, "-o", out, *none, *QUICK, "--epochs", "15")
    return out


def run(command: click.Command, *arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def card(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / artifact.CARD).read_text(encoding="utf-8"))
    return content


def test_a_trained_model_knows_what_it_was_taught(trained: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(trained, device="cpu", threads=1, cache_dir=tmp_path)
    assert [topic.id for topic in classifier.info.topics] == list(DEFAULT_NAMES)
    probabilities = classifier.predict([Post(text) for text in TEXTS]).probabilities
    assert probabilities.argmax(axis=1).tolist() == list(range(6))


def test_the_folder_holds_no_path_of_the_machine_and_no_text_of_a_post(trained: Path, base: Path) -> None:
    names = sorted(file.name for file in trained.iterdir())
    assert names == sorted([*artifact.REQUIRED, artifact.RANGES, artifact.VALIDATION, artifact.MANIFEST, "README.md"])
    for name in set(names) - {artifact.WEIGHTS, artifact.TOKENIZER}:
        content = (trained / name).read_text(encoding="utf-8")
        assert str(base.parent) not in content
        assert "Скидка на матч" not in content
    dtypes = {name: array.dtype for name, array in load_file(trained / artifact.WEIGHTS).items()}
    assert dtypes.pop("ngrams.hashes") == np.int32
    assert set(dtypes.values()) == {np.dtype(np.float16), np.dtype(np.int8), np.dtype(np.float32)}
    assert dtypes["head.weight"] == np.float16
    layers = [name for name in dtypes if name.startswith("encoder.encoder.layer.") and name.endswith("dense.weight")]
    assert layers
    assert {dtypes[name] for name in layers} == {np.dtype(np.int8)}


def test_the_card_tells_what_was_measured(trained: Path, posts: Path) -> None:
    content = card(trained)
    kept = held.read(trained)
    assert kept is not None
    assert content["data"]["digest"] == kept.data_digest == read_folder(posts).digest()
    assert content["data"]["validation"] == len(kept.posts) > 20
    assert content["off_topic"]["held_out"] == len(kept.none) > 0
    figures = content["validation"]["figures"]
    assert 0.5 < figures["micro_f1"]["mean"] <= 1
    assert f"{figures['micro_f1']['mean']:.3f}" in (trained / "README.md").read_text(encoding="utf-8")
    told = content["reliability"]
    assert told["posts"] == len(kept.posts)
    assert list(told["topics"]) == list(DEFAULT_NAMES)
    for bins in told["topics"].values():
        assert [one["believed"] for one in bins] == sorted(one["believed"] for one in bins)
        assert all(0 <= one["true"] <= 1 for one in bins)


def test_the_card_of_an_older_model_is_told_its_reliability(trained: Path, posts: Path, tmp_path: Path) -> None:
    where = ["--cache-dir", tmp_path / "cache", "--device", "cpu"]
    older = shutil.copytree(trained, tmp_path / "older")
    content = card(older)
    told = content.pop("reliability")
    artifact.write_json(older / artifact.CARD, content)
    artifact.write_manifest(older)
    assert "held back" in run(evaluate, older, posts, "--split", "all", "--into-card", *where, code=1)
    assert card(older) == content
    run(evaluate, older, posts, "--into-card", *where)
    assert {name: value for name, value in card(older).items() if name != "reliability"} == content
    again = card(older)["reliability"]
    assert (again["method"], again["posts"]) == (told["method"], told["posts"])
    assert [len(bins) for bins in again["topics"].values()] == [len(bins) for bins in told["topics"].values()]
    assert artifact.read(older).info.sha256 != artifact.read(trained).info.sha256


def test_serving_reads_posts_as_training_did(trained: Path, posts: Path, none_file: Path, tmp_path: Path) -> None:
    """The validation figures that the served network reaches are those that training wrote into the card."""
    file = tmp_path / "report.json"
    page = tmp_path / "report.html"
    output = run(evaluate, trained, posts, "--json", file, "--html", page, "--cache-dir", tmp_path,
                 "--none", f"{none_file}=health", "--device", "cpu")  # fmt: skip
    report = json.loads(file.read_text(encoding="utf-8"))
    content = card(trained)
    assert report["split"] == "validation"
    assert report["posts"] == content["data"]["validation"]
    for topic in report["topics"]:
        assert topic["f1"] == pytest.approx(content["per_topic"][topic["id"]]["f1"], abs=0.1)
    assert report["off_topic_posts"] == content["off_topic"]["held_out"]
    assert report["off_topic_share"] == pytest.approx(content["off_topic"]["share_with_a_topic"], abs=0.3)
    assert "micro f1" in output
    assert "! " not in output
    for name, (low, high) in report["intervals"].items():
        assert low - 0.05 <= report["figures"][name] <= high + 0.05
    assert (
        sum(one["posts"] for one in report["by_length"])
        == sum(one["posts"] for one in report["by_field"])
        == report["posts"]
    )
    assert [len(row) for row in report["confusion"]] == [7] * 6
    for number, topic in enumerate(report["topics"]):
        assert report["confusion"][number][number] == pytest.approx(topic["recall"])
        assert sum(one["posts"] for one in topic["reliability"]) == report["posts"]
    # Texts are for the page that was asked for, and nothing in them is markup there.
    assert "doubtful" not in report
    html = page.read_text(encoding="utf-8")
    assert f"{report['figures']['micro_f1']:.3f}" in html
    assert html.count("<svg") == 9
    assert "<script" not in html
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert "https://" not in html


def test_measuring_what_was_trained_on_comes_with_a_warning(trained: Path, posts: Path, tmp_path: Path) -> None:
    where = ["--cache-dir", tmp_path, "--device", "cpu"]
    assert "measure memory" in run(evaluate, trained, posts, "--split", "all", *where)
    other = tmp_path / "other"
    other.mkdir()
    for topic in DEFAULT_NAMES:
        (other / f"{topic}.csv").write_text(f"doc_text\nсовсем другое про {topic}\n", encoding="utf-8")
    assert "not the data that the model records" in run(evaluate, trained, other, *where)
    assert "use --split all" in run(evaluate, trained, other, "--split", "validation", *where, code=1)
    (other / "sport.csv").unlink()
    assert "The model knows the topics" in run(evaluate, trained, other, *where, code=1)


def test_one_seed_gives_one_model_and_another_seed_another(posts: Path, base: Path, tmp_path: Path) -> None:
    options = [posts, "--base", base, *QUICK, "--epochs", "1", "--teacher-weight", "0"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(train, *options, "-o", tmp_path / name, "--seed", seed)
    first, same, other = (load_file(tmp_path / name / artifact.WEIGHTS)["head.weight"] for name in "abc")
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    figures = [card(tmp_path / name)["validation"]["figures"] for name in "ab"]
    assert figures[0] == figures[1]


def test_ranges_measured_again_may_make_another_version(trained: Path, posts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(trained, folder)
    (folder / artifact.RANGES).unlink()
    artifact.write_manifest(folder)
    assert artifact.read(folder).ranges is None
    output = run(ranges, folder, posts, "--threads", 1)
    assert "of the assignments as in float32" in output
    found = artifact.read(folder)
    # As the training measured them: on the same posts to learn from.
    assert found.ranges == artifact.read(trained).ranges
    assert found.info.version == "1.0.0"
    run(ranges, folder, posts, "--threads", 1, "--version", "1.0.1")
    again = artifact.read(folder)
    assert (again.info.version, again.ranges) == ("1.0.1", found.ranges)
    assert (folder / artifact.README).read_text(encoding="utf-8").startswith("# mine 1.0.1\n")


def test_an_exported_file_runs_elsewhere_and_agrees(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    assert str(out) in run(export, trained, "-o", out)
    classifier = Classifier.load(trained, device="cpu", backend="torch", arithmetic="float32", threads=1)
    prepared = classifier.prepare([Post(text) for text in TEXTS])
    input_ids, mask = pad([prepared.ids[text] for text in prepared.text_of], 0)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input_ids": input_ids, "attention_mask": mask})[0]
    expected = artifact.read(trained).calibration.probabilities(np.asarray(logits))
    np.testing.assert_allclose(classifier.compute(prepared).probabilities, expected, atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_other_poolings_train_and_serve(posts: Path, base: Path, tmp_path: Path, pooling: str) -> None:
    out = tmp_path / "model"
    run(train, posts, "--base", base, "-o", out, "--pooling", pooling, "--teacher-weight", "0", *QUICK)
    has_pooler = any(name.startswith("encoder.pooler.") for name in load_file(out / artifact.WEIGHTS))
    assert has_pooler == (pooling == "pooler")
    assert_backends_agree(out, tmp_path)


def test_a_network_that_merges_tokens_trains_and_serves(posts: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    run(train, posts, "--base", base, "-o", out, "--merge-after", "1", "--teacher-weight", "0", *QUICK)
    made = artifact.read(out)
    assert made.merge_after == (1,)
    assert made.ranges is not None
    assert made.ranges.agreement is not None
    assert "After layer 1 each two neighbouring tokens become one" in (out / artifact.README).read_text("utf-8")
    assert_backends_agree(out, tmp_path)
    # Without merging the same weights say something else: the graphs of both may lie in one cache.
    settings = json.loads((out / artifact.SETTINGS).read_text(encoding="utf-8"))
    plain = shutil.copytree(out, tmp_path / "plain")
    artifact.write_json(plain / artifact.SETTINGS, settings | {"merge_after": []})
    artifact.write_manifest(plain)
    where = {"device": "cpu", "threads": 1, "cache_dir": tmp_path / "cache"}
    merging, whole = (
        Classifier.load(one, **where).predict([Post(text) for text in TEXTS]).logits  # type: ignore[arg-type]
        for one in (out, plain)
    )
    assert np.abs(merging - whole).max() > 1e-3
    # A training that goes on from it merges as it does, unless it is told otherwise.
    still = ["--epochs", 0, "--teacher-weight", 0, "--ngram-share", 0, "--device", "cpu", "--threads", 1]
    run(train, posts, "--base", out, *still, "-o", tmp_path / "same")
    assert artifact.read(tmp_path / "same").merge_after == (1,)
    run(train, posts, "--base", out, *still, "--merge-after", "", "-o", tmp_path / "other")
    assert artifact.read(tmp_path / "other").merge_after == ()
    assert "differ in" in run(train, posts, "--base", plain, "--average", out, *still, "-o", tmp_path / "mean", code=1)


@pytest.mark.parametrize(
    ("layers", "reason"), [("2", "from 1 to 1"), ("0", "from 1 to 1"), ("1,1", "rising"), ("one", "no list of numbers")]
)
def test_tokens_are_merged_after_layers_that_there_are(
    posts: Path, base: Path, tmp_path: Path, layers: str, reason: str
) -> None:
    options = ["--base", base, "--merge-after", layers, "--teacher-weight", "0", *QUICK]
    output = run(train, posts, *options, "-o", tmp_path / "out", code=2 if layers == "one" else 1)
    assert reason in output


def test_a_base_without_pooler_and_with_pieces_instead_of_words(posts: Path, base: Path, tmp_path: Path) -> None:
    """As the e5 family is: SentencePiece's unigram pieces, another padding id, a prefix before every text."""
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    weights = {name: one for name, one in load_file(base / "model.safetensors").items() if "pooler" not in name}
    tokenizer = make_unigram(weights["embeddings.word_embeddings.weight"].shape[0])
    save_file(weights, pieces / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (pieces / "config.json").write_text(json.dumps(config | {"pad_token_id": 1}), encoding="utf-8")
    tokenizer.save(str(pieces / "tokenizer.json"))
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": POSITIONS, **special}
    (pieces / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    out = tmp_path / "model"
    run(train, posts, "--base", pieces, "-o", out, "--prefix", "матч: ", "--teacher-weight", "0", *QUICK)
    assert artifact.read(out).prefix == "матч: "
    assert_backends_agree(out, tmp_path)


def make_unigram(size: int) -> Tokenizer:
    words = sorted({word for text in TEXTS for word in re.findall(r"\w+", text)})
    letters = sorted({letter for word in words for letter in word})
    pieces = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", "▁", ":", *(f"▁{word}" for word in words), *letters])
    scored = [(piece, -1.0 - len(piece) / 100) for piece in pieces][:size]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def assert_backends_agree(folder: Path, cache_dir: Path) -> None:
    texts = [Post(text) for text in TEXTS] + [Post("", "кот", "мама"), Post("длинный " * 50)]
    found = [
        Classifier.load(folder, backend=backend, device="cpu", threads=1, cache_dir=cache_dir / "cache").predict(texts)
        for backend in ("torch", "onnxruntime", "openvino")
    ]
    for other in found[1:]:
        assert not other.failures
        np.testing.assert_allclose(other.probabilities, found[0].probabilities, atol=3e-2)
        np.testing.assert_array_equal(other.truncated, found[0].truncated)


def test_mistakes_are_answered_in_a_sentence(posts: Path, base: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        output = run(train, *arguments, *QUICK, code=1)
        assert "Traceback" not in output
        return output

    out = tmp_path / "out"
    assert "There is no folder" in refused(tmp_path / "none", "--base", base, "-o", out)
    assert "cannot load" in refused(posts, "--base", tmp_path / "none", "-o", out, "--teacher-weight", "0")
    assert "There is no file" in refused(posts, "--base", base, "-o", out, "--none", tmp_path / "none.csv")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "cat.jpg").write_bytes(b"cat")
    assert "is no model folder" in refused(posts, "--base", base, "-o", precious)
    assert "There is no model folder" in run(evaluate, tmp_path / "none", posts, code=1)
    assert "There is no model folder" in run(export, tmp_path / "none", "-o", tmp_path / "x.onnx", code=1)
    assert not out.exists()
    below = precious / "cat.jpg" / "mine"
    told = refused(posts, "--base", base, "-o", below)
    assert "mine cannot be written: File exists" in " ".join(told.split())
    assert "to learn from" not in told
    damaged = tmp_path / "damaged"
    shutil.copytree(base, damaged)
    (damaged / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert "cannot load" in refused(posts, "--base", damaged, "-o", out, "--teacher-weight", "0")
    shutil.copytree(base, damaged, dirs_exist_ok=True)
    (damaged / "tokenizer.json").write_text("{", encoding="utf-8")
    assert "finds no fast tokenizer" in refused(posts, "--base", damaged, "-o", out, "--teacher-weight", "0")


def test_training_without_its_packages_says_how_to_install_them(
    posts: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The import system takes None for "known to be missing".
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert "make train-deps" in run(train, posts, "--base", base, "-o", tmp_path / "out", code=1)


def test_the_commands_are_named_as_documented() -> None:
    assert [command.name for command in COMMANDS] == ["train", "evaluate", "export"]
