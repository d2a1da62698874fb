"""The supervisor with real, tiny child processes."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from jobs.errors import StartError
from local.logs import ChildLog
from local.processes import StopOrder, command_line
from local.supervisor import StopRequestedError, Supervisor
from tests.integration.local_dummies import obedient, process_id, script, stubborn


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, warnings: list[str]) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "logs", warnings.append) as made:
        yield made


def start_and_wait(supervisor: Supervisor, folder: Path, name: str) -> int:
    """Start an obedient child and return its process id."""
    supervisor.start(obedient(name, folder))
    supervisor.wait(lambda: process_id(folder, name) is not None, 10, name)
    pid = process_id(folder, name)
    assert pid is not None
    return pid


def test_a_child_that_dies_is_started_again(supervisor: Supervisor, tmp_path: Path, warnings: list[str]) -> None:
    first = start_and_wait(supervisor, tmp_path, "child")
    os.kill(first, signal.SIGKILL)
    supervisor.wait(lambda: process_id(tmp_path, "child") not in (None, first), 10, "another child")
    assert len(warnings) == 1
    assert warnings[0].startswith("child was ended by SIGKILL; it is started again now.")
    assert command_line(first) is None


def test_it_waits_longer_and_longer_for_a_child_that_keeps_dying(
    supervisor: Supervisor, tmp_path: Path, warnings: list[str]
) -> None:
    supervisor.start(script("doomed", "print('all is lost')"))
    with pytest.raises(StartError, match="doomed does not start: all is lost; its log is"):
        supervisor.wait(lambda: False, 30, "nothing")
    assert [warning.split("started again ")[1].split(". Its")[0] for warning in warnings] == [
        "now",
        "in 0.5 s",
        "in 1 s",
    ]


def test_what_a_dead_child_leaves_behind_is_ended(supervisor: Supervisor, tmp_path: Path) -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "orphan = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"open({str(tmp_path / 'orphan.pid')!r}, 'w').write(str(orphan.pid))\n"
        f"open({str(tmp_path / 'parent.pid')!r}, 'w').write(str(os.getpid()))\n"
        "signal.pause()\n"
    )
    supervisor.start(script("parent", code))
    supervisor.wait(lambda: process_id(tmp_path, "parent") is not None, 10, "the parent")
    orphan, parent = process_id(tmp_path, "orphan"), process_id(tmp_path, "parent")
    assert orphan is not None
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    supervisor.wait(lambda: command_line(orphan) is None, 10, "the end of the orphan")


def test_children_are_stopped_in_order(supervisor: Supervisor, tmp_path: Path) -> None:
    ranks = {
        "postgres": StopOrder.RECORD,
        "valkey": StopOrder.BELL,
        "worker": StopOrder.WORKERS,
        "sweeper": StopOrder.SWEEPER,
        "api": StopOrder.API,
    }
    for name, rank in ranks.items():
        supervisor.start(obedient(name, tmp_path, rank))
    supervisor.wait(lambda: all(process_id(tmp_path, name) for name in ranks), 20, "all of them")
    supervisor.stop()
    assert (tmp_path / "stopped").read_text().split() == ["api", "worker", "sweeper", "valkey", "postgres"]


def test_a_child_that_does_not_stop_is_killed_when_its_time_is_over(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(stubborn("mule", tmp_path, grace=0.3))
    supervisor.wait(lambda: process_id(tmp_path, "mule") is not None, 10, "the mule")
    pid = process_id(tmp_path, "mule")
    assert pid is not None
    supervisor.stop()
    assert command_line(pid) is None
    log = (tmp_path / "logs" / "mule.log").read_text()
    assert "mule | no\n" in log
    assert "mule -- was ended by SIGKILL\n" in log


def test_a_signal_ends_the_waiting(supervisor: Supervisor, tmp_path: Path) -> None:
    start_and_wait(supervisor, tmp_path, "child")
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StopRequestedError):
        supervisor.wait(lambda: False, 30, "nothing")
    supervisor.run()  # Returns at once for the same reason.


def test_a_second_interrupt_kills_at_once(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(stubborn("mule", tmp_path, grace=60))
    supervisor.wait(lambda: process_id(tmp_path, "mule") is not None, 10, "the mule")
    signal.raise_signal(signal.SIGINT)
    second = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    second.start()
    begun = monotonic()
    supervisor.stop()
    second.join()
    assert monotonic() - begun < 10


def test_what_a_child_prints_is_news_once(supervisor: Supervisor, tmp_path: Path) -> None:
    start_and_wait(supervisor, tmp_path, "child")
    supervisor.wait(lambda: supervisor.has_news("child"), 10, "its line")
    assert not supervisor.has_news("child")


def test_a_child_that_has_died_tells_no_news(supervisor: Supervisor, tmp_path: Path) -> None:
    """Else one that dies late, and each time anew, would be waited for as long as one that is at work."""
    first = start_and_wait(supervisor, tmp_path, "child")
    os.kill(first, signal.SIGKILL)
    log = tmp_path / "logs" / "child.log"
    supervisor.wait(lambda: log.read_text().count("child | child is ready") == 2, 10, "the line of the second")
    assert not supervisor.has_news("child")


def test_a_task_that_fails_is_told_in_its_own_words(supervisor: Supervisor) -> None:
    supervisor.run_once(script("good", "print('done')"), 20)
    with pytest.raises(StartError, match=r"^bad failed: The disk is on fire; its log is .*bad\.log\.$"):
        supervisor.run_once(script("bad", "raise SystemExit('rubrika: The disk is on fire.')"), 20)


def test_a_program_that_does_not_exist_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    child = obedient("ghost", tmp_path)
    missing = type(child)(child.name, (str(tmp_path / "nothing"),), child.env)
    with pytest.raises(StartError, match=r"ghost cannot be started \(.*nothing"):
        supervisor.start(missing)


def test_output_is_kept_line_by_line_and_bounded(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "x.log", "x", max_bytes=1000)
    log.feed("начало стро".encode())
    assert not log.path.exists()
    log.feed("ки\nвторая".encode())
    log.end()
    assert [line.split(" ", 1)[1] for line in log.path.read_text().splitlines()] == ["x | начало строки", "x | вторая"]
    for number in range(100):
        log.feed(f"line {number}\n".encode())
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["x.log", "x.log.1"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert log.last_words == "line 99"
