"""A search for options on small posts by the command that a user types: killed, gone on with, its result trained."""

import csv
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cli.main import main
from cli.model_commands import train
from jobs.settings import PROJECT_ROOT
from ml import artifact
from tests.integration.test_crossval import base, posts, run
from tests.support import wait_until
from tests.tiny_model import TEXTS

__all__ = ["base", "posts"]

RANGES = """
max-tokens: 32
threads: 1
device: cpu
ranges:
  lr: {low: 1e-6, high: 1e-2, log: true}
  epochs: [2, 3]
  batch: {low: 4, high: 16, step: 4}
  teacher-weight: {low: 0.0, high: 0.5}
"""


@pytest.fixture
def ranges(tmp_path: Path) -> Path:
    file = tmp_path / "ranges.yaml"
    file.write_text(RANGES, encoding="utf-8")
    return file


def tune(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["tune", *(str(one) for one in arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def trials(out: Path) -> list[dict[str, str]]:
    """All that is told of the trials, but for how long they took."""
    file = out / "trials.csv"
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]


def test_a_killed_search_goes_on_and_finds_what_an_undisturbed_one_finds(
    posts: Path, base: Path, ranges: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    common = [posts, "--ranges", ranges, "--base", base, "--trials", 8]
    said = tune(*common, "-o", whole)
    assert "8/8 lr " in said
    assert "about 0 min left" in said
    command = [sys.executable, "-m", "cli.main", "tune", *map(str, common), "-o", str(cut)]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: len(trials(cut)) >= 2, timeout=240)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = trials(cut)
    assert len(before) < 8
    tune(*common, "-o", cut)
    assert trials(cut)[: len(before)] == before
    assert trials(cut) == trials(whole)

    finished = [row for row in trials(whole) if row["state"] == "finished"]
    assert len(finished) >= 4
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 9
    assert page.count('class="line') == 2

    best = yaml.safe_load((whole / "best.yaml").read_text(encoding="utf-8"))
    top = max(finished, key=lambda row: float(row["mean_average_precision"]))
    assert best["max-tokens"] == 32
    assert str(best["batch"]) == top["batch"]
    run(train, posts, "--config", whole / "best.yaml", "-o", tmp_path / "model")
    options = artifact.read(tmp_path / "model").info.card["training"]
    assert f"{options['lr']:g}" == top["lr"]
    assert options["epochs"] == int(top["epochs"])

    again = tune(*common, "-o", whole)
    assert "8/8 lr" not in again
    ranges.write_text(RANGES.replace("1e-2", "2e-2"), encoding="utf-8")
    assert "holds a search with other" in tune(*common, "-o", whole, code=2)


def test_trials_that_lag_behind_are_ended_early(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "posts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for topic, text in (("sport", TEXTS[0]), ("ads", TEXTS[2])):
        words = re.findall(r"\w{3,}", text)
        lines = [" ".join(rng.permutation(words)[:4]) for _ in range(80)]
        (folder / f"{topic}.csv").write_text("\n".join(["doc_text", *lines]), encoding="utf-8")
    ranges = tmp_path / "ranges.yaml"
    ranges.write_text(
        "{epochs: 4, max-tokens: 32, threads: 1, ranges: {lr: [1e-9, 5e-3, 6e-3, 7e-3]}}", encoding="utf-8"
    )
    said = tune(folder, "--ranges", ranges, "--base", base, "--trials", 12, "-o", tmp_path / "out")
    early = [row for row in trials(tmp_path / "out") if row["state"] == "ended early"]
    assert early
    assert f"12 trials, {len(early)} of them ended early" in said
    assert said.count(": ended after epoch ") == len(early)
    best = max(float(row["mean_average_precision"]) for row in trials(tmp_path / "out"))
    assert all(float(row["mean_average_precision"]) < best for row in early)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("lr: [", "cannot be read as YAML"),
        ("lr: 1", "must have `ranges:`"),
        ("ranges: {}", "must have `ranges:`"),
        ("ranges: {rate: [1, 2]}", "no option --rate"),
        ("ranges: {ngram-share: [0.2, 0.4]}", "ngram-share cannot be searched"),
        ("ranges: {run: [a, b]}", "no option --run"),
        ("ranges: {epochs: [few]}", "epochs: 'few' is not a valid integer"),
        ("ranges: {epochs: {low: -1, high: 3}}", "epochs: -1 is not in the range"),
        ("ranges: {lr: {low: 2, high: 1}}", "with low below high"),
        ("ranges: {lr: {low: 0, high: 1, log: true}}", "log from above 0"),
        ("ranges: {lr: 3}", "must be a list of values"),
        ("ranges: {merge-after: ['1', '1,2']}", "merge-after is a list by itself"),
        ("{none: x.tsv, ranges: {lr: [1e-3]}}", "no option --none that could be tuned"),
        ("ranges: {lr: [1e-3]}", "Name the encoder"),
        ("{base: /nowhere, ranges: {lr: [1e-3]}}", "cannot load '/nowhere'"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(posts: Path, tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "ranges.yaml"
    file.write_text(content, encoding="utf-8")
    assert told in " ".join(tune(posts, "--ranges", file, "-o", tmp_path / "out", code=2).split())


def test_the_search_that_comes_along_can_be_read(posts: Path, base: Path, tmp_path: Path) -> None:
    file = PROJECT_ROOT / "configs/tune/rubrika-small.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["ranges"]["epochs"] = [1]
    content["max-tokens"] = 16
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    tune(posts, "--ranges", tmp_path / "quick.yaml", "--base", base, "--trials", 1, "-o", tmp_path / "out")
    assert set(yaml.safe_load((tmp_path / "out" / "best.yaml").read_text(encoding="utf-8"))) >= set(content["ranges"])
