"""Lines of the log: one an event, with what they are about, in either format."""

import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator

import pytest

from jobs import logs
from jobs.settings import Settings

log = logging.getLogger("tests.logs")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is written to stderr in the format of the parameter. The logging of pytest is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(Settings.from_env({"RUBRIKA_LOG_FORMAT": request.param}))
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)


text = pytest.mark.parametrize("said", ["text"], indirect=True)
as_json = pytest.mark.parametrize("said", ["json"], indirect=True)


@text
def test_people_read_what_a_line_is_about(said: io.StringIO) -> None:
    with logs.about(job="j1"):
        with logs.about(lease="l1"):
            log.info("recorded %d", 5)
        log.warning("inside")
    log.info("outside")
    first, second, third = said.getvalue().splitlines()
    assert first.endswith("INFO tests.logs: recorded 5 [job=j1 lease=l1]")
    assert second.endswith("WARNING tests.logs: inside [job=j1]")
    assert third.endswith("INFO tests.logs: outside")


@text
def test_nobody_can_write_a_line_of_his_own(said: io.StringIO) -> None:
    log.warning("no such address: %s", "/x\r\n2026-01-01 00:00:00 INFO worker: all is well")
    assert len(said.getvalue().splitlines()) == 1


@as_json
def test_machines_read_one_object_a_line(said: io.StringIO) -> None:
    with logs.about(job="j1", rows=3):
        log.info("записано\n%s", "так")
    try:
        raise ValueError("сломано")
    except ValueError:
        log.exception("it broke")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    first, second, third = (json.loads(line) for line in said.getvalue().splitlines())
    assert (first["message"], first["job"], first["rows"]) == ("записано\nтак", "j1", 3)
    assert (first["level"], first["logger"]) == ("INFO", "tests.logs")
    assert first["time"].endswith("+00:00")
    assert "ValueError: сломано" in second["error"]
    assert third["logger"] == "py.warnings"
    assert "job" not in second


@as_json
def test_a_thread_says_what_it_is_about_itself(said: io.StringIO) -> None:
    with logs.about(job="mine"):
        other = threading.Thread(target=log.info, args=("other",))
        other.start()
        other.join()
        log.info("here")
    lines = {line["message"]: line for line in map(json.loads, said.getvalue().splitlines())}
    assert "job" not in lines["other"]
    assert lines["here"]["job"] == "mine"
