"""Workers that a test kills, freezes and starts again, a fixed number of places for them."""

import os
import signal

from tests.e2e.nursery import Process
from tests.e2e.service import Service


class Crew:
    """Places for workers; each is empty, at work, or frozen."""

    def __init__(self, service: Service, places: int, **env: str) -> None:
        self._service = service
        self._env = env
        self._workers: list[Process | None] = [None] * places
        self._frozen: set[int] = set()
        self.fill()

    def fill(self) -> None:
        """Start a worker in every empty place, and wake the frozen ones."""
        for place in range(len(self._workers)):
            if self._workers[place] is None:
                self._workers[place] = self._service.start("fake", **self._env)
        for place in sorted(self._frozen):
            self.wake(place)

    def taken(self) -> list[int]:
        """Places with a worker, at work or frozen."""
        return [place for place, worker in enumerate(self._workers) if worker is not None]

    def frozen(self) -> list[int]:
        """Places whose worker is frozen."""
        return sorted(self._frozen)

    def awake(self) -> list[int]:
        """Places whose worker is at work."""
        return [place for place in self.taken() if place not in self._frozen]

    def empty(self) -> list[int]:
        """Places without a worker."""
        return [place for place, worker in enumerate(self._workers) if worker is None]

    def kill(self, place: int) -> None:
        """SIGKILL the worker of this place; the place is empty then."""
        worker = self._workers[place]
        assert worker is not None
        assert worker.poll() is None, f"a worker ended by itself\n{self._service.tails()}"
        self._service.kill(worker)
        self._workers[place] = None
        self._frozen.discard(place)

    def start(self, place: int) -> None:
        """A worker for this empty place."""
        assert self._workers[place] is None
        self._workers[place] = self._service.start("fake", **self._env)

    def freeze(self, place: int) -> None:
        """SIGSTOP the worker of this place."""
        worker = self._workers[place]
        assert worker is not None
        os.kill(worker.pid, signal.SIGSTOP)
        self._frozen.add(place)

    def wake(self, place: int) -> None:
        """SIGCONT the worker of this place."""
        worker = self._workers[place]
        assert worker is not None
        os.kill(worker.pid, signal.SIGCONT)
        self._frozen.discard(place)
