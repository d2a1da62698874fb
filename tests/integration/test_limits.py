"""Limits: how often one may come, how much may wait, how many threads a key may hold; also while Redis is away."""

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from api.app import create_app
from api.guard import STRANGER_BYTES
from jobs import accepting
from jobs.limiting import Limiter
from jobs.records import NewJob
from jobs.settings import Settings
from jobs.states import JobKind, Lane
from jobs.waiting import TooManyWaitingError, Waiting
from local.valkey import EmbeddedValkey
from tests.e2e.chaos import Proxy
from tests.integration.api_support import CSV, V1, Worker, assert_problem
from tests.integration.keys_support import OWN_PAGE, SECRET, Keyed, new_key
from tests.integration.store_support import posts
from tests.support import wait_until

NOWHERE = "redis://127.0.0.1:1/0"
FAR_TOO_LONG = 20.0
"""Seconds. Half a second of silence is enough to take Redis for away; a busy machine may make some more of it."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(
        settings, auth="keys", secret_key=SECRET, max_requests_per_minute=30, max_waiting_rows=10, max_held_requests=1
    )


@pytest.fixture
def limiter(settings: Settings) -> Iterator[Limiter]:
    made = Limiter(settings.redis_url)
    yield made
    made.close()


# --- the bucket -----------------------------------------------------------------------------------------------------


def test_twenty_threads_get_what_the_bucket_holds_and_no_more(limiter: Limiter, settings: Settings) -> None:
    other = Limiter(settings.redis_url)  # Of another process.
    began = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        takes = [threads.submit((limiter, other)[n % 2].take, "anna", 60) for n in range(400)]
    allowed = sum(take.result().allowed for take in takes)
    # One comes back each second.
    assert 60 <= allowed <= 60 + ceil(time.monotonic() - began)
    other.close()


def test_a_bucket_says_how_it_stands(limiter: Limiter) -> None:
    first = limiter.take("anna", 60)
    assert (first.allowed, first.most, first.left, first.retry_after) == (True, 60, 59, 0.0)
    assert 0.9 < first.full_after <= 1.0
    while (last := limiter.take("anna", 60)).allowed:
        assert last.left < 60
    assert (last.left, last.most) == (0, 60)
    assert 0 < last.retry_after <= 1.0
    assert 58 < last.full_after <= 60
    assert limiter.take("boris", 60).allowed


def test_what_is_kept_in_redis_goes_by_itself(limiter: Limiter) -> None:
    limiter.take("anna", 60)
    client = limiter._redis
    assert list(client.scan_iter("rubrika:limit:*")) == ["rubrika:limit:anna"]
    assert 0 < client.pttl("rubrika:limit:anna") <= 1001


def test_without_redis_each_process_counts_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    limiter = Limiter(NOWHERE, processes=2, clock=lambda: now[0])
    assert [limiter.take("anna", 60).allowed for _ in range(31)] == [True] * 30 + [False]
    refused = limiter.take("anna", 60)
    assert (refused.most, refused.left) == (30, 0)
    assert refused.retry_after == pytest.approx(2.0)
    now[0] += refused.retry_after
    assert limiter.take("anna", 60).allowed
    assert not limiter.take("anna", 60).allowed
    assert limiter.take("boris", 60).left == 29
    now[0] += 60
    assert limiter.take("anna", 60).left == 29
    limiter.close()


def test_only_one_caller_a_second_finds_out_that_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    limiter = Limiter(NOWHERE, clock=lambda: now[0])
    for _ in range(10):
        limiter.take("anna", 60)
    assert len(caplog.records) == 1
    now[0] += 1.5
    limiter.take("anna", 60)
    assert len(caplog.records) == 2
    limiter.close()


def test_buckets_that_are_full_again_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.limiting._MOST_LOCAL", 100)
    now = [100.0]
    limiter = Limiter(NOWHERE, clock=lambda: now[0])
    for n in range(1000):
        limiter.take(f"address:{n}", 60)
        now[0] += 0.5
    assert len(limiter._full_at) <= 102
    limiter.close()


@pytest.fixture
def proxy(open_folder: Path) -> Iterator[Proxy]:
    """A network in front of a Redis of the test's own, which can be lost."""
    server = EmbeddedValkey(open_folder)
    server.start()
    made = Proxy(Path(server.url.removeprefix("redis+socket://")))
    yield made
    made.close()
    server.stop()


