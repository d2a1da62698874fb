"""Keeps a set of processes running: starts them, writes their logs, starts again what dies, stops all in order.

One thread and one `select`: output of children, the end of a child (SIGCHLD) and the wish to stop (SIGINT, SIGTERM,
SIGHUP) all wake it, and between them it sleeps. One thread also because the children are bound to the thread that
started them, see `local.processes`.
"""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType, TracebackType

from jobs.errors import StartError
from local.folders import make_folder
from local.logs import ChildLog
from local.processes import Child, Patience, spawn

# Seconds before a child that died is started again: at once the first time, then ever more slowly while it keeps
# dying. A child that lived for a while begins anew.
_BACKOFF = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_LIVED_LONG = 30.0
_DEATHS_AT_START = 3
_AFTER_KILL = 5.0
_PATIENCE = 3.0  # Seconds of silence before somebody in front of a terminal is told what is waited for.
_LAST_READS = 64  # A pipe holds 64 KiB; more can only come from a process that has outlived its parent.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequestedError(Exception):
    """Somebody asked to stop while something was being waited for."""


@dataclass
class _Running:
    """A child and its present process; between two of them `process` is None and `restart_at` says when."""

    child: Child
    log: ChildLog
    restarts: bool
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    restart_at: float | None = None
    exit_code: int | None = None
    deadline: float = 0.0
    lines_heard: int = 0


