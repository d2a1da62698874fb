"""What benchmarks share: the service as a user starts it, the machine in words, and medians with their spread."""

import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jobs.settings import PROJECT_ROOT
from tests.support import free_port

T = TypeVar("T")

RESULTS = PROJECT_ROOT / "bench" / "results"
START_SECONDS = 300


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
        started = time.monotonic()
        inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up"],
            cwd=PROJECT_ROOT,
            env=inherited | {"RUBRIKA_DATA_DIR": f"{folder}/data", "RUBRIKA_PORT": str(port)} | env,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if str(port) not in line:
                raise SystemExit(f"rubrika up did not start: {line!r}")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield Running("127.0.0.1", port, time.monotonic() - started, process.pid, Path(folder) / "data")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles, minimum and maximum."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {
        "median": statistics.median(values),
        "q1": low,
        "q3": high,
        "min": min(values),
        "max": max(values),
    }


def interleaved(arms: Mapping[str, Callable[[], T]], rounds: int) -> tuple[dict[str, list[float]], dict[str, T]]:
    """Seconds of each arm in each round, and what it returned last. Every round runs all arms once, in random order,
    so that whatever else the machine does meets them alike; a round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    returned: dict[str, T] = {}
    for number in range(rounds + 1):
        for name in random.sample(sorted(arms), len(arms)):
            started = time.perf_counter()
            returned[name] = arms[name]()
            took = time.perf_counter() - started
            if number:
                seconds[name].append(took)
            print(f"round {number or 'of warm-up'}: {name}: {took:.2f} s", file=sys.stderr, flush=True)
    return seconds, returned


def machine() -> dict[str, Any]:
    """The machine in words: processor, cores, what it multiplies by itself, memory, versions."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024**2
    except OSError:
        cpuinfo, memory = "", 0.0
    names = re.findall(r"model name\s*:\s*(.*)", cpuinfo)
    flags = [flag for flag in ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx2") if flag in cpuinfo]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": flags,
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
    }


def keep(name: str, result: dict[str, Any]) -> None:
    """Print a result and write it to `bench/results/NAME.json`."""
    text = json.dumps({"machine": machine()} | result, ensure_ascii=False, indent=1)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
