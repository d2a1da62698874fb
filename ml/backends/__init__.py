"""One file per way to run the network, and what they have in common."""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ml.batches import Batching, Ids
from ml.errors import MemoryShortError

Arithmetic = Literal["auto", "float", "float32", "bfloat16", "int8", "int8-static"]
"""`float` leaves the choice between float32 and bfloat16 to the backend, `auto` that of int8 as well. In `int8` each
stretch of a text has a scale of its own, in `int8-static` all texts the ranges that the model folder has."""

Logits = npt.NDArray[np.float32]
"""(texts, topics), before calibration."""

Pending = Callable[[], Logits]
"""Waits for a batch that was begun and returns what came out; called once, from any thread."""


class Backend(Protocol):
    """A network that is loaded and ready. Threads may share one: those that meet wait for each other."""

    @property
    def description(self) -> str:
        """What runs the network, in a few words for a log."""
        ...

    @property
    def batching(self) -> Batching:
        """The batches that suit it."""
        ...

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Begin to compute a batch, of any size and at least one text.

        Raises, here or when the result is waited for:
            MemoryShortError: a smaller batch may fit.
            DeviceLostError: nothing will be computed any more.
        """
        ...

    def warm_up(self) -> None:
        """Make what is made on first use; `batching` may have smaller batches afterwards.

        Raises:
            BackendError: it is known by now that nothing can be computed.
        """
        ...


SHORT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "allocate memory", "out of memory")
"""Of which one stands in the words of a library for processors that did not get the memory it asked for."""

T = TypeVar("T")


def told_of_memory(step: Callable[[], T]) -> T:
    """Return what `step` returns; what a library says of missing memory in words alone becomes a `MemoryShortError`."""
    try:
        return step()
    except Exception as error:
        said = str(error)
        if not any(words in said.lower() for words in SHORT_OF_MEMORY):
            raise
    # Not sooner: until the error is forgotten, what it has interrupted holds its memory.
    raise MemoryShortError(f"The memory does not suffice: {said}")


def at_once(logits: Logits) -> Pending:
    """Return the result of a backend that computes when it is asked to start."""
    return lambda: logits


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


AHEAD = 1
"""On a CPU so many batches wait for the next stream that is free, which would stand still while the worker looks around
between two batches."""

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Instructions that multiply and add 8-bit numbers in one step, as Linux spells them."""

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
"""Instructions that multiply numbers of bfloat16."""


_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


@cache
def tiles_are_allowed() -> bool:
    """Ask the kernel of the system for the registers of AMX, for this process and what it starts."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    # Linux 5.16 and later; glibc has no function for it.
    granted: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return granted == 0


@cache
def processor_flags() -> frozenset[str]:
    """Return the names of the instruction sets that this process may use, as Linux spells them; empty where it does not
    tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return usable(frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split()))


def usable(flags: frozenset[str]) -> frozenset[str]:
    """Return those of a processor's instruction sets that the system lets this process use."""
    tiles = frozenset(flag for flag in flags if flag.startswith("amx_"))
    return flags if not tiles or tiles_are_allowed() else flags - tiles


def fastest_arithmetic(flags: frozenset[str], ranges_agree: bool = False) -> Arithmetic:
    """Return what is fastest in OpenVINO on a processor with these instructions, and exact enough.

    Args:
        flags: as `processor_flags` returns them.
        ranges_agree: whether the model has fixed ranges and was found to agree with float32 within them.

    VNNI multiplies four pairs of 8-bit numbers in the time of one pair of float32. With AMX OpenVINO
    is as fast in bfloat16 as in 8 bits, and need not round to these.
    """
    if not flags & VNNI or "amx_bf16" in flags:
        return "float"
    return "int8-static" if ranges_agree else "int8"


def suits_amx(flags: frozenset[str]) -> bool:
    """Say whether our own kernels in bfloat16 are fastest on a processor with these instructions."""
    return {"amx_tile", "amx_bf16"} <= flags


def suits_bytes(flags: frozenset[str]) -> bool:
    """Say whether our own kernels in 8 bits are to compute, where fixed ranges are exact enough.

    AVX2 and AVX-512 multiply and add pairs of 8-bit numbers without VNNI too, in three steps instead of one. OpenVINO
    knows `avx_vnni`, which our kernels do not.
    """
    if suits_amx(flags):
        return "amx_int8" in flags
    return "avx512_vnni" in flags or ("avx2" in flags and not flags & VNNI)


def adds_in_pairs(flags: frozenset[str]) -> bool:
    """Say whether a processor with these instructions adds two products of 8-bit numbers in 16 bits, where they may
    overflow: those of x86 without VNNI and without AMX do."""
    return "sse2" in flags and not flags & (VNNI | {"amx_int8"})


def suits_onnxruntime(flags: frozenset[str]) -> bool:
    """Say whether 8 bits in fixed ranges are faster by ONNX Runtime than by OpenVINO, with these instructions.

    AVX2 multiplies and adds pairs of 8-bit numbers without VNNI too, in three steps instead of one. OpenVINO makes no
    use of that, and is no faster in 8 bits than in float32.
    """
    return "avx2" in flags and not flags & (VNNI | {"avx512f"})
