"""Files of many rows: what is told when a machine is faster than the measurement, and of which values."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import files
from bench.harness import Running

RUNNING = Running("127.0.0.1", 1, 0.0, 1, Path())


def answers(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """A service whose file has this status from the first question on."""

    def call(_connection: object, _method: str, path: str, *_: object) -> dict[str, Any]:
        if path == "/api/v1/classifications":
            return {"status": "succeeded"}
        return {"status": status, "links": {"self": "/job", "cancel": "/job/cancel"}}

    monkeypatch.setattr(files, "call", call)


def test_a_machine_that_is_too_fast_for_it_loses_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "succeeded")
    found = files.measure_interactive(RUNNING, None, 3)
    assert list(found["one_text_milliseconds"]) == ["alone"]
    assert "too fast" in found["not_measured"]["one text beside a file"]


def test_texts_beside_a_file_are_told_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "running")
    found = files.measure_interactive(RUNNING, None, 3)
    assert list(found["one_text_milliseconds"]) == ["alone", "beside a file"]
    assert found["not_measured"] == {}


def test_the_percentile_is_one_of_the_values_that_the_median_is_of() -> None:
    found = files.with_p95([float(value) for value in range(1, 41)])
    assert (found["median"], found["p95"], found["max"]) == (20.5, 38.0, 40.0)


def test_a_process_that_has_gone_meanwhile_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    class Child:
        def __init__(self, pid: int, command: list[str]) -> None:
            self.pid, self.command = pid, command

        def cmdline(self) -> list[str]:
            if not self.command:
                raise psutil.NoSuchProcess(self.pid)
            return self.command

    class Process:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def children(self, recursive: bool) -> list[Child]:
            return [Child(1, []), Child(os.getpid(), ["rubrika", "api"]), Child(os.getpid(), ["rubrika", "worker"])]

    monkeypatch.setattr(files.psutil, "Process", Process)
    assert files.api_peak_bytes(RUNNING) > 0
