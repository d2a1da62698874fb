"""What benchmarks share: the service as a user starts it, arms in turns, and medians with their spread."""

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from cli.interruption import EXIT_CODE, Interruption
from jobs.settings import PROJECT_ROOT
from tests.support import free_port

T = TypeVar("T")

SERVICE = (sys.executable, "-m", "cli.main", "up")
END_SECONDS = 60.0
"""For so long a process may take to end when it is asked to."""


def run(main: Callable[[], None]) -> None:
    """Run a benchmark. SIGTERM and the end of the terminal end it as Ctrl-C does: with all that it has started."""
    interruption = Interruption()
    try:
        with interruption.caught():
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
            main()
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE + interruption.signal)


@contextmanager
def started(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    stdout: int | IO[str] | None = subprocess.DEVNULL,
    stderr: int | IO[str] | None = None,
    end: signal.Signals = signal.SIGTERM,
    seconds: float | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """A process that ends when the block ends: it is asked to by the signal `end`, and made to after so many seconds,
    or `END_SECONDS`.

    Its session is its own, so that Ctrl-C reaches the benchmark alone, and whatever it starts can be ended with it.
    """
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=env, stdout=stdout, stderr=stderr, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        try:
            process.send_signal(end)
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS if seconds is None else seconds)
        finally:
            # Also when somebody asks a second time, and when it has ended without what it had started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class Running:
    """A service that answers; `seconds` is how long its start took, `pid` that of `rubrika up`."""

    host: str
    port: int
    seconds: float
    pid: int
    data_dir: Path


@contextmanager
def service(**env: str) -> Iterator[Running]:
    """`rubrika up` on a fresh data folder and a free port, ended when the block ends."""
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        port = free_port()
        inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
        own = {"RUBRIKA_DATA_DIR": f"{folder}/data", "RUBRIKA_PORT": str(port)}
        begun = time.monotonic()
        with started(SERVICE, inherited | own | env, stdout=subprocess.PIPE, end=signal.SIGINT) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if str(port) not in line:
                raise SystemExit(f"rubrika up did not start: {line!r}")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield Running("127.0.0.1", port, time.monotonic() - begun, process.pid, Path(folder) / "data")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, minimum and maximum; of a single value the median, as there is no spread to tell of."""
    if len(values) == 1:
        return {"median": values[0]}
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": statistics.median(values),
        "q1": low,
        "q3": high,
        "min": min(values),
        "max": max(values),
    }


def in_turns(arms: Mapping[str, Callable[[], float]], rounds: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """The seconds that each arm says it took in each round; what it does before and after does not count.

    Every round runs all arms once, in random order, so that whatever else the machine does meets them alike; so many
    rounds before the first are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(1 - warm_ups, rounds + 1):
        for name in random.sample(sorted(arms), len(arms)):
            took = arms[name]()
            if number > 0:
                seconds[name].append(took)
            say(f"round {number if number > 0 else 'of warm-up'}: {name}: {took:.2f} s")
    return seconds


def interleaved(arms: Mapping[str, Callable[[], T]], rounds: int) -> tuple[dict[str, list[float]], dict[str, T]]:
    """As `in_turns`, for arms that do nothing but what is measured; also what each returned last."""
    returned: dict[str, T] = {}

    def timed(name: str) -> float:
        begun = time.perf_counter()
        returned[name] = arms[name]()
        return time.perf_counter() - begun

    return in_turns({name: partial(timed, name) for name in arms}, rounds), returned


def say(line: str) -> None:
    """Tell how far it is; results alone go to the standard output."""
    print(line, file=sys.stderr, flush=True)
