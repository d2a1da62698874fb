"""Processes that begin with everything imported: what is seconds of each start is done once for a session.

One process imports the program and forks itself for each process that a test starts. The fork has a session, an
environment and a log of its own, and runs its module as `python -m` does. That a start works without such a help is
for tests that start it as a person does: `test_up`, `test_hosts`, and those of the integration.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TextIO

from jobs.settings import PROJECT_ROOT
from tests.support import environment_outside

MODULES = ("api.server", "celery.apps.worker", "celery.concurrency.thread", "celery.worker.components", "cli.servers",
           "worker.main", "worker.sweeper")  # fmt: skip
MAINS = ("cli.main", "tests.fake_classifier", "tests.impatient_api")


class Process(Protocol):
    """What a test may do with a process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Launch(Protocol):
    """Starts a process from the arguments of Python (`-m`, a module, and its own), in a session of its own."""

    def __call__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Process: ...


def launch(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
    """Start a process as a person does, from nothing."""
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=PROJECT_ROOT, env=dict(env), stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip


class Nursery:
    """The process that forks, from outside."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=PROJECT_ROOT,
                env=environment_outside(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        with ours:
            self._lines = ours.makefile("rw", encoding="utf-8")
        self._turn = threading.Lock()

    def launch(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
        """Start a process; what it inherits is nothing but what it has imported."""
        return Fork(self, self.ask(arguments=list(arguments), env=dict(env), log=str(log)), list(arguments))

    def ask(self, **request: Any) -> Any:
        """One request and its answer."""
        with self._turn:
            _say(self._lines, request)
            answer = self._lines.readline()
        assert answer, "the process that forks has ended"
        return json.loads(answer)

    def close(self) -> None:
        """End it; what it has forked and is still running goes on."""
        self._lines.close()
        self._process.wait(10)


class Fork:
    """A process that was forked elsewhere: only its parent can say how it ended."""

    def __init__(self, nursery: Nursery, pid: int, arguments: Sequence[str]) -> None:
        self.pid = pid
        self._nursery = nursery
        self._arguments = arguments
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._nursery.ask(ended=self.pid)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        pause = threading.Event()
        deadline = None if timeout is None else monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and monotonic() >= deadline:
                raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
            pause.wait(0.01)
        return status

    def send_signal(self, sig: int) -> None:
        # Its number is nobody else's until it was asked about after its end, and then it is let alone.
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _say(lines: TextIO, what: Any) -> None:
    lines.write(json.dumps(what) + "\n")
    lines.flush()


def _import_all() -> None:
    for name in MODULES:
        importlib.import_module(name)
    # What runs as `__main__` is read once more, and Python warns of a module that was imported before.
    for name in MAINS:
        importlib.import_module(name)
        del sys.modules[name]


def _be(arguments: Sequence[str], env: Mapping[str, str], log: str) -> None:
    """Become what was asked for."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.close(file)
    os.environ.clear()
    os.environ.update(env)
    flag, module, *own = arguments
    assert flag == "-m"
    sys.argv = [module, *own]
    sys.orig_argv = [sys.executable, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _main(connection: socket.socket) -> None:
    """Fork for each request until nobody is left who asks."""
    _import_all()
    with connection:
        lines = connection.makefile("rw", encoding="utf-8")
    while request := lines.readline():
        wanted = json.loads(request)
        if pid := wanted.get("ended"):
            done, status = os.waitpid(pid, os.WNOHANG)
            _say(lines, os.waitstatus_to_exitcode(status) if done else None)
        elif pid := os.fork():
            _say(lines, pid)
        else:
            lines.close()
            _be(**wanted)
            return
    with suppress(OSError):
        lines.close()


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
