"""`Client.classify` over a clock that the test moves: few requests, and at the deadline all that is computed."""

import json
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import anyio
import httpx2
import pytest

from rubrika_client import AsyncClient, Classification, Client, aio, flows, sync

Run = Callable[..., list[Classification]]


class Clock:
    """Time passes where somebody waits, and only there."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.now += seconds


class Service:
    """Takes posts and has computed all of a request `seconds` after it came; it may hold who waits, or nobody."""

    def __init__(self, clock: Clock, seconds: float, *, holds: bool = True) -> None:
        self.clock, self.seconds, self.holds = clock, seconds, holds
        self.began: dict[str, float] = {}
        self.bodies: dict[str, bytes] = {}
        self.asked: list[tuple[str, float, int]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("POST", "/api/v1/classifications")
        key = request.headers["idempotency-key"]
        wait = int(request.headers.get("prefer", "wait=0").removeprefix("wait="))
        self.asked.append((key, self.clock.now, wait))
        there = self.began.setdefault(key, self.clock.now) + self.seconds
        assert self.bodies.setdefault(key, request.content) == request.content
        if self.holds:
            self.clock.now = max(self.clock.now, min(there, self.clock.now + wait))
        done = self.clock.now >= there
        items = json.loads(request.content)["items"]
        found = [text_of(key, number, post, done=done) for number, post in enumerate(items)]
        return httpx2.Response(200 if done else 202, json={"items": found})


def text_of(key: str, number: int, post: dict[str, Any], *, done: bool) -> dict[str, Any]:
    return {
        "id": f"{key}-{number}", "status": "succeeded" if done else "queued", "custom_id": None,
        "doc_text": post["doc_text"], "image2text": "", "speech2text": "", "model": None,
        "created_at": "2026-01-31T12:00:00.000Z", "finished_at": None, "truncated": False, "topics": [],
        "assigned": [], "error": None, "feedback": None, "explanation": None,
    }  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(flows, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(sync, "time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(aio, "anyio", SimpleNamespace(sleep=clock.sleep_async))
    return clock


def run_sync(service: Service, posts: list[str], **more: Any) -> list[Classification]:
    with Client("http://rubrika.test", transport=httpx2.MockTransport(service)) as client:
        return client.classify(posts, **more)


def run_async(service: Service, posts: list[str], **more: Any) -> list[Classification]:
    async def run() -> list[Classification]:
        async with AsyncClient("http://rubrika.test", transport=httpx2.MockTransport(service)) as client:
            return await client.classify(posts, **more)

    return anyio.run(run)


both = pytest.mark.parametrize("run", [run_sync, run_async], ids=["sync", "async"])


def posts_of(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@both
def test_a_thousand_posts_that_take_their_time_are_there_after_a_few_requests(clock: Clock, run: Run) -> None:
    service = Service(clock, 100)
    found = run(service, posts_of(1000), wait=150)
    assert [text.doc_text for text in found] == posts_of(1000)
    assert {text.status for text in found} == {"succeeded"}
    assert [wait for _, _, wait in service.asked] == [60, 60]
    assert clock.now == 100
    assert len({key for key, _, _ in service.asked}) == 1


@both
def test_what_is_computed_by_the_deadline_comes_back_so(clock: Clock, run: Run) -> None:
    service = Service(clock, 30.25)
    found = run(service, posts_of(3), wait=30.4, key="mine")
    assert {text.status for text in found} == {"succeeded"}
    assert [(key, wait) for key, _, wait in service.asked] == [("mine", 30), ("mine", 0)]
    assert service.asked[-1][1] == pytest.approx(30.4)
    late = Service(clock, 1000)
    assert {text.status for text in run(late, posts_of(3), wait=30)} == {"queued"}
    assert [wait for _, _, wait in late.asked] == [30]


@both
def test_every_part_is_asked_for_again_by_its_own_key(clock: Clock, run: Run) -> None:
    service = Service(clock, 80)
    found = run(service, posts_of(2500), wait=240, key="mine")
    assert [text.doc_text for text in found] == posts_of(2500)
    assert {text.status for text in found} == {"succeeded"}
    assert [key for key, _, _ in service.asked] == ["mine", "mine/1000", "mine/2000"] * 2


@both
def test_a_service_that_holds_nobody_is_asked_more_and_more_seldom(clock: Clock, run: Run) -> None:
    service = Service(clock, 29, holds=False)
    assert {text.status for text in run(service, posts_of(1000), wait=30)} == {"succeeded"}
    assert len(service.asked) < 15
    times = [when for _, when, _ in service.asked]
    assert min(after - before for before, after in pairwise(times)) >= 1
    assert times[-1] <= 30


@both
def test_who_does_not_wait_asks_once(clock: Clock, run: Run) -> None:
    service = Service(clock, 5)
    assert {text.status for text in run(service, posts_of(2), wait=0)} == {"queued"}
    assert [wait for _, _, wait in service.asked] == [0]
    assert clock.now == 0
