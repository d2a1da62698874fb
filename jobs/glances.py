"""Reads of Postgres that nobody waits for longer than a few seconds, for those who only ask how things are.

A server that is gone is noticed by the connection. One that holds it and says nothing (a stopped process, a disk that
hangs, a lock that is not given) is not, and whoever asks whether all is well must be told so all the same.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine

from jobs.database import run
from jobs.errors import UnavailableError

T = TypeVar("T")

PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class _Look:
    answer: Future[Any] = field(default_factory=Future)
    began: float = field(default_factory=time.monotonic)


class Glances:
    """Runs each step in a thread of its own, once at a time: who asks while one is looking is told what it finds.

    So a server that does not answer keeps one thread and one connection for each step, however often it is asked.
    Safe to share between threads.
    """

    def __init__(self, engine: Engine, seconds: float = PATIENCE_SECONDS) -> None:
        self._engine = engine
        self._seconds = seconds
        self._lock = threading.Lock()
        self._looks: dict[Callable[[Connection], Any], _Look] = {}

    def take(self, step: Callable[[Connection], T]) -> T:
        """What `step` returns within a transaction; it must be a function that stays, and only read.

        Raises `UnavailableError` when Postgres cannot be reached or has not answered `seconds` after the look began.
        """
        with self._lock:
            look = self._looks.get(step)
            if look is None or look.answer.done():
                look = self._looks[step] = _Look()
                threading.Thread(target=self._look, args=(step, look.answer), name="glance", daemon=True).start()
        try:
            return cast(T, look.answer.result(max(0.0, look.began + self._seconds - time.monotonic())))
        except TimeoutError as error:
            raise UnavailableError(f"The database has not answered for {self._seconds:.0f} seconds.") from error

    def _look(self, step: Callable[[Connection], Any], answer: Future[Any]) -> None:
        try:
            answer.set_result(run(self._engine, step))
        except BaseException as error:
            answer.set_exception(error)
