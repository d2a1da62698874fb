"""What a result of a benchmark says of itself, and that only whole runs that were asked to write one."""

import argparse
import importlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from bench import keeping
from jobs.settings import PROJECT_ROOT
from ml.artifact import ModelInfo

MODEL = ModelInfo("a-model", "1.2.3", "5" * 64, ())


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keeping, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def asked(*, keep: bool = False, machine: str = "") -> argparse.Namespace:
    return argparse.Namespace(keep=keep, machine=machine)


def test_a_result_is_printed_and_written_only_when_asked(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeping.keep("one", {"rate": 1}, MODEL, asked())
    printed = json.loads(capsys.readouterr().out)
    assert printed["rate"] == 1
    assert not results.exists()
    keeping.keep("one", {"rate": 2}, MODEL, asked(keep=True))
    keeping.keep("one", {"rate": 3}, MODEL, asked(keep=True, machine="small"))
    for name, rate in {"one.json": 2, "one-small.json": 3}.items():
        assert json.loads((results / name).read_text(encoding="utf-8"))["rate"] == rate


def test_a_result_says_what_it_was_measured_of_and_on(results: Path) -> None:
    keeping.keep("one", {}, MODEL, asked(keep=True))
    told = json.loads((results / "one.json").read_text(encoding="utf-8"))
    assert told["model"] == {"name": "a-model", "version": "1.2.3", "sha256": "5" * 64}
    assert set(told["load_average_of_a_minute"]) == {"before", "after"}
    assert {"numpy", "openvino", "tokenizers"} <= set(told["libraries"])
    assert {"processor", "cores", "instructions", "python"} <= set(told["machine"])
    assert told["date"].endswith("+00:00")
    if (PROJECT_ROOT / ".git").exists():
        assert len(told["commit"].removesuffix("-dirty")) == 40


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PROJECT_ROOT", tmp_path)
    assert keeping.commit() is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("engine", ["--only", "ours"]),
        ("peers", ["--only", "mosec"]),
        ("throughput", ["--only", "network"]),
        ("gpu", ["--quick"]),
    ],
)
def test_a_part_never_takes_the_place_of_a_whole_result(
    name: str, part: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--keep", *part])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"bench.{name}").main()
    assert ended.value.code == 2
    assert part[0] in capsys.readouterr().err


@pytest.mark.parametrize("target", ["bench", "bench-files", "bench-page"])
def test_make_writes_results_only_with_keep(target: str) -> None:
    def commands(*more: str) -> list[str]:
        command = ["make", "--dry-run", target, "ARGS=--something", *more]
        # What `make test` itself was called with is not passed on.
        env = {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            command, cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, check=True, timeout=60
        )
        return [line for line in done.stdout.splitlines() if "-m bench." in line]

    assert commands()
    assert not any("--keep" in line for line in (*commands(), *commands("KEEP=0")))
    assert all("--keep" in line for line in commands("KEEP=1"))
    assert any("--something" in line for line in commands("KEEP=1"))
