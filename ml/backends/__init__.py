"""One file per way to run the network, and what they have in common."""

import os
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Arithmetic = Literal["float", "int8"]


class Backend(Protocol):
    """A network that is loaded and ready. One call runs at a time; threads that meet wait for each other."""

    @property
    def description(self) -> str:
        """What runs the network, in a few words for a log."""
        ...

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits, float32 (batch, topics), for arrays (batch, length); the mask is 1 on real tokens."""
        ...


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def processor_flags() -> frozenset[str]:
    """Return the names of the processor's instruction sets, as Linux spells them; empty where it does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def fastest_arithmetic(flags: frozenset[str]) -> Arithmetic:
    """Return what is fastest on a processor with these instructions.

    VNNI multiplies four pairs of 8-bit numbers in the time of one pair of float32. AMX in bfloat16 is at least as fast
    as that and needs no rounding to 8 bits.
    """
    return "int8" if flags & {"avx512_vnni", "avx_vnni"} and "amx_bf16" not in flags else "float"
