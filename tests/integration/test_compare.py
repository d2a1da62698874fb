"""Classifiers compared on small posts by the command that a user types, encoders of two thin layers among them."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from ml import artifact
from ml.candidates import PLAIN, EncoderOptions, candidates
from ml.comparing import TRIALS, Row, ablation, choose, only_first, read_trials
from ml.comparing import Preparation as Preparation_
from ml.errors import DataError
from tests.support import wait_until
from tests.tiny_model import TEXTS, make_base, make_tiny_model

TOPICS = ("sport", "humour", "ads")


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty posts for each of three topics, told apart by their words; one post has two topics."""
    folder = tmp_path_factory.mktemp("posts")
    rng = np.random.default_rng(0)
    for number, topic in enumerate(TOPICS):
        words = re.findall(r"\w{3,}", TEXTS[number])
        with (folder / f"{topic}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["doc_text", "image2text"])
            for row in range(30):
                writer.writerow([" ".join(rng.choice(words, 5)) + " 🔥" * (row % 2), " ".join(rng.choice(words, 2))])
            writer.writerow(["Скидка на матч", ""] if topic != "humour" else ["анекдот про кота", ""])
    return folder


def compare(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["compare", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_every_kind_of_classifier_learns_in_both_variants(posts: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    names = [f"{name}{kind}" for name in (*PLAIN, "frozen", "tuned") for kind in ("", ":single")]
    out = tmp_path / "out"
    common = [posts, "--out", out, "--candidates", ",".join(names), "--base", base]
    said = compare(*common, "--folds", 2, "--seeds", "1", "--epochs", "1")
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    rows = {row["candidate"]: row for row in table["rows"]}
    assert len(rows) == len(names)
    assert {"tfidf-forest:single", "frozen(base)", "tuned(base, 1 epochs):single"} < set(rows)
    for name, row in rows.items():
        assert row["trials"] == 2
        assert row["size"] > 1000
        assert 0 <= row["figures"]["micro_f1"][0] <= 1
        if "(" not in name:
            # Random encoders know nothing; those that read words must tell such posts apart.
            assert row["figures"]["macro_f1"][0] > 0.8, name
    assert table["chosen"] in said
    assert [row["name"] for row in table["rows"]] == sorted(
        (row["name"] for row in table["rows"]), key=lambda name: -rows[name]["figures"]["micro_f1"][0]
    )
    with (out / "table.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["candidate"] for row in csv.DictReader(stream)} == set(rows)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<circle") == len(rows)
    assert "src=" not in page
    assert "<script" not in page


def test_one_seed_gives_the_same_figures_and_another_seed_others(posts: Path, tmp_path: Path) -> None:
    figures = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        compare(posts, "--out", tmp_path / name, "--candidates", "fasttext", "--folds", 2, "--seeds", seed)
        figures.append([trial.figures["brier"] for trial in read_trials(tmp_path / name / TRIALS)])
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]


def test_a_killed_comparison_goes_on_where_it_was(posts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [posts, "--out", out, "--candidates", "tfidf-logistic,tfidf-svm", "--folds", "4", "--seeds", "1,2"]
    process = subprocess.Popen([sys.executable, "-m", "cli.main", "compare", *map(str, command)])
    try:
        wait_until(lambda: len(read_trials(out / TRIALS)) >= 2, timeout=240)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = read_trials(out / TRIALS)
    with (out / TRIALS).open("a", encoding="utf-8") as stream:
        stream.write('{"data": "cut off in the mid')
    said = compare(*command)
    after = read_trials(out / TRIALS)
    assert after[: len(before)] == before
    assert len({trial.key for trial in after}) == len(after) == 16
    assert len(re.findall(r"^\d+/16 ", said, re.MULTILINE)) == 16 - len(before)
    assert not re.findall(r"^\d+/16 ", compare(*command), re.MULTILINE)
    assert read_trials(out / TRIALS) == after


def test_steps_of_cleaning_are_compared_with_the_posts_as_they_are(posts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = compare(posts, "--out", out, "--ablate", "--folds", 2, "--seeds", "1")
    rows = json.loads((out / "table.json").read_text(encoding="utf-8"))["rows"]
    assert {row["preparation"] for row in rows} == {one.label for one in ablation(Preparation_())}
    assert len(rows) == 9
    assert [row["preparation"] for row in rows if row["gain"] is None] == ["as it is"]
    assert "tfidf-logistic (emoji)" in said
    # No post has a link: without links it is the very same text.
    [links] = [row for row in rows if row["preparation"] == "links"]
    assert links["gain"] == [0.0, 0.0]


def test_the_choice_is_told_in_the_card_and_the_model_stays_whole(posts: Path, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    (model / "README.md").write_text("# tiny\n\n## Limits\n- small\n", encoding="utf-8")
    artifact.write_manifest(model)
    before = artifact.read(model)
    command = [posts, "--out", tmp_path / "out", "--folds", 2, "--card", model]
    for names in ("tfidf-svm", "tfidf-svm,tfidf-logistic"):
        compare(*command, "--candidates", names, "--seeds", "1")
        after = artifact.read(model)
        told = after.info.card["comparison"]
        assert [row["name"] for row in sorted(told["rows"], key=lambda row: -len(row["name"]))][-1] == "tfidf-svm"
        assert len(told["rows"]) == len(names.split(","))
        assert told["chosen"] in told["reason"]
        assert after.info.card["base"] == "random"
        readme = (model / "README.md").read_text(encoding="utf-8")
        assert readme.count("## What it was compared with") == 1
        assert readme.index("| tfidf-svm |") < readme.index("## Limits\n- small")
    assert after.weights_sha256 == before.weights_sha256
    assert after.info.sha256 != before.info.sha256
    compare(*command[:-1], tmp_path / "out", code=2)


def row(name: str, mean: float, spread: float, posts_s: float) -> Row:
    return Row(name, "as it is", 4, {"micro_f1": (mean, spread)}, 1.0, posts_s, 1)


def test_of_those_within_one_standard_error_of_the_best_the_quickest_is_chosen() -> None:
    best, near, far = row("best", 0.80, 0.04, 10), row("near", 0.781, 0.01, 50), row("far", 0.779, 0.3, 99)
    chosen, reason = choose([far, best, near])
    assert chosen is near
    assert "0.781" in reason
    assert "50 posts/s instead of 10" in reason
    assert choose([best, far])[0] is best
    assert choose([row("slow", 0.79, 0.04, 5), best])[0] is best


def test_a_single_topic_is_assigned_where_one_is_learnt() -> None:
    probabilities = np.array([[0.1, 0.2, 0.05], [0.9, 0.8, 0.1]], dtype=np.float32)
    labels = np.array([[0, 1, 0], [1, 1, 0]], dtype=np.float32)
    figures = only_first(probabilities, labels, np.array([0.5, 0.5, 0.5], dtype=np.float32))
    # Of three labels two are assigned, and nothing else.
    assert figures["micro_f1"] == pytest.approx(2 * 2 / (2 + 3))


def test_what_cannot_be_compared_is_said_in_a_sentence(posts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "tfidf-logistic, tfidf-svm" in compare(posts, "--out", out, "--candidates", "tfidf-svn", code=2)
    assert "--base" in compare(posts, "--out", out, "--candidates", "tuned", code=2)
    assert "whole numbers" in compare(posts, "--out", out, "--seeds", "one", code=2)
    assert "too few" in compare(posts, "--out", out, "--folds", 40, code=2)
    assert "Did you mean links?" in compare(posts, "--out", out, "--clean", "link", code=2)
    assert "no folder" in compare(tmp_path / "none", "--out", out, code=2)
    with pytest.raises(DataError, match="each also with `:single`"):
        candidates(["tfidf-svm:double"])


def test_trials_with_another_encoder_or_prefix_are_other_trials() -> None:
    def labels(*bases: str, prefix: str = "") -> list[str]:
        return [one.label for one in candidates(["frozen", "tuned"], bases, EncoderOptions(prefix))]

    assert labels("runs/e5") == ["frozen(e5)", "tuned(e5, 4 epochs)"]
    assert labels("runs/e5", prefix="passage: ") == [
        "frozen(e5, prefix 'passage:')",
        "tuned(e5, prefix 'passage:', 4 epochs)",
    ]
    assert labels("one/e5", "two/e5")[:2] == ["frozen(one/e5)", "frozen(two/e5)"]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_learnt(posts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    result = CliRunner().invoke(main, ["compare", str(posts), "--out", str(tmp_path / "file" / "deep")])
    assert result.exit_code == 2
    assert "cannot be written" in result.output
