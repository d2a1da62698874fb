"""A training that starts from a model of Rubrika: it keeps what the model knows, and what it has not seen."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.model_commands import evaluate, train
from ml import artifact, calibrate, crops, held, weights
from ml.classifier import Classifier
from ml.data import read_folder, text_key
from ml.posts import Post, compose
from tests.integration.test_training import QUICK, base, none_file, posts, run, trained  # noqa: F401  (fixtures)


def card(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / artifact.CARD).read_text(encoding="utf-8"))
    return content


def logits(folder: Path, texts: Path, cache: Path) -> np.ndarray:
    return logits_of(folder, read_folder(texts).posts, cache)


def logits_of(folder: Path, posts: Sequence[Post], cache: Path) -> np.ndarray:  # noqa: F811
    classifier = Classifier.load(folder, arithmetic="float32", device="cpu", threads=1, cache_dir=cache)
    return classifier.predict(posts).logits


def test_the_linear_part_can_be_learnt_anew_beside_a_network_that_stays(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Without a linear part the logits are those of the network alone: with it, so much of each as is asked for."""
    made, still = {}, ["--epochs", 0, "--teacher-weight", 0, "--device", "cpu", "--threads", 1]
    for name, share in (("without", 0), ("half", 0.5), ("third", 0.3)):
        run(train, posts, "--base", trained, *still, "--ngram-share", share, "--ngram-crops", 2, "-o", tmp_path / name)
        made[name] = logits(tmp_path / name, posts, tmp_path)
    # Two equations for what the linear part says by itself.
    linear = made["half"] / 0.5 - made["without"]
    np.testing.assert_allclose(made["third"], 0.7 * made["without"] + 0.3 * linear, atol=0.02)
    assert np.abs(linear).max() > 0.5
    content = card(tmp_path / "half")
    assert content["start"]["model"] == "mine 1.0.0"
    assert content["start"]["training"] == card(trained)["training"]
    assert content["base"] == card(trained)["base"]
    readme = (tmp_path / "half" / artifact.README).read_text(encoding="utf-8")
    assert "The network was left as it was" in readme
    assert re.search(r"It started from the network of mine 1.0.0, which was made like this:\n  - Targets", readme)
    # And a model that starts from this one tells all of it.
    run(train, posts, "--base", tmp_path / "half", *still, "--ngram-crops", 0, "-o", tmp_path / "next")
    assert card(tmp_path / "next")["start"]["start"] == content["start"]


