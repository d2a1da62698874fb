"""What `rubrika bench cpu` tries: arrangements of processes, each measured by `ml.probe`."""

import importlib.util
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.settings import PROJECT_ROOT
from ml.backends import BFLOAT16, suits_amx, suits_bytes

MODULES = {"amx": "numba", "bytes": "numba", "openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "torch"}
"""Backends, and the modules that they need."""

PROBE = (sys.executable, "-m", "ml.probe")
"""What each process of an arrangement runs."""


@dataclass(frozen=True)
class Arrangement:
    """A way to share out the cores of a machine."""

    backend: str
    arithmetic: str
    processes: int
    threads: int

    def __str__(self) -> str:
        return f"{self.backend:<11} {self.arithmetic:<11} {self.processes:>3} x {self.threads}"

    @property
    def settings(self) -> dict[str, str]:
        """The variables of the environment that ask for it."""
        return {
            "RUBRIKA_BACKEND": self.backend,
            "RUBRIKA_ARITHMETIC": self.arithmetic,
            "RUBRIKA_WORKERS": str(self.processes),
            "RUBRIKA_THREADS": str(self.threads),
        }


@dataclass(frozen=True)
class Measured:
    """Posts a second of an arrangement, all processes together; or why there are none."""

    arrangement: Arrangement
    rate: float
    problem: str = ""


def engines(flags: frozenset[str], cores: int) -> list[Arrangement]:
    """Return every backend and arithmetic that this machine may have, each in one process with all cores."""
    halves = bool(flags & BFLOAT16)
    choices = [("openvino", "float32"), ("openvino", "int8"), ("openvino", "int8-static")]
    choices += [("onnxruntime", "float32"), ("onnxruntime", "int8-static")]
    choices += [("openvino", "bfloat16"), ("torch", "bfloat16")] if halves else [("torch", "float32")]
    choices += [("amx", "bfloat16")] if suits_amx(flags) else []
    choices += [("bytes", "int8-static")] if suits_bytes(flags) else []
    return [
        Arrangement(backend, arithmetic, 1, cores)
        for backend, arithmetic in choices
        if importlib.util.find_spec(MODULES[backend])
    ]


def shares(best: Arrangement, cores: int) -> list[Arrangement]:
    """Return the other ways to share out the cores with the engine that was best: a process for each core, or for half
    of them."""
    counts = sorted({cores, max(1, cores // 2)} - {1})
    return [Arrangement(best.backend, best.arithmetic, count, cores // count) for count in counts]


def measure(arrangement: Arrangement, model: Path, cache_dir: Path, seconds: float) -> Measured:
    """Start the processes, let them begin together, and add up their rates.

    The first that fails ends all of them, whatever the others are about.
    """
    probes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(arrangement.processes):
            probes.append(_probe(arrangement, model, cache_dir, seconds))  # noqa: PERF401  (those of before must end)
        for line in _lines(probes):
            if line != "ready":
                return Measured(arrangement, 0.0, line.removeprefix("not possible: ") or "it ended without a word")
        for probe in probes:
            assert probe.stdin is not None  # noqa: S101  (a pipe, as asked for below)
            probe.stdin.write("go\n")
            probe.stdin.flush()
        return Measured(arrangement, sum(float(line) for line in _lines(probes)))
    except (BrokenPipeError, ValueError):
        return Measured(arrangement, 0.0, "it ended while it was measured")
    except OSError as error:
        return Measured(arrangement, 0.0, f"it could not be started: {error}")
    finally:
        for probe in probes:
            probe.kill()
        for probe in probes:
            # Closes the pipes as well, also one that was written to in vain.
            probe.communicate()


def best_of(measured: Sequence[Measured]) -> Measured:
    """Return the fastest."""
    return max(measured, key=lambda one: one.rate)


def _probe(arrangement: Arrangement, model: Path, cache_dir: Path, seconds: float) -> subprocess.Popen[str]:
    command = [*PROBE, str(model), arrangement.backend, arrangement.arithmetic]
    command += [str(arrangement.threads), str(cache_dir), str(seconds)]
    # Libraries make their threads when they are imported, so the number is set before.
    threads = {name: str(arrangement.threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    return subprocess.Popen(
        command,
        cwd=PROJECT_ROOT,
        env=os.environ | threads,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _lines(probes: Sequence[subprocess.Popen[str]]) -> Iterator[str]:
    """The next line of each process, in the order in which they come; an empty one of a process that has ended."""
    with selectors.DefaultSelector() as selector:
        for probe in probes:
            assert probe.stdout is not None  # noqa: S101  (a pipe, as asked for above)
            selector.register(probe.stdout, selectors.EVENT_READ, probe.stdout)
        while selector.get_map():
            for key, _ in selector.select():
                selector.unregister(key.fileobj)
                yield key.data.readline().strip()