def test_a_redis_that_falls_silent_holds_nobody_up(settings: Settings, engine: Engine, proxy: Proxy) -> None:
    """The connection stays, and nothing comes over it any more."""
    app = create_app(
        replace(settings, redis_url=f"redis://127.0.0.1:{proxy.port}/0", max_requests_per_minute=1000, api_processes=2)
    )
    anna = Keyed(app.test_client(), new_key(engine, "anna"))
    assert "q=1000;" in anna.get(f"{V1}/session").headers["RateLimit-Policy"]
    proxy.lose()
    for _ in range(3):
        began = time.monotonic()
        answer = anna.get(f"{V1}/session")
        assert time.monotonic() - began < FAR_TOO_LONG
        assert answer.status_code == 200
        assert "q=500;" in answer.headers["RateLimit-Policy"], "counted in this process, which has its share"
    app.extensions["rubrika"].close()


def test_redis_is_stopped_under_load_and_nobody_notices(open_folder: Path) -> None:
    server = EmbeddedValkey(open_folder)
    server.start()
    limiter = Limiter(server.url)
    stopping, taken, longest = threading.Event(), [0] * 8, [0.0] * 8

    def load(n: int) -> None:
        while not stopping.is_set():
            began = time.monotonic()
            assert limiter.take(f"anna {n}", 10**6).allowed
            longest[n] = max(longest[n], time.monotonic() - began)
            taken[n] += 1

    with ThreadPoolExecutor(8) as threads:
        loads = [threads.submit(load, n) for n in range(8)]
        wait_until(lambda: min(taken) > 50, what="load on Redis")
        server.stop()
        before = list(taken)
        wait_until(lambda: all(now > then + 1000 for now, then in zip(taken, before, strict=True)), what="load without")
        server.start()
        wait_until(lambda: limiter._redis.exists("rubrika:limit:anna 0"), 20, what="buckets in Redis again")
        stopping.set()
    for done in loads:
        done.result()
    assert max(longest) < FAR_TOO_LONG
    limiter.close()
    server.stop()


# --- requests -------------------------------------------------------------------------------------------------------


def test_one_request_too_many_is_429_and_says_when_to_come_again(anna: Keyed, boris: Keyed) -> None:
    first = anna.get(f"{V1}/jobs")
    assert first.headers["RateLimit-Policy"] == '"minute";q=30;w=60'
    assert first.headers["RateLimit"] == '"minute";r=29;t=2'
    answers = [anna.get(f"{V1}/jobs") for _ in range(40)]
    refused = answers[-1]
    assert_problem(refused, 429, "too_many_requests")
    assert 1 <= int(refused.headers["Retry-After"]) <= 2
    assert refused.headers["RateLimit"].startswith('"minute";r=0;')
    assert boris.get(f"{V1}/jobs").status_code == 200
    assert anna.get("/files").status_code == 200, "the page itself is not counted"


def test_while_one_is_missing_it_is_not_full_now(settings: Settings, engine: Engine) -> None:
    key = new_key(engine, "anna")
    for redis_url in (settings.redis_url, NOWHERE):
        app = create_app(replace(settings, max_requests_per_minute=3000, redis_url=redis_url, api_processes=1))
        answer = Keyed(app.test_client(), key).get(f"{V1}/session")
        assert answer.headers["RateLimit"] == '"minute";r=2999;t=1'
        app.extensions["rubrika"].close()


def test_twenty_threads_of_one_key(app: Any, engine: Engine) -> None:
    key = new_key(engine, "anna")
    began = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(lambda _: Keyed(app.test_client(), key).get(f"{V1}/session").status_code, range(100)))
    assert set(found) == {200, 429}
    assert 30 <= found.count(200) <= 30 + ceil((time.monotonic() - began) / 2)


def test_requests_go_on_without_redis_and_are_counted_all_the_same(settings: Settings, engine: Engine) -> None:
    app = create_app(replace(settings, redis_url=NOWHERE, api_processes=1))
    anna = Keyed(app.test_client(), new_key(engine, "anna"))
    found = [anna.get(f"{V1}/jobs").status_code for _ in range(40)]
    assert found[:30] == [200] * 30
    assert 429 in found[30:]
    app.extensions["rubrika"].close()


