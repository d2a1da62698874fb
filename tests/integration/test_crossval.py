"""Cross-validation of the network, resumed after a kill, and networks that learn from what it wrote."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cli.model_commands import train
from jobs.settings import PROJECT_ROOT
from ml import artifact, calibrate, data, teachers
from ml.errors import DataError
from ml.posts import Post
from tests.support import wait_until
from tests.tiny_model import TEXTS, make_base

QUICK = ["--epochs", "10", "--lr", "5e-3", "--max-tokens", "32", "--threads", "1", "--device", "cpu"]
TOPICS = ("sport", "ads", "politics")


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty posts for each of three topics."""
    folder = tmp_path_factory.mktemp("posts")
    rng = np.random.default_rng(0)
    for topic, text in zip(TOPICS, (TEXTS[0], TEXTS[2], TEXTS[4]), strict=True):
        words = re.findall(r"\w{3,}", text)
        with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["doc_text"])
            writer.writerows([" ".join(rng.permutation(words)[:5])] for _ in range(20))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def oof(posts: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a cross-validation that nothing disturbed."""
    file = tmp_path_factory.mktemp("oof") / "all.npz"
    output = run(train, posts, "--base", base, "--folds", "2", "--oof", file, "--folds-of", "all", *QUICK)
    assert re.search(r"macro f1 +\d\.\d{3} ± \d\.\d{3} +\d\.\d{3} ± \d\.\d{3}", output)
    assert not list(file.parent.glob("*.parts"))
    return file


def run(command: click.Command, *arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(
    posts: Path, base: Path, oof: Path, tmp_path: Path
) -> None:
    file = tmp_path / "killed.npz"
    arguments = [posts, "--base", base, "--folds", "2", "--oof", file, "--folds-of", "all", *QUICK]
    kept = tmp_path / "killed.npz.parts" / "1.npz"
    with subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", "train", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: kept.exists() or process.poll() is not None, timeout=240)
        # Where it ends before the signal comes, there is nothing left to go on with, and the rest of the test says so.
        process.send_signal(signal.SIGSTOP)
        stopped_in_time = kept.exists()
        process.kill()
    assert stopped_in_time
    first = kept.read_bytes()
    refused = run(train, *arguments, "--seed", "2", code=1)
    assert "other options" in refused
    assert kept.read_bytes() == first
    assert "fold 1 of 2: as found" in run(train, *arguments)
    expected, found = teachers.read(oof), teachers.read(file)
    assert found.keys == expected.keys
    np.testing.assert_array_equal(found.whole, expected.whole)
    np.testing.assert_array_equal(found.crops, expected.crops)


def test_the_file_speaks_of_every_post_and_knows_something(posts: Path, oof: Path) -> None:
    dataset = data.read_folder(posts)
    found = teachers.read(oof)
    assert sorted(found.keys) == sorted(data.text_key(post) for post in dataset.posts)
    guesses = found.of(dataset, "oof").argmax(axis=1)
    assert (guesses == dataset.labels.argmax(axis=1)).mean() > 0.6
    assert (found.crops != found.whole).any()


def test_by_default_no_teacher_sees_a_post_of_validation(posts: Path, base: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "learn.npz", tmp_path / "model"
    run(train, posts, "--base", base, "--folds", "2", "--oof", file, *QUICK, "--teacher-weight", "0")
    output = run(train, posts, "--base", base, "-o", out, *QUICK, "--teacher", f"{file}=2", "--teacher", "tfidf")
    assert "soft targets by learn.npz, tfidf" in output
    held = json.loads((out / artifact.VALIDATION).read_text(encoding="utf-8"))["posts"].split()
    assert held
    assert not set(held) & set(teachers.read(file).keys)
    card = (out / artifact.CARD).read_text(encoding="utf-8")
    assert json.loads(card)["training"]["teacher_names"] == ["learn.npz=2", "tfidf"]
    assert str(tmp_path) not in card
    # Another seed validates on other posts, of which some have no teacher.
    wrong = run(train, posts, "--base", base, "-o", out, *QUICK, "--teacher", file, "--seed", "2", code=1)
    assert "says nothing of" in wrong


def test_teachers_are_averaged_as_logits_by_weight_and_put_in_order(tmp_path: Path) -> None:
    names = tuple(data.TopicName(topic, topic, topic) for topic in ("a", "b"))
    dataset = data.Dataset(names, (Post("раз"), Post("два")), np.array([[1, 0], [0, 1]], dtype=np.float32), ("1", "2"))
    keys = [data.text_key(post) for post in dataset.posts]
    first = np.array([[2.0, -1.0], [0.5, 3.0]], dtype=np.float32)
    second = np.array([[-4.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    teachers.OutOfFold(tuple(keys), ("a", "b"), first, first).write(tmp_path / "1.npz")
    # The same posts and topics the other way round.
    turned = second[::-1, ::-1].copy()
    teachers.OutOfFold(tuple(keys[::-1]), ("b", "a"), turned, turned).write(tmp_path / "2.npz")
    both = [teachers.Teacher.parse(f"{tmp_path}/1.npz=3"), teachers.Teacher.parse(f"{tmp_path}/2.npz")]
    mean = (3 * first + second) / 4
    np.testing.assert_allclose(teachers.together(dataset, both, seed=1), mean, atol=1e-6)
    # And calibrated before they soften the labels.
    said = calibrate.fit(mean, dataset.labels).probabilities(mean)
    expected = 0.75 * dataset.labels + 0.25 * said
    np.testing.assert_allclose(teachers.soft_labels(dataset, both, 0.25, seed=1), expected, atol=1e-6)


def test_a_table_speaks_of_the_posts_that_it_has(tmp_path: Path) -> None:
    names = tuple(data.TopicName(topic, topic, topic) for topic in ("a", "b"))
    texts = (Post("раз", "на картинке"), Post("два"), Post("три"))
    labels = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    dataset = data.Dataset(names, texts, labels, ("1", "2", "3"))
    keys = [data.text_key(post) for post in dataset.posts]
    nan = [np.nan, np.nan]
    by_key, by_text = tmp_path / "by-key.tsv", tmp_path / "by-text.csv"
    by_key.write_text(f"key\tb\ta\n{keys[1]}\t100\t0\nffff\t1\t1\n{keys[0]}\t20\t80\n", encoding="utf-8")
    by_text.write_text("doc_text,image2text,a,b,notes\nраз,на картинке,40.5,60,?\n", encoding="utf-8")
    read = [teachers.read_table(file, dataset) for file in (by_key, by_text)]
    np.testing.assert_allclose(read[0], [[0.8, 0.2], [0, 1], nan], atol=1e-6)
    np.testing.assert_allclose(read[1], [[0.405, 0.6], nan, nan], atol=1e-6)
    # Who says nothing of a post leaves it to the others; who is certain does not drown them.
    logits = np.array([[2.0, -1.0], [0.5, 3.0], [0.1, 0.2]], dtype=np.float32)
    teachers.OutOfFold(tuple(keys), ("a", "b"), logits, logits).write(tmp_path / "1.npz")
    both = [teachers.Teacher.parse(f"{by_key}=3"), teachers.Teacher(f"{tmp_path}/1.npz")]
    said = np.log([[0.8 / 0.2, 0.2 / 0.8], [1 / 99, 99]])
    expected = np.concatenate([(3 * said + logits[:2]) / 4, logits[2:]])
    np.testing.assert_allclose(teachers.together(dataset, both, seed=1), expected, atol=1e-5)
    with pytest.raises(DataError, match="No teacher says anything of 2 of the 3 posts"):
        teachers.together(dataset, [teachers.Teacher(str(by_text))], seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key\ta\n1\t5\n", "lacks the column `b`"),
        ("a\tb\n1\t5\n", "lacks the column `key` or `doc_text`"),
        ("", "lacks the column `a`, `b`"),
        ("key\ta\tb\n1\t5\t10\n2\t5\t101\n", "Row 2 of .* must have per cent"),
        ("key\ta\tb\n1\t5\tviel\n", "Row 1 of .* must have per cent"),
        ("key\ta\tb\n1\t5\n", "Row 1 of .* must have per cent"),
        ("key\ta\tb\n1\t\t\n", "Row 1 of .* must have per cent"),
    ],
)
def test_what_is_wrong_with_a_table_of_a_teacher_is_told(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "said.tsv"
    file.write_text(content, encoding="utf-8")
    names = tuple(data.TopicName(topic, topic, topic) for topic in ("a", "b"))
    dataset = data.Dataset(names, (Post("раз"),), np.array([[1, 0]], dtype=np.float32), ("1",))
    with pytest.raises(DataError, match=message):
        teachers.read_table(file, dataset)


@pytest.mark.parametrize("name", ["second-reading.tsv", "third-reading.tsv"])
def test_the_readings_that_come_with_the_project_are_teachers(name: str) -> None:
    """Its rows are whole, each post stands in it once, and per cents are such as topics of one post can have."""
    file = PROJECT_ROOT / "configs" / name
    rows = data.table_rows(file, delimiter="\t")
    names = tuple(data.TopicName(topic, topic, topic) for topic in data.DEFAULT_NAMES)
    keys = [row["key"] for row in rows]
    assert len(set(keys)) == len(keys) > 1000
    assert all(re.fullmatch(r"[0-9a-f]{16}", key) for key in keys)
    nobody = data.Dataset(names, (Post("нигде"),), np.zeros((1, len(names)), dtype=np.float32), ("1",))
    assert np.isnan(teachers.read_table(file, nobody)).all()
    sums = np.array([[float(row[topic.id]) for topic in names] for row in rows]).sum(axis=1)
    assert sums.min() > 80
    assert sums.max() < 200


def test_mistakes_are_answered_in_a_sentence(posts: Path, base: Path, oof: Path, tmp_path: Path) -> None:
    start = [posts, "--base", base]
    assert "belong together" in run(train, *start, "--folds", "2", code=2)
    assert "Give either -o FOLDER" in run(train, *start, code=2)
    assert "does not go with --folds" in run(
        train, *start, "--folds", "2", "--oof", tmp_path / "x.npz", "--teacher", oof, code=2
    )
    out = ["-o", tmp_path / "out", *QUICK]
    assert "There is no file" in run(train, *start, *out, "--teacher", tmp_path / "x.npz", code=1)
    (tmp_path / "text.npz").write_text("no arrays", encoding="utf-8")
    assert "is no .npz file" in run(train, *start, *out, "--teacher", tmp_path / "text.npz", code=1)
    np.savez(tmp_path / "other.npz", numbers=np.zeros(3))
    assert "holds no out-of-fold logits" in run(train, *start, *out, "--teacher", tmp_path / "other.npz", code=1)
    assert "positive number" in run(train, *start, *out, "--teacher", f"{oof}=-1", code=1)
    with pytest.raises(DataError, match="does not know the topics"):
        teachers.OutOfFold((), ("x",), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)).of(
            data.read_folder(posts), "x"
        )
