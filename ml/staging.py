"""Numbers to a device and back without making it wait: pinned buffers, and a stream for copies beside that of the
network. On a CPU nothing is copied."""

from collections import deque
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SLOTS = 4
"""Buffers on the way to the device at a time."""


class Staging:
    """Copies for one device. `send` and `fetch` are called by one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._slots: deque[_Slot] = deque()
        self._copying: Any = None
        if device.type == "cuda":
            self._slots.extend(_Slot() for _ in range(SLOTS))
            self._copying = torch.cuda.Stream(device)

    def send(self, numbers: npt.NDArray[np.int32]) -> Tensor:
        """Return int32 `numbers` on the device; what the current stream does from now on finds them there."""
        if self._copying is None:
            return cast(Tensor, torch.from_numpy(numbers))
        slot = self._slots[0]
        self._slots.rotate(-1)
        host = slot.filled(numbers)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copying):
            sent = host.to(self._device, non_blocking=True)
            slot.left.record(self._copying)
        computing.wait_event(slot.left)
        # It was allocated on the stream of copies: its memory must not go to the next copy before it has been read.
        sent.record_stream(computing)
        return cast(Tensor, sent)

    def fetch(self, values: Tensor) -> Callable[[], npt.NDArray[np.float32]]:
        """Begin to copy float32 `values` to the host; the call of what is returned waits for them."""
        if self._copying is None:
            return lambda: cast(npt.NDArray[np.float32], values.numpy())
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(self._device))

        def wait() -> npt.NDArray[np.float32]:
            arrived.synchronize()
            return cast(npt.NDArray[np.float32], host.numpy())

        return wait


class _Slot:
    """A pinned buffer, and the event that what it held has left it."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.int32)
        self.left = torch.cuda.Event()

    def filled(self, numbers: npt.NDArray[np.int32]) -> Tensor:
        self.left.synchronize()
        if len(self._buffer) < len(numbers):
            self._buffer = torch.empty(2 * len(numbers), dtype=torch.int32, pin_memory=True)
        host = self._buffer[: len(numbers)]
        host.copy_(torch.from_numpy(numbers))
        return cast(Tensor, host)
