"""Server-sent events of a job: what is said, when nothing is said, and how many may listen."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import streams as api_streams
from api.app import create_app
from api.streams import LOOK_SECONDS, Look, Streams
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.support import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Room for one stream only, and chunks of two rows."""
    return replace(settings, max_streams=1, chunk_rows=2)


def blocks(answer: TestResponse) -> Iterator[dict[str, str]]:
    """The blocks of a stream as they come, each with its fields."""
    for block in answer.iter_encoded():
        text = block.decode()
        assert text.endswith("\n\n")
        yield dict(line.split(": ", 1) for line in text.rstrip("\n").split("\n"))


def listen(client: FlaskClient, job: dict[str, Any], **headers: str) -> TestResponse:
    return client.get(job["links"]["events"], headers=headers)


def test_a_job_is_told_from_its_beginning_to_its_end(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    with listen(client, job) as answer:
        assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        stream = blocks(answer)
        assert next(stream) == {"retry": "2000"}
        first = next(stream)
        assert first["event"] == "job"
        assert json.loads(first["data"]) == client.get(job["links"]["self"]).get_json()
        worker.work()
        second, end = stream
    assert (second["event"], json.loads(second["data"])["status"]) == ("job", "succeeded")
    assert json.loads(second["data"]) == client.get(job["links"]["self"]).get_json()
    assert second["id"] != first["id"]
    assert (end["event"], json.loads(end["data"])) == ("end", {"reason": "finished"})


def test_who_comes_back_hears_only_what_is_new(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    with listen(client, job) as answer:
        stream = blocks(answer)
        heard = [next(stream), next(stream)][1]["id"]
    with listen(client, job, **{"Last-Event-ID": heard}) as answer:
        stream = blocks(answer)
        next(stream)
        worker.work()
        second = next(stream)
    assert json.loads(second["data"])["status"] == "succeeded"
    assert listen(client, job, **{"Last-Event-ID": second["id"]}).status_code == 204
    with listen(client, job, **{"Last-Event-ID": heard}) as answer:
        assert [block.get("event") for block in blocks(answer)] == [None, "job", "end"]


def test_the_stream_of_a_job_that_is_deleted_ends(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    with listen(client, job) as answer:
        stream = blocks(answer)
        next(stream)
        next(stream)
        client.delete(job["links"]["self"])
        *_, end = stream
    assert (end["event"], json.loads(end["data"])) == ("end", {"reason": "deleted"})
    assert_problem(listen(client, job), 404)
    assert_problem(client.get(f"{V1}/jobs/nothing/events"), 404)


def test_one_stream_too_many_is_refused_until_another_ends(app: Any, client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    streams: Streams = app.extensions["rubrika"].streams
    with listen(client, job) as answer:
        next(blocks(answer))
        refused = listen(client, job)
        assert_problem(refused, 503, "too_many_streams")
        assert refused.headers["Retry-After"] == "5"
        assert client.head(job["links"]["events"]).status_code == 200
        assert streams.count() == 1
    assert streams.count() == 0
    with listen(client, job):
        pass  # Nothing was read of it, and it has given its place back all the same.
    assert streams.count() == 0


class Pauses:
    """Time that passes only while a stream pauses, and what happens in each pause."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self.now = 1000.0
        self._happens = happens

    def monotonic(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        self._happens()
        return False


def test_a_stream_says_at_most_two_things_a_second(
    app: Any, client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = upload(client, b"text\n" + "матч\n".encode() * 12).get_json()
    time_ = Pauses(lambda: (worker.work_chunk(), worker.work_chunk()))
    monkeypatch.setattr(api_streams, "time", time_)
    monkeypatch.setattr(app.extensions["rubrika"].streams, "_stopping", time_)
    with listen(client, job) as answer:
        told = [
            (time_.now, json.loads(block["data"])["rows"]["succeeded"])
            for block in blocks(answer)
            if block.get("event") == "job"
        ]
    assert [rows for _, rows in told] == [0, 4, 8, 12], "two changes in one pause are told as one"
    assert [later - earlier for (earlier, _), (later, _) in pairwise(told)] == [0.5] * 3


def test_streams_never_take_more_than_half_of_the_threads(settings: Settings) -> None:
    app = create_app(replace(settings, max_streams=8, api_threads=4))
    streams: Streams = app.extensions["rubrika"].streams
    assert [streams.enter(uuid4()) for _ in range(3)] == [True, True, False]


def test_many_who_watch_one_job_share_a_look() -> None:
    streams = Streams(limit=20)
    job, looks = uuid4(), []

    def read() -> Look:
        looks.append(time.monotonic())
        return Look(b"{}", "tag", False)

    seen: list[Look] = []

    def watch() -> None:
        while streams.pause():
            seen.append(streams.look(job, read))

    threads = [threading.Thread(target=watch) for _ in range(20)]
    for thread in threads:
        assert streams.enter(job)
        thread.start()
    wait_until(lambda: len(seen) >= 100, what="a hundred looks of twenty who watch")
    streams.stop()
    for thread in threads:
        thread.join(LOOK_SECONDS * 10)
    assert not any(thread.is_alive() for thread in threads)
    assert len(looks) <= len(seen) / 2
    assert not streams.enter(job), "who is told to stop takes nobody in"
