"""What several requests make together: trying again, waiting, asking until it is done. Written once, without a network.

A flow is a generator. It yields a `Call` to have it sent and is given the `Answer`, or a `Lost` connection; it yields a
`Pause` to have the time pass. `rubrika_client.sync` and `rubrika_client.aio` run flows, each in its own way.
"""

import json
import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rubrika_client import calls
from rubrika_client.calls import Call
from rubrika_client.errors import KINDS, BadAnswerError, NoAnswerError, ProblemError, ServiceError
from rubrika_client.resources import Classification, Job, Post

T = TypeVar("T")

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that go away."""

ITEMS = 1000
"""As many posts as the service takes in one request, unless its operator has chosen otherwise."""

EXPLAINED = 50
"""As many of them as may ask for an explanation, unless its operator has chosen otherwise."""


@dataclass(frozen=True)
class Answer:
    """What came back. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Lost:
    """The connection could not be made, or broke."""

    reason: str


@dataclass(frozen=True)
class Pause:
    """Seconds to let pass."""

    seconds: float


Flow = Generator[Call[Any] | Pause, Any, T]


@dataclass(frozen=True)
class Retry:
    """How often, and after which time, a request is tried again.

    Everything may be repeated: what makes something new carries an `Idempotency-Key`. The pauses double from `first` to
    `longest` seconds, each taken at random from its upper half, so that many clients do not come back at once; a
    `Retry-After` of the service is kept to, and one beyond `patience` seconds is an error at once.

    Attributes:
        attempts: at most, the first included.
        notify: called before each pause, with what was wrong and the seconds.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    patience: float = 120.0
    notify: Callable[[ServiceError, float], object] | None = None

    def pause(self, attempt: int, error: ServiceError) -> float | None:
        """Seconds before the attempt after this one (from 1); None when it was the last one."""
        asked = error.retry_after if isinstance(error, ProblemError) else None
        if attempt >= self.attempts or (asked or 0.0) > self.patience:
            return None
        usual = min(self.first * 2.0 ** (attempt - 1), self.longest)
        seconds = max(usual * random.uniform(0.5, 1.0), asked or 0.0)
        if self.notify is not None:
            self.notify(error, seconds)
        return seconds


def ask(call: Call[T], retry: Retry) -> Flow[T]:
    """Send one request until it is answered, or there is no sense in trying again.

    Raises `ProblemError` and its kinds for a refusal, `NoAnswerError` when the last attempt had none.
    """
    attempt = 0
    while True:
        attempt += 1
        answer = yield call
        error = failure(answer, call)
        if error is None:
            return call.read(_json(answer))
        seconds = retry.pause(attempt, error) if passes(error, call) else None
        if seconds is None:
            raise error
        yield Pause(seconds)


def failure(answer: Answer | Lost, call: Call[Any]) -> ServiceError | None:
    """What is wrong with this answer; None for nothing."""
    if isinstance(answer, Lost):
        return NoAnswerError(answer.reason)
    if answer.status < 400 or answer.status in call.also:
        return None
    try:
        problem = json.loads(answer.body)
        status, code, detail = answer.status, str(problem["code"]), str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        status, code, problem = answer.status, "", {}
        detail = f"The server answers {status} without saying why."
    more = {name: problem[name] for name in ("line", "byte", "column", "columns") if problem.get(name) is not None}
    retry_after = _seconds(answer.headers.get("retry-after"))
    return KINDS.get(status, ProblemError)(status, code, detail, problem.get("errors") or (), retry_after, more)


def pause_after(answer: Answer | Lost, call: Call[Any], attempt: int, retry: Retry) -> float:
    """Seconds before a stream that has broken like this is begun again. Raises what is wrong when there is no sense."""
    error = failure(answer, call) or NoAnswerError("The stream ended early.")
    seconds = retry.pause(attempt, error) if passes(error, call) else None
    if seconds is None:
        raise error
    return seconds


def passes(error: ServiceError, call: Call[Any]) -> bool:
    """Whether the same request may be answered otherwise a little later."""
    if not isinstance(error, ProblemError):
        return True
    return error.status in AGAIN or (error.status == 409 and call.repeats_on_conflict)


def classify(posts: Sequence[Post], wait: float, explain: bool, key: str | None, retry: Retry) -> Flow[
    tuple[Classification, ...]
]:  # fmt: skip
    """Post all of them, a thousand at a time, and ask for what is not computed yet until `wait` seconds are over.

    Of posts that ask for explanations a request takes fewer.
    """
    deadline = time.monotonic() + wait
    done: list[Classification] = []
    at_once = EXPLAINED if explain else ITEMS
    for start in range(0, len(posts), at_once):
        part_key = f"{key}/{start}" if key is not None and start else key
        left = max(deadline - time.monotonic(), 0.0)
        part = posts[start : start + at_once]
        done += yield from ask(calls.classify(part, wait=left, explain=explain, key=part_key), retry)
    for place, text in enumerate(done):
        pause = 0.2
        while not done[place].is_finished and time.monotonic() + pause < deadline:
            yield Pause(pause)
            pause = min(pause * 1.5, 5.0)
            done[place] = yield from ask(calls.classification(text.id), retry)
    return tuple(done)


def wait(job: str, timeout: float | None, progress: Callable[[Job], object] | None, retry: Retry) -> Flow[Job]:
    """Ask for a job until it is finished, more and more seldom. Raises `TimeoutError` after `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.25
    while True:
        found = yield from ask(calls.job(job), retry)
        if progress is not None:
            progress(found)
        if found.is_finished:
            return found
        if deadline is not None and time.monotonic() + pause > deadline:
            raise TimeoutError(f"The job {job} is {found.status} after {timeout:g} seconds.")
        yield Pause(pause)
        pause = min(pause * 1.5, 3.0)


def as_posts(texts: "str | Post | Sequence[str | Post]") -> list[Post]:
    """Texts and posts, one or many, as posts."""
    several = [texts] if isinstance(texts, (str, Post)) else texts
    return [Post(text) if isinstance(text, str) else text for text in several]


def _json(answer: Answer) -> Any:
    if not answer.body:
        return None
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise BadAnswerError("The answer is not JSON: is this the address of Rubrika?") from error


def _seconds(text: str | None) -> float | None:
    """Of a `Retry-After` in seconds; the service sends no dates."""
    try:
        return None if text is None else max(float(text), 0.0)
    except ValueError:
        return None
