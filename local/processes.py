"""What a child process is, how it is started so that it never outlives its parent, and how strangers are told apart.

A child gets a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone, which then stops its
children in order. On Linux it is also bound to its parent by PR_SET_PDEATHSIG (see prctl(2)): a supervisor that is
killed without a chance to clean up leaves nothing running.
"""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from time import monotonic
from typing import IO

from jobs.errors import StartError

_LINUX: bool = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED_USER = "nobody"

AT_WORK_SECONDS = 3600.0
"""For so long a server is waited for that says itself that it is starting."""


class StopOrder(IntEnum):
    """The order in which a machine stops: who takes requests first, who keeps the record last."""

    API = 0
    """Nothing new comes in; requests in flight are answered."""

    WORKERS = 1
    """Chunks in work are finished and recorded."""

    SWEEPER = 2
    """Nobody is left whose lease could expire."""

    BELL = 3
    """Redis, which nobody listens to any more."""

    RECORD = 4
    """PostgreSQL, which all others write to until their end."""


@dataclass(frozen=True)
class Identity:
    """The user and the group that a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Child:
    """A process to run: its command, and how it wants to be stopped.

    Children of one `rank` are stopped together, and the next rank when those are gone. `grace` is how many seconds a
    child may take after `stop_signal` before `kill_signal` is sent to it.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    rank: StopOrder = StopOrder.API
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    grace: float = 10.0
    identity: Identity | None = None
    cwd: Path | None = None


def server_identity() -> Identity | None:
    """Whom the embedded servers run as: the user of this process, or for root the user `nobody`.

    PostgreSQL refuses to run as root, and containers and CI often are root. Raises `StartError` where there is no
    such user: one is never added.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_UNPRIVILEGED_USER)
    except KeyError:
        raise StartError(
            f"PostgreSQL refuses to run as root, and this machine has no user {_UNPRIVILEGED_USER}: "
            "start Rubrika as an ordinary user, or set DATABASE_URL and REDIS_URL."
        ) from None
    return Identity(uid=entry.pw_uid, gid=entry.pw_gid)


def spawn(child: Child, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a child with its stdout and stderr going to `output`. Raises `StartError` when that is impossible.

    Call it from a thread that lives as long as the children shall: the kernel takes the end of the thread that
    started a process for the death of its parent.
    """
    try:
        return subprocess.Popen(
            child.argv,
            env=dict(child.env),
            cwd=child.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=child.identity.uid if child.identity else None,
            group=child.identity.gid if child.identity else None,
            extra_groups=[] if child.identity else None,
            # The binding to the parent is made after the change of user, which would undo it.
            preexec_fn=_die_with_parent(child.stop_signal),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StartError(f"{child.name} cannot be started ({child.argv[0]}: {error}).") from error


def runs_as(identity: Identity | None, *argv: str) -> bool:
    """Whether a short command succeeds when it is run as this user."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
            cwd="/",
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def can_enter(identity: Identity | None, folder: Path) -> bool:
    """Whether this user can make files in `folder`: every parent lets it through and the folder lets it write."""
    return runs_as(identity, "/bin/sh", "-c", 'cd -- "$1" && test -w .', "sh", str(folder))


def command_line(pid: int) -> tuple[str, ...] | None:
    """The arguments of a running process, or None when there is none of that id (a zombie counts as none)."""
    if _LINUX:
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return None
        return tuple(os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")) if raw else None
    listed = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return (listed.stdout.strip(),) if listed.stdout.strip() else None


def end_stranger(pid: int, steps: tuple[tuple[signal.Signals, float], ...]) -> bool:
    """Stop a process that is not a child of this one: each signal in turn, and the seconds to wait after it.

    Returns whether it is gone. The caller has made sure that the process is Rubrika's own.
    """
    for number, seconds in steps:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        if wait_until(lambda: command_line(pid) is None, seconds):
            return True
    return command_line(pid) is None


def stop_child(process: subprocess.Popen[bytes], steps: tuple[tuple[signal.Signals, float], ...]) -> None:
    """Stop a child of this process: each signal in turn, and the seconds to wait after it; SIGKILL at the end."""
    for number, seconds in (*steps, (signal.SIGKILL, None)):
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


class Patience:
    """How long something is asked for, and how often: `seconds`, which begin anew whenever it says that it is at work.

    Even that comes to an end, after AT_WORK_SECONDS.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._begun = self._heard = clock()

    @property
    def waited(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begun

    @property
    def is_over(self) -> bool:
        """Whether to give up."""
        return self._clock() - self._heard >= self._seconds or self.waited >= max(AT_WORK_SECONDS, self._seconds)

    def pause(self, every: float, *, at_work: bool) -> float:
        """Seconds until the next question. What is at work is not kept from it, and its log is not filled."""
        if not at_work:
            return every
        self._heard = self._clock()
        return max(every, min(1.0, self.waited / 10))


def wait_until(
    done: Callable[[], bool], seconds: float, every: float = 0.02, at_work: Callable[[], bool] = lambda: False
) -> bool:
    """Ask `done` again and again until it says yes or the time is over; returns its last answer.

    The time begins anew whenever `at_work`, which is asked after each no, says yes.
    """
    event = threading.Event()
    patience = Patience(seconds)
    while not done():
        pause = patience.pause(every, at_work=at_work())
        if patience.is_over:
            return False
        event.wait(pause)
    return True


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What the new process does before it becomes the program; None where the system has no such call (macOS)."""
    if not _LINUX:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        # The parent may have died before the call above.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return bind
