"""One file per way to run the network, and what they have in common."""

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt


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