def test_zero_is_no_limit(settings: Settings, engine: Engine) -> None:
    app = create_app(replace(settings, max_requests_per_minute=0))
    anna = Keyed(app.test_client(), new_key(engine, "anna"))
    answers = [anna.get(f"{V1}/session") for _ in range(50)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers
    limits = {"requests_per_minute": None, "waiting_rows": 10, "waiting_explanations": 1000}
    assert answers[0].get_json()["limits"] == limits
    app.extensions["rubrika"].close()


def test_somebody_without_a_key_may_send_one_and_not_much_more(app: Any) -> None:
    client = app.test_client()
    for length, status in ((STRANGER_BYTES, 401), (STRANGER_BYTES + 1, 413)):
        body = b'{"key": "x"}'.ljust(length)
        answer = client.post(f"{V1}/session", data=body, content_type="application/json", headers=OWN_PAGE)
        assert answer.status_code == status


# --- waiting rows ---------------------------------------------------------------------------------------------------


def file_of(rows: int) -> dict[str, Any]:
    return {"data": ("text\n" + "".join(f"пост {n}\n" for n in range(rows))).encode(), "content_type": "text/csv"}


def test_more_rows_than_may_wait_are_429_until_there_is_room(anna: Keyed, boris: Keyed, worker: Worker) -> None:
    assert anna.post(f"{V1}/jobs", **file_of(8)).status_code == 202
    refused = anna.post(f"{V1}/jobs", **file_of(3))
    assert_problem(refused, 429, "too_many_waiting_rows")
    assert refused.headers["Retry-After"] == "30"
    assert len(anna.get(f"{V1}/jobs").get_json()["items"]) == 1, "nothing of it is stored"
    assert boris.post(f"{V1}/jobs", **file_of(10)).status_code == 202
    worker.work()
    assert anna.post(f"{V1}/jobs", **file_of(10)).status_code == 202


def test_texts_are_counted_as_they_come(anna: Keyed) -> None:
    many = {"items": [{"text": f"пост {n}"} for n in range(6)]}
    assert anna.post(f"{V1}/classifications", json=many).status_code == 202
    assert_problem(anna.post(f"{V1}/classifications", json=many), 429, "too_many_waiting_rows")
    for _ in range(4):
        assert anna.post(f"{V1}/classifications", json={"text": "а"}).status_code == 202
    assert_problem(anna.post(f"{V1}/classifications", json={"text": "а"}), 429, "too_many_waiting_rows")


def test_what_is_computed_again_waits_too(anna: Keyed, worker: Worker) -> None:
    job = anna.post(f"{V1}/jobs", **file_of(8)).get_json()["id"]
    worker.work()
    assert anna.post(f"{V1}/jobs/{job}/rerun").status_code == 202
    assert_problem(anna.post(f"{V1}/jobs/{job}/rerun"), 429, "too_many_waiting_rows")


def test_a_repeated_request_is_not_refused_for_what_it_has_added_itself(anna: Keyed, worker: Worker) -> None:
    once = {"headers": {"Idempotency-Key": "once"}}
    first = anna.post(f"{V1}/jobs", **file_of(9), **once)
    again = anna.post(f"{V1}/jobs", **file_of(9), **once)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json()["id"] == again.get_json()["id"]


def test_a_repeated_text_is_not_refused_either(anna: Keyed) -> None:
    many = {"items": [{"text": f"пост {n}"} for n in range(10)]}
    once = {"headers": {"Idempotency-Key": "once"}}
    first = anna.post(f"{V1}/classifications", json=many, **once)
    again = anna.post(f"{V1}/classifications", json=many, **once)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.get_json() == again.get_json()
    other = anna.post(f"{V1}/classifications", json={"text": "а"}, **once)
    assert_problem(other, 422, "idempotency_mismatch")
    assert_problem(anna.post(f"{V1}/classifications", json={"text": "а"}), 429, "too_many_waiting_rows")


def test_of_two_files_that_come_at_once_one_is_refused(engine: Engine, model: int) -> None:
    def add(_: int) -> bool:
        job = NewJob("anna", JobKind.FILE, "posts.csv", {"columns": ["text"]}, max_waiting=10)
        try:
            accepting.add_job(engine, job, posts(6), lane=Lane.BULK, chunk_rows=4)
        except TooManyWaitingError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(add, range(6))) == 1


