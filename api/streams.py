"""Places for streams of server-sent events, and one look at a job for all who watch it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

LOOK_SECONDS = 0.5
"""A stream says at most one thing in so many seconds."""

_FRESH_SECONDS = 0.4
"""A look that another stream has made so lately is good enough: many watch one job at the cost of one."""


@dataclass(frozen=True)
class Look:
    """What was seen of a job: its JSON, a tag that changes with it, and whether it will never change again."""

    body: bytes
    tag: str
    is_over: bool


@dataclass
class _Watched:
    lock: threading.Lock = field(default_factory=threading.Lock)
    listeners: int = 0
    looked_at: float = float("-inf")
    seen: Look | None = None


class Streams:
    """The streams of this process. Each occupies a thread, so there are `limit` at most. Safe to share.

    `on_change` is told how many there are whenever that changes.
    """

    def __init__(self, limit: int, on_change: Callable[[int], None] = lambda _count: None) -> None:
        self._limit = limit
        self._on_change = on_change
        self._lock = threading.Lock()
        self._watched: dict[UUID, _Watched] = {}
        self._stopping = threading.Event()

    def enter(self, job_id: UUID) -> bool:
        """Take a place; False when there is none. Who gets one gives it back with `leave`."""
        with self._lock:
            if self._stopping.is_set() or self.count() >= self._limit:
                return False
            self._watched.setdefault(job_id, _Watched()).listeners += 1
            self._on_change(self.count())
            return True

    def leave(self, job_id: UUID) -> None:
        """Give a place back."""
        with self._lock:
            watched = self._watched[job_id]
            watched.listeners -= 1
            if not watched.listeners:
                del self._watched[job_id]
            self._on_change(self.count())

    def count(self) -> int:
        """How many streams there are."""
        return sum(watched.listeners for watched in self._watched.values())

    def look(self, job_id: UUID, read: Callable[[], Look]) -> Look:
        """What a job is now, by `read` unless somebody else has just read it. Only for those who hold a place."""
        watched = self._watched[job_id]
        with watched.lock:
            if watched.seen is None or time.monotonic() - watched.looked_at > _FRESH_SECONDS:
                watched.seen = read()
                watched.looked_at = time.monotonic()
            return watched.seen

    def pause(self) -> bool:
        """Wait until it is time for the next look; False when the process is to end, at once."""
        return not self._stopping.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """End all streams: a server that is told to stop waits for no reader."""
        self._stopping.set()