def test_it_is_validated_on_the_posts_that_the_model_has_not_seen(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    kept = held.read(trained)
    assert kept is not None
    more = tmp_path / "more"
    more.mkdir()
    for file in posts.iterdir():
        rows = "".join(f"новое слово {file.stem} {word},,\n" for word in ("а", "бэ", "вэ"))
        (more / file.name).write_text(file.read_text(encoding="utf-8") + rows, encoding="utf-8")
    # Another seed would split otherwise; the posts that the model has learnt must not be among those that judge it.
    output = run(train, more, "--base", trained, "--seed", 7, "-o", tmp_path / "mine", *QUICK, "--epochs", 1)
    assert "figures flatter" not in output
    again = held.read(tmp_path / "mine")
    assert again is not None
    assert again.posts == kept.posts
    keys = {text_key(post) for post in read_folder(more).posts}
    assert kept.posts < keys
    assert card(tmp_path / "mine")["data"]["learned_from"] >= len(keys) - 2 * len(kept.posts)


def test_a_network_with_the_same_topics_goes_on_with_its_head(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    options = ["--base", trained, *QUICK, "--lr", "1e-6", "--epochs", 1, "--ngram-share", 0]
    run(train, posts, *options, "-o", tmp_path / "same")
    run(train, posts, *options, "--epochs", 0, "-o", tmp_path / "still")
    same, still = (card(tmp_path / name)["validation"]["figures"]["micro_f1"]["mean"] for name in ("same", "still"))
    # Steps as small as these change nothing; a head that knew nothing would be right by chance alone.
    assert same == pytest.approx(still, abs=0.02)
    assert same > 0.6
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for topic in ("sport", "politics", "ads"):
        (fewer / f"{topic}.csv").write_bytes((posts / f"{topic}.csv").read_bytes())
    said = run(train, fewer, *options, "-o", tmp_path / "other")
    assert "its head begins anew" in said
    assert [topic.id for topic in artifact.read(tmp_path / "other").info.topics] == ["sport", "ads", "politics"]
    untaught = run(train, fewer, *options, "--epochs", 0, "-o", tmp_path / "untaught", code=1)
    assert "A head for other topics has to learn" in " ".join(untaught.split())


def test_the_order_of_topics_is_that_of_the_model_to_start_from(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Or its head would speak of other topics than it has learnt."""
    named = tmp_path / "named"
    shutil.copytree(posts, named)
    wanted = artifact.read(trained).info.topics
    names = {topic.id: {"name": topic.name, "name_en": topic.name_en} for topic in reversed(wanted)}
    (named / "names.json").write_text(json.dumps(names), encoding="utf-8")
    still = ["--base", trained, *QUICK, "--epochs", 0, "--ngram-share", 0, "--teacher-weight", 0]
    said = run(train, named, *still, "-o", tmp_path / "still")
    assert "begins anew" not in said
    assert [topic.id for topic in artifact.read(tmp_path / "still").info.topics] == [topic.id for topic in wanted]
    assert card(tmp_path / "still")["validation"]["figures"]["micro_f1"]["mean"] > 0.6


def test_a_training_may_start_from_the_mean_of_several_models(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    bare = ["--teacher-weight", 0, "--ngram-share", 0, "--device", "cpu", "--threads", 1]
    run(train, posts, "--base", trained, *bare, "--epochs", 2, "--lr", "5e-3", "--seed", 3, "-o", tmp_path / "second")
    still = [*bare, "--epochs", 0]
    run(train, posts, "--base", trained, *still, "-o", tmp_path / "first")
    average = ["--average", tmp_path / "second"]
    run(train, posts, "--base", trained, *average, *still, "-o", tmp_path / "mean", "--version", "1.1.0")
    run(train, posts, "--base", trained, *average, *average, *still, "-o", tmp_path / "more")
    names = ("first", "second", "mean", "more")
    read = {name: weights.read(tmp_path / name / artifact.WEIGHTS) for name in names}
    for place in (
        "head.weight",
        "encoder.embeddings.word_embeddings.weight",
        "encoder.encoder.layer.1.output.dense.weight",
    ):
        first, second, mean, more = (read[name][place].astype(np.float64) for name in names)
        assert np.abs(first - second).max() > 0.01
        # As exact as the 8 bits in which the folders keep matrices.
        rounding = 2 * np.abs(first).max() / 127
        np.testing.assert_allclose(mean, (first + second) / 2, atol=rounding)
        np.testing.assert_allclose(more, (first + 2 * second) / 3, atol=rounding)
        assert np.abs(mean - first).mean() < np.abs(second - first).mean()
    # It is a network of its own, and as good as those that it comes from.
    made = {name: logits(tmp_path / name, posts, tmp_path) for name in names}
    assert np.abs(made["mean"] - made["first"]).max() > 0.01
    figures = {name: card(tmp_path / name)["validation"]["figures"]["micro_f1"]["mean"] for name in names}
    assert figures["mean"] > min(figures["first"], figures["second"]) - 0.1
    # The posts that judge it are those that none of them has learnt.
    kept = held.read(trained)
    again = held.read(tmp_path / "mean")
    assert kept is not None
    assert again is not None
    assert again.posts == kept.posts
    content = card(tmp_path / "mean")
    assert [one["model"] for one in content["start"]["averaged_with"]] == ["second 1.0.0"]
    assert "average" not in content["training"]
    readme = (tmp_path / "mean" / artifact.README).read_text(encoding="utf-8")
    assert "\n- It started from the network of mine 1.0.0, which was made like this:" in readme
    assert "\n- The weights of mine 1.0.0 were averaged with those of second 1.0.0, which was made like this:" in readme
    # Both began with it, and it is told once.
    assert "\n- That started from the network of mine 1.0.0, told above." in readme
    assert readme.count("the network of mine 1.0.0, which was made like this:") == 1


def test_only_models_of_one_kind_are_averaged(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    base: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    plain = ["--fields", "plain", *QUICK, "--epochs", 1, "--ngram-share", 0, "--teacher-weight", 0]
    run(train, posts, "--base", base, *plain, "-o", tmp_path / "plain")
    for start, reason in ((trained, "differ in base, topics, tokenizer or in how they read"), (base, "is an encoder")):
        average = ["--average", tmp_path / "plain"]
        output = run(train, posts, "--base", start, *average, *QUICK, "-o", tmp_path / "mean", code=1)
        assert reason in output
    assert not (tmp_path / "mean").exists()


def test_networks_that_learn_what_the_others_hold_back_judge_their_mean(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    kept = held.read(trained)
    assert kept is not None
    some = ["--teacher-weight", 0, "--ngram-crops", 2, "--lr", "5e-3", "--device", "cpu", "--threads", 1]
    parts = [tmp_path / "first", tmp_path / "second"]
    for number, folder in enumerate(parts, start=1):
        options = ["--hold-back", f"{number}/2", *some, "--epochs", 1, "--seed", number]
        output = run(train, posts, "--base", trained, *options, "-o", folder)
        assert "figures flatter" not in output
        assert card(folder)["training"]["hold_back"] == [number, 2]
        readme = (folder / artifact.README).read_text(encoding="utf-8")
        assert f"held back it held back part {number} of 2, and learnt the rest" in readme
    alone = [held.read(folder) for folder in parts]
    first, second = (one.posts for one in alone if one is not None)
    assert first | second == kept.posts
    assert not first & second
    everything = read_folder(posts)
    assert card(parts[0])["data"]["learned_from"] + len(first) <= len(everything.posts)
    assert card(parts[0])["data"]["learned_from"] > card(trained)["data"]["learned_from"]

    still = ["--base", parts[0], "--average", parts[1], *some, "--epochs", 0]
    output = run(train, posts, *still, "-o", tmp_path / "mean", "--ngram-share", 0.2, code=1)
    assert "what judges it must be made as it is" in output
    output = run(train, posts, *still, "-o", tmp_path / "mean", "--hold-back", "1/2", code=1)
    assert "No training held back any of these posts" in output
    output = run(train, posts, *still, "-o", tmp_path / "mean")
    assert "figures flatter" not in output
    content = card(tmp_path / "mean")
    assert content["data"]["learned_from"] == len(everything.posts)
    assert content["data"]["validation"] == content["reliability"]["posts"] == len(kept.posts)
    assert content["validation"]["method"].endswith("the mean of the networks has learnt all of them")
    assert "answered for the posts that it had held back" in (tmp_path / "mean" / artifact.README).read_text("utf-8")
    again = held.read(tmp_path / "mean")
    assert again is not None
    assert not again.posts

    # Its figures are those of answers by the network that has not learnt the post.
    keys = [text_key(post) for post in everything.posts]
    rows = [row for row, key in enumerate(keys) if key in kept.posts]
    texts = [compose(everything.posts[row]) for row in rows]
    asked = [Post(text) for text in (*texts, *crops.pieces(texts, seed=1))]

    def fitted(folders: list[Path]) -> list[list[float]]:
        """Calibration and thresholds from what the first says of its part of the posts, and the second of the rest."""
        said = np.stack([logits_of(folder, asked, tmp_path) for folder in folders]).reshape(2, -1, len(rows), 6)
        answers = np.where(np.array([keys[row] in first for row in rows])[None, :, None], said[0], said[1])
        found = calibrate.fit(answers[0], everything.labels[rows], answers[1:])
        return np.array([found.threshold, found.slope, found.rivalry, found.intercept]).T.tolist()

    shipped = [
        [topic["threshold"], *(topic["calibration"][name] for name in ("slope", "rivalry", "intercept"))]
        for topic in json.loads((tmp_path / "mean" / artifact.SETTINGS).read_text(encoding="utf-8"))["topics"]
    ]
    np.testing.assert_allclose(shipped, fitted(parts), rtol=0.01, atol=0.01)
    # Neither those who have learnt a post nor the mean would have led to them.
    for others in (parts[::-1], [tmp_path / "mean"] * 2):
        assert np.abs(np.array(shipped) - fitted(others)).max() > 0.1

    # And who measures it on these posts is told that it has learnt them.
    output = run(evaluate, tmp_path / "mean", posts, "--cache-dir", tmp_path, "--device", "cpu")
    assert "All of these posts were trained on" in output


def test_only_what_was_held_back_has_parts(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    base: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    out = ["-o", tmp_path / "mine", *QUICK]
    assert "is an encoder" in run(train, posts, "--base", base, "--hold-back", "1/2", *out, code=1)
    for wrong in ("2", "3/2", "0/2", "1/1", "a/b"):
        assert "is no part such as 1/2" in run(train, posts, "--base", trained, "--hold-back", wrong, *out, code=2)
    other = tmp_path / "other"
    other.mkdir()
    for file in posts.iterdir():
        (other / file.name).write_text(f"doc_text\n{file.stem} раз\n{file.stem} два\n", encoding="utf-8")
    output = run(train, other, "--base", trained, "--hold-back", "1/2", *out, code=1)
    assert "No training held back any of these posts" in output


@pytest.mark.parametrize(
    "options",
    [["--folds", 2, "--oof", "OUT"], ["-o", "OUT", "--teacher", "frozen"]],
    ids=["cross-validation", "frozen teacher"],
)
def test_a_model_is_not_asked_about_posts_that_it_may_have_learnt(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
    options: list[object],
) -> None:
    given = [tmp_path / "out" if one == "OUT" else one for one in options]
    output = run(train, posts, "--base", trained, *given, *QUICK, code=1)
    assert "may have learnt these very posts" in output
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_data_may_have_seen_the_validation_posts(
    trained: Path,  # noqa: F811
    posts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in posts.iterdir():
        rows = "".join(f"{file.stem} совсем другое {number * 'и '},,\n" for number in range(30))
        (other / file.name).write_text("doc_text,image2text,speech2text\n" + rows, encoding="utf-8")
    output = run(train, other, "--base", trained, "-o", tmp_path / "mine", *QUICK, "--epochs", 1)
    assert "! The model to start from may have learnt from the validation posts" in output
