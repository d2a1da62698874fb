"""Small helpers that tests of every kind share."""

import os
import re
import signal
import socket
import threading
import tracemalloc
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


def chapter(text: str, heading: str) -> str:
    """The chapter of a document in Markdown that has this heading, up to the next of its rank."""
    [found] = re.findall(rf"^## {heading}$.*?(?=^## )", text, flags=re.DOTALL | re.MULTILINE)
    return str(found)


def code_blocks(text: str, language: str) -> list[str]:
    """What stands in the blocks of code of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def environment_outside() -> dict[str, str]:
    """The environment without any setting: what the caller has set must not reach the processes of a test."""
    ours = ("RUBRIKA_", "DATABASE_", "REDIS_", "OTEL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def memory_of(action: Callable[[], T]) -> tuple[T, int]:
    """What an action returns, and the most bytes that Python's own objects of this process took meanwhile.

    The peak of a process (`ru_maxrss`) would say what the largest test so far has taken; that of a child, what its
    parent had when it was started.
    """
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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
