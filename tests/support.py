"""Small helpers that tests of every kind share."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, what: str = "the condition", every: float = 0.02
) -> T:
    """Ask again and again until the answer is true, and return it.

    Raises `AssertionError` naming `what` when `timeout` seconds have passed; the last answer is part of the message.
    """
    pause = threading.Event()
    deadline = monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; the last answer was {answer!r}")
        pause.wait(every)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def sigterm_is_sent() -> Iterator[None]:
    """Fail unless this process is told to end within the block, and go on all the same."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield
        assert told.wait(5)
    finally:
        signal.signal(signal.SIGTERM, before)
