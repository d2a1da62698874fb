"""What the claims of this worker have cost since it last recorded one. It goes into the sums with the next record."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobs.meters import Meter
from ml.running import Effort


class Spent:
    """Sums by their names. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._amounts: dict[str, float] = {}

    def add(self, meter: Meter, amount: float) -> None:
        """Add to one sum."""
        self.put_back({meter: amount})

    @contextmanager
    def timed(self, meter: Meter) -> Iterator[None]:
        """Add the seconds of the block, however it ends."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(meter, time.monotonic() - started)

    def add_effort(self, effort: Effort) -> None:
        """Add what the network had to do."""
        self.put_back(
            {
                Meter.BATCHES: effort.batches,
                Meter.TOKENS: effort.tokens,
                Meter.PADDING: effort.padding,
                Meter.NETWORK_SECONDS: effort.seconds,
            }
        )

    def take(self) -> dict[str, float]:
        """Everything so far; the sums begin anew."""
        with self._lock:
            taken, self._amounts = self._amounts, {}
        return taken

    def put_back(self, amounts: Mapping[str, float]) -> None:
        """Add what was taken and could not be recorded."""
        with self._lock:
            for name, amount in amounts.items():
                self._amounts[name] = self._amounts.get(name, 0.0) + amount
