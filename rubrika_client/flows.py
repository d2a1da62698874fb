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
from uuid import uuid4

from rubrika_client import calls
from rubrika_client.calls import Call
from rubrika_client.errors import KINDS, BadAnswerError, NoAnswerError, ProblemError, ServiceError
from rubrika_client.resources import Classification, Job, Post

T = TypeVar("T")

AGAIN = frozenset({408, 429, 502, 503, 504})
"""Statuses that go away."""

UNHEARD = frozenset({502, 504})
"""Those of them that come from something in between: the service may have done what was asked."""

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
    """The connection could not be made, or broke after the request was `sent`, at least in part."""

    reason: str
    sent: bool = True


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
    first: float = 1.0
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
    attempt, may_be_done = 0, False
    while True:
        attempt += 1
        answer = yield call
        error = failure(answer, call)
        if error is None:
            return call.read(_json(answer))
        if may_be_done and call.removes and isinstance(error, ProblemError) and error.code == "not_found":
            return call.read(None)
        may_be_done |= answer.sent if isinstance(answer, Lost) else answer.status in UNHEARD
        seconds = retry.pause(attempt, error) if passes(error, call) else None
        if seconds is None:
            raise error
        yield Pause(seconds)


def failure(answer: Answer | Lost, call: Call[Any]) -> ServiceError | None:
    """What is wrong with this answer; None for nothing."""
    if isinstance(answer, Lost):
        return NoAnswerError(answer.reason)
    if 200 <= answer.status < 300 or answer.status in call.also:
        return _of_another_type(answer, call)
    if answer.status < 400:
        place = answer.headers.get("location", "nowhere")
        return BadAnswerError(f"The server answers {answer.status} and points to {place}: is Rubrika at that address?")
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
        return isinstance(error, NoAnswerError)
    # The service is still at work on an earlier attempt: what that gives will be the answer.
    in_flight = error.code == "key_in_flight" and calls.IDEMPOTENCY_KEY in call.headers
    return error.status in AGAIN or in_flight


@dataclass
class _Part:
    """Posts that go in one request, what is known of them, and when it was asked for and came."""

    posts: Sequence[Post]
    key: str
    texts: tuple[Classification, ...] = ()
    asked: float = 0.0
    answered: float = 0.0

    @property
    def is_finished(self) -> bool:
        return all(text.is_finished for text in self.texts)


def classify(posts: Sequence[Post], wait: float, explain: bool, key: str | None, retry: Retry) -> Flow[
    tuple[Classification, ...]
]:  # fmt: skip
    """Post all of them, a thousand at a time, and again what is not computed yet until `wait` seconds are over.

    The same request under the same key gives what has become of all its posts. Of posts that ask for explanations a
    request takes fewer.
    """
    deadline = time.monotonic() + wait
    named = key or str(uuid4())
    at_once = EXPLAINED if explain else ITEMS
    starts = range(0, len(posts), at_once)
    parts = [_Part(posts[start : start + at_once], f"{named}/{start}" if start else named) for start in starts]
    for part in parts:
        calls.keyed(part.key)  # Before anything is sent.

    def post(part: _Part) -> Flow[None]:
        part.asked = time.monotonic()
        left = max(deadline - part.asked, 0.0)
        part.texts = yield from ask(calls.classify(part.posts, wait=left, explain=explain, key=part.key), retry)
        part.answered = time.monotonic()

    for part in parts:
        yield from post(part)
    for part in parts:
        apart = 1.0
        while not part.is_finished and part.answered < deadline:
            now = time.monotonic()
            left = max(deadline - now, 0.0)
            # A service that holds nobody just now answers at once. It holds for whole seconds, so the last one is ours.
            pause = left if left < 1 else min(part.asked + apart - now, left)
            if pause > 0:
                yield Pause(pause)
            apart = min(apart * 1.5, 5.0)
            yield from post(part)
    return tuple(text for part in parts for text in part.texts)


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


def _of_another_type(answer: Answer, call: Call[Any]) -> BadAnswerError | None:
    """What is wrong with an answer that is of no use for this call; None for nothing."""
    found = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if call.media_type in {None, found}:
        return None
    return BadAnswerError(f"The answer is {found or 'of no type'} instead of {call.media_type}: is this Rubrika?")


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