def test_the_count_is_asked_for_once_a_second(engine: Engine) -> None:
    now = [0.0]
    waiting = Waiting(engine, 10, clock=lambda: now[0])
    waiting.require_room("anna", 10)
    with pytest.raises(TooManyWaitingError):
        waiting.require_room("anna", 1)
    waiting.require_room("boris", 10)
    now[0] += 1.5  # Nothing of it was stored, as the next look shows.
    waiting.require_room("anna", 10)


# --- held requests --------------------------------------------------------------------------------------------------

WHOLE_FILE = {
    "summary": ("GET", "/summary?thresholds=sport:0.3"),
    "sorted": ("GET", "/results?sort=sport"),
    "compare": ("GET", "/compare/{id}"),
    "changed": ("GET", "/compare/{id}/rows"),
    "retry": ("POST", "/retry"),
    "rerun": ("POST", "/rerun"),
    "delete": ("DELETE", ""),
}
"""What Postgres goes through a whole file for."""


@pytest.mark.parametrize("method", ["stream", "csv", "parquet", "history", "upload", "preview", "wait", *WHOLE_FILE])
def test_a_key_holds_so_many_threads_and_no_more(
    app: Any, anna: Keyed, boris: Keyed, worker: Worker, method: str
) -> None:
    job = anna.post(f"{V1}/jobs", data="text\nпост\nсломай\n".encode(), content_type="text/csv").get_json()
    links = job["links"]
    places = app.extensions["rubrika"].places
    assert places.most == 1
    if method in WHOLE_FILE:
        worker.work()

    def ask(who: Keyed) -> Any:
        if method == "upload":
            return who.post(f"{V1}/jobs", **file_of(1))
        if method == "preview":
            return who.post(f"{V1}/jobs/preview", data={"file": (io.BytesIO(CSV), "a.csv")})
        if method == "wait":
            return who.post(f"{V1}/classifications", json={"text": "а"}, headers={"Prefer": "wait=1"})
        if method in WHOLE_FILE:
            verb, tail = WHOLE_FILE[method]
            return who.open(verb, links["self"] + tail.format(id=job["id"]))
        path = {"stream": links["events"], "csv": links["csv"], "parquet": links["csv"].replace(".csv", ".parquet"),
                "history": f"{V1}/classifications.csv"}[method]  # fmt: skip
        return who.get(path)

    with anna.get(links["events"]) as stream:
        next(stream.iter_encoded())
        assert places.count() == 1
        waited: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app.extensions["rubrika"].bell, "wait", lambda *given: waited.append(given))
            refused = ask(anna)
        if method == "wait":
            # A preference that cannot be heard is ignored.
            assert refused.status_code == 202
            assert "Preference-Applied" not in refused.headers
            assert waited == []
        else:
            assert_problem(refused, 429, "too_many_held")
            assert refused.headers["Retry-After"] == "5"
        refused.close()
        assert places.count() == 1
        if method not in {"stream", "csv", "parquet", *WHOLE_FILE}:
            with ask(boris) as other:
                assert other.status_code in {200, 202}
    assert places.count() == 0
    with ask(anna) as answer:
        assert answer.status_code in {200, 202, 204}
    assert places.count() == 0, "given back, whatever was read of the answer"


def test_what_fails_gives_its_place_back(app: Any, anna: Keyed) -> None:
    for _ in range(3):
        assert anna.post(f"{V1}/jobs", data=b"\x00", content_type="text/csv").status_code == 422
        assert anna.post(f"{V1}/jobs", data=b"x", content_type="application/x-www-form-urlencoded").status_code == 415
        assert anna.get(f"{V1}/jobs/{'0' * 32}/results.csv").status_code == 404
    assert app.extensions["rubrika"].places.count() == 0


def test_without_keys_there_is_nobody_to_be_fair_to(settings: Settings) -> None:
    app = create_app(replace(settings, auth="off", max_waiting_rows=100))
    client = app.test_client()
    job = client.post(f"{V1}/jobs", **file_of(3)).get_json()
    with client.get(job["links"]["events"]) as first, client.get(job["links"]["events"]) as second:
        assert (first.status_code, second.status_code) == (200, 200)
    assert client.get(f"{V1}/jobs").status_code == 200
    app.extensions["rubrika"].close()
