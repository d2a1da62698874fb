"""Weighs processes again and again while they work."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.e2e.soak.memory import Sample

EVERY_SECONDS = 2.0

Weigh = Callable[[], dict[str, float]]
"""The bytes of each process, by its name; those that are not there at the moment are left out."""


def resident(name: str, pid: int) -> dict[str, float]:
    """The resident set of a process and of each of its children."""
    found: dict[str, float] = {}
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        found[f"{name} ({pid})"] = float(process.memory_info().rss)
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                found[f"{name}, child ({child.pid})"] = float(child.memory_info().rss)
    return found


def private(name: str, pid: int) -> dict[str, float]:
    """What a process and its children hold for themselves, together.

    Pages of shared mappings are left out, however few processes have touched them: the buffers of Postgres fill with
    the database, and the kernel calls a page private that one process alone has touched so far.
    """
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += sum(
                    part.private_clean + part.private_dirty
                    for part in one.memory_maps(grouped=False)
                    if not part.perms.endswith("s")
                )
    return {name: total}


class Scales:
    """Weighs in a thread of its own until it is stopped."""

    def __init__(self, weigh: Weigh) -> None:
        self._weigh = weigh
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._work)
        self.samples: dict[str, list[Sample]] = {}
        self._thread.start()

    def _work(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            now = time.monotonic() - self._began
            for name, size in self._weigh().items():
                self.samples.setdefault(name, []).append((now, size))

    def stop(self) -> None:
        """Weigh no more."""
        self._stopping.set()
        self._thread.join()
