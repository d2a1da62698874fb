"""`rubrika bench cpu`: real processes, a tiny model, and settings that the service takes."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli import probing
from cli.main import main
from cli.probing import Arrangement, Measured, best_of, engines, measure, shares
from jobs.cores import available_cores
from jobs.settings import Settings
from ml import probe
from ml.classifier import Classifier, Predictions
from ml.posts import Post
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def test_only_what_the_processor_gains_by_is_tried() -> None:
    plain = {(one.backend, one.arithmetic) for one in engines(frozenset({"avx2"}), 4)}
    assert ("openvino", "int8") in plain
    assert {("onnxruntime", "int8-static"), ("onnxruntime", "float32")} <= plain
    assert not any(arithmetic == "bfloat16" for _, arithmetic in plain)
    assert ("openvino", "bfloat16") in {(one.backend, one.arithmetic) for one in engines(frozenset({"amx_bf16"}), 4)}
    assert ("amx", "bfloat16") not in plain
    tiles = frozenset({"amx_tile", "amx_bf16"})
    if importlib.util.find_spec("numba"):
        assert ("amx", "bfloat16") in {(one.backend, one.arithmetic) for one in engines(tiles, 4)}
        assert ("bytes", "int8-static") in plain
    assert all((one.processes, one.threads) == (1, 4) for one in engines(frozenset(), 4))


@pytest.mark.parametrize(("cores", "expected"), [(1, []), (2, [(2, 1)]), (6, [(3, 2), (6, 1)])])
def test_cores_are_shared_out_among_processes(cores: int, expected: list[tuple[int, int]]) -> None:
    found = shares(Arrangement("openvino", "int8", 1, cores), cores)
    assert [(one.processes, one.threads) for one in found] == expected


def test_a_chunk_is_about_two_seconds_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    posts = [Post(str(number)) for number in range(500)]
    now = [0.0]
    asked: list[Sequence[Post]] = []

    def predict(_: Classifier, chunk: Sequence[Post]) -> Predictions:
        asked.append(chunk)
        # 100 posts a second.
        now[0] += len(chunk) / 100
        nothing = np.empty((len(chunk), 0), np.float32)
        return Predictions(nothing, np.zeros(len(chunk), np.bool_), {}, nothing)

    monkeypatch.setattr(Classifier, "predict", predict)
    monkeypatch.setattr("ml.probe.time.perf_counter", lambda: now[0])
    assert probe.rate(object.__new__(Classifier), posts, 6.0) == pytest.approx(100)
    assert [len(chunk) for chunk in asked] == [probe.CHUNK, 200, 200, 200]
    # They go round, so that no two of a chunk are one text.
    assert asked[-1] == [*posts[464:], *posts[:164]]


def test_rates_of_processes_are_added_up_and_the_fastest_wins(model: Path, tmp_path: Path) -> None:
    two = measure(Arrangement("openvino", "float32", 2, 1), model, tmp_path, 0.2)
    assert not two.problem
    assert two.rate > 0
    slower = Measured(two.arrangement, two.rate / 2)
    assert best_of([slower, two]) is two


def test_what_is_not_possible_says_why(model: Path, tmp_path: Path) -> None:
    found = measure(Arrangement("onnxruntime", "int8", 1, 1), model, tmp_path, 0.2)
    assert found.rate == 0
    assert "int8 runs on OpenVINO alone" in found.problem


FAILS = {
    "it says why": ("print('not possible: no such arithmetic', flush=True)", "no such arithmetic"),
    "it ends without a word": ("", "it ended without a word"),
    "it ends when it may begin": ("print('ready', flush=True); input()", "it ended while it was measured"),
    "nothing can be told to it": (
        "os.close(0); print('ready', flush=True); signal.pause()",
        "it ended while it was measured",
    ),
}
PROBE = """
import os, signal, sys
folder = sys.argv[1]
open(os.path.join(folder, str(os.getpid())), "w").close()
try:
    os.mkdir(os.path.join(folder, "first"))
except FileExistsError:
    print("ready", flush=True)
    signal.pause()
else:
    {}
"""


@pytest.mark.parametrize(("does", "reason"), FAILS.values(), ids=FAILS)
def test_one_of_several_processes_that_fails_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    monkeypatch.setattr(probing, "PROBE", (sys.executable, "-c", PROBE.format(does or "pass")))
    asked = Arrangement("openvino", "int8", 2, 1)
    assert measure(asked, tmp_path, tmp_path, 0.2) == Measured(asked, 0.0, reason)
    pids = [int(file.name) for file in tmp_path.iterdir() if file.name.isdecimal()]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_cannot_be_started_is_a_problem_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "PROBE", (str(tmp_path / "nowhere"),))
    found = measure(Arrangement("openvino", "int8", 2, 1), tmp_path, tmp_path, 0.2)
    assert "could not be started" in found.problem


def test_what_was_measured_before_a_failure_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(arrangement: Arrangement, *_: object) -> Measured:
        return Measured(arrangement, 0.0, "it broke") if arrangement.processes > 1 else Measured(arrangement, 7.0)

    monkeypatch.setattr(probing, "measure", measured)
    result = CliRunner().invoke(main, ["bench", "cpu", "--model", str(model)])
    assert result.exit_code == 0, result.output
    assert "RUBRIKA_WORKERS=1" in result.stdout


def test_the_command_prints_settings_that_the_service_takes(model: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "cpu", "--model", str(model), "--seconds", "0.2"])
    assert result.exit_code == 0, result.output
    assert "posts/s" in result.stderr
    chosen = dict(line.split("=") for line in result.stdout.split())
    settings = Settings.from_env(chosen)
    assert settings.workers * settings.threads <= available_cores()
    assert (settings.backend, settings.arithmetic) == (chosen["RUBRIKA_BACKEND"], chosen["RUBRIKA_ARITHMETIC"])


def test_a_folder_that_no_engine_runs_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "cpu", "--model", str(tmp_path), "--seconds", "0.2"])
    assert result.exit_code == 2
    assert "no complete model folder" in result.stderr
