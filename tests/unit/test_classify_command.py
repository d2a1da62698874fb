"""`rubrika classify` before it speaks to any service: its arguments, its input and its output."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import classify_command
from cli.classifying import Note
from jobs.errors import RubrikaError


class Interrupted:
    """Standard input while whose reading somebody interrupts."""

    def __init__(self, number: int) -> None:
        self._number = number

    def read(self, _size: int = -1) -> bytes:
        signal.raise_signal(self._number)
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_the_pipe_is_read_ends_like_any_other(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Interrupted(number)))
    guard = signal.signal(signal.SIGTERM, lambda *_: None)  # Or one that nobody catches would end the tests.
    try:
        with pytest.raises(SystemExit) as ended:
            classify_command.classify.main(["-", "--url", "http://127.0.0.1:9"])
    finally:
        signal.signal(signal.SIGTERM, guard)
    assert ended.value.code == 128 + number
    assert "Interrupted before the file was accepted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("option", "value"), [("--key", "rk_secret\nkey"), ("--key", "rk_secret-ключ"), ("--url", "localhost:8000")]
)
def test_a_key_or_an_address_that_cannot_be_used_is_a_sentence(option: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(RubrikaError) as refused:
        classify_command.classify.main([str(tmp_path / "a.csv"), option, value], standalone_mode=False)
    assert "rk_secret" not in str(refused.value)


def test_runs_through_a_link_and_without_it_write_the_same_output(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "a.csv"
    link.symlink_to(tmp_path / "far" / "whole.csv")
    with Note(link).held():
        assert [path.name for path in (tmp_path / "far").iterdir()] == ["whole.csv.rubrika"]
        with pytest.raises(RubrikaError, match="Another"), Note(tmp_path / "far" / "whole.csv").held():
            pass


def test_there_is_a_note_beside_a_file_and_none_beside_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "posts.csv").write_text("text\na\n")
    os.mkfifo(tmp_path / "pipe.csv")
    seen: list[tuple[bool, list[str]]] = []

    def run(_client: object, _wish: object, _wanted: object, note: Note | None, _progress: object) -> SimpleNamespace:
        seen.append((note is None, sorted(path.name for path in tmp_path.iterdir())))
        return SimpleNamespace(rows=SimpleNamespace(failed=0))

    monkeypatch.setattr(classify_command, "_run", run)
    for out in ("pipe.csv", "results.csv"):
        with pytest.raises(SystemExit) as ended:
            classify_command.classify.main([str(tmp_path / "posts.csv"), "-o", str(tmp_path / out)])
        assert ended.value.code == 0
    there = ["pipe.csv", "posts.csv"]
    assert seen == [(True, there), (False, [*there, "results.csv.rubrika"])]