class Supervisor:
    """Use it as a context from the main thread: signals are its own inside, and all children are gone after it."""

    def __init__(self, log_dir: Path, warn: Callable[[str], None]) -> None:
        self._log_dir = log_dir
        self._warn = warn
        self._running: dict[str, _Running] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._stop_requested = False
        self._interrupts = 0
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> "Supervisor":
        make_folder(self._log_dir, 0o700)
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
            self._undo.callback(end.close)
        self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False))
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: _drain(wake_read))
        for number in (*_STOP_SIGNALS, signal.SIGCHLD):
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # Started by nohup: the end of the terminal is not the end of the service.
            self._undo.callback(signal.signal, number, signal.signal(number, self._on_signal))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._undo.close()
            self._selector.close()

    def start(self, *children: Child) -> None:
        """Start children that shall run until the end. Raises `StartError` for one that cannot be started at all."""
        for child in children:
            self._launch(self._add(child, restarts=True))

    def run_once(self, child: Child, timeout: float) -> None:
        """Run a child to its end. Raises `StartError` with its last line when it fails or takes too long."""
        running = self._add(child, restarts=False)
        self._launch(running)
        self.wait(lambda: running.exit_code is not None and running.process is None, timeout, child.name)
        if running.exit_code != 0:
            raise StartError(_sentence(f"{child.name} failed", running.log))
        del self._running[child.name]

    def wait(
        self,
        ready: Callable[[], bool],
        timeout: float,
        what: str,
        every: float = 0.05,
        at_work: Callable[[], bool] = lambda: False,
    ) -> None:
        """Supervise until `ready()` says yes, and say what is waited for when that takes long.

        Raises `StartError` when a child has died three times or after `timeout` seconds, which begin anew whenever
        `at_work()`, asked after a no, says yes. Raises `StopRequestedError` when somebody asks to stop.
        """
        patience = Patience(timeout)
        told = False
        while not ready():
            busy = at_work()
            pause = patience.pause(every, at_work=busy)
            ask_at = monotonic() + pause
            self._turn(pause)
            # A line in the log for each question ends the turn at once, and is no reason to ask again.
            while busy and not self._stop_requested and (left := ask_at - monotonic()) > 0:
                self._turn(left)
            if self._stop_requested:
                raise StopRequestedError
            for running in self._running.values():
                if running.restarts and running.deaths >= _DEATHS_AT_START:
                    raise StartError(_sentence(f"{running.child.name} does not start", running.log))
            if patience.is_over:
                raise StartError(f"{what} is not ready after {patience.waited:.0f} s; the logs are in {self._log_dir}.")
            if patience.waited > _PATIENCE and not told:
                self._warn(_waiting_for(what))
                told = True

    def has_news(self, name: str) -> bool:
        """Whether a child has printed something since this was asked last. One that has died before has none to tell:
        what it prints may be the same each time."""
        running = self._running[name]
        heard, running.lines_heard = running.lines_heard, running.log.lines
        return running.log.lines > heard and running.process is not None and running.deaths == 0

    def run(self) -> None:
        """Supervise until somebody asks to stop."""
        while not self._stop_requested:
            self._turn(None)

    def stop(self) -> None:
        """Stop all children, rank after rank. A second Ctrl-C kills whatever is left at once."""
        self._stopping = True
        for rank in sorted({running.child.rank for running in self._running.values()}):
            group = [running for running in self._running.values() if running.child.rank == rank]
            for running in group:
                running.restart_at = None
                running.deadline = monotonic() + running.child.grace
                _signal(running, running.child.stop_signal)
            self._see_off(group)
        self._running.clear()

    def _see_off(self, group: list[_Running]) -> None:
        """Wait until these children are gone, with harder signals when their time is over."""
        begun = monotonic()
        told = False
        harder = {id(running): [running.child.kill_signal, signal.SIGKILL] for running in group}
        while alive := [running for running in group if running.process is not None]:
            now = monotonic()
            if now - begun > _PATIENCE and not told:
                self._warn(_waiting_for(", ".join(running.child.name for running in alive)))
                told = True
            for running in alive:
                hurried = self._interrupts > 1 and len(harder[id(running)]) > 1
                if harder[id(running)] and (hurried or now >= running.deadline):
                    _signal(running, harder[id(running)].pop(0), group=True)
                    running.deadline = now + _AFTER_KILL
            self._turn(0.5)

    def _add(self, child: Child, *, restarts: bool) -> _Running:
        log = ChildLog(self._log_dir / f"{child.name}.log", child.name)
        running = self._running[child.name] = _Running(child, log, restarts)
        return running

    def _launch(self, running: _Running) -> None:
        process = spawn(running.child, subprocess.PIPE)
        running.process = process
        running.started = monotonic()
        running.restart_at = None
        running.log.note(f"started as process {process.pid}")
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)
            self._selector.register(
                process.stdout, selectors.EVENT_READ, lambda: self._read_output(process, running.log)
            )

    def _turn(self, timeout: float | None) -> None:
        """Sleep until something happens, the next restart is due or `timeout` is over; then deal with it."""
        due = [running.restart_at - monotonic() for running in self._running.values() if running.restart_at is not None]
        limits = [max(0.0, seconds) for seconds in (*due, timeout) if seconds is not None]
        for key, _ in self._selector.select(min(limits, default=None)):
            key.data()
        for running in self._running.values():
            if running.process is not None and running.process.poll() is not None:
                self._bury(running, running.process)
            if running.restart_at is not None and running.restart_at <= monotonic():
                self._revive(running)

    def _read_output(self, process: subprocess.Popen[bytes], log: ChildLog) -> bool:
        """Read a piece of what a child has printed; returns whether there may be more at once."""
        if process.stdout is None or process.stdout.closed:
            return False
        try:
            data = os.read(process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return False
        if data:
            log.feed(data)
            return True
        log.end()
        self._selector.unregister(process.stdout)
        process.stdout.close()
        return False

    def _bury(self, running: _Running, process: subprocess.Popen[bytes]) -> None:
        """Note the end of a child's process, end what it left behind, and decide when it is started again."""
        # Children of a child that was killed would go on holding its port or its work.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for _ in range(_LAST_READS):
            if not self._read_output(process, running.log):
                break
        running.process = None
        running.exit_code = process.returncode
        how = _how_it_ended(process.returncode)
        running.log.note(how)
        if self._stopping or not running.restarts:
            return
        running.deaths = 1 if monotonic() - running.started >= _LIVED_LONG else running.deaths + 1
        pause = _BACKOFF[min(running.deaths, len(_BACKOFF)) - 1]
        running.restart_at = monotonic() + pause
        when = f"in {pause:g} s" if pause else "now"
        self._warn(f"{running.child.name} {how}; it is started again {when}. Its log: {running.log.path}")

    def _revive(self, running: _Running) -> None:
        try:
            self._launch(running)
        except StartError as error:
            running.deaths += 1
            running.restart_at = monotonic() + _BACKOFF[-1]
            self._warn(str(error))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # It has woken the select, and that is all it is for.
        self._stop_requested = True
        self._interrupts += number == signal.SIGINT


def _signal(running: _Running, number: signal.Signals, *, group: bool = False) -> None:
    if running.process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(running.process.pid, number)
        else:
            running.process.send_signal(number)


def _sentence(what: str, log: ChildLog) -> str:
    words = log.last_words.removeprefix("rubrika: ").rstrip(".")
    said = f": {words}" if words else ""
    return f"{what}{said}; its log is {log.path}."


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _waiting_for(what: str) -> str:
    return f"жду {what}… · waiting for {what}…"


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass
