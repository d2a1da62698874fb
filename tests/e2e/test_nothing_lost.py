"""Every accepted text ends with exactly one result or one error, whatever is killed, frozen, wiped or repeated."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from jobs.bell import DRAIN_TASK, QUEUE, celery_app
from jobs.migrate import upgrade
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.service import V1, Service
from tests.fake_classifier import expected
from tests.support import wait_until


def posts(count: int, special: dict[int, str] | None = None) -> tuple[list[str], bytes]:
    texts = [(special or {}).get(number, f"пост номер {number}, обычный") for number in range(1, count + 1)]
    return texts, ("doc_text\n" + "".join(f'"{text}"\n' for text in texts)).encode()


def assert_whole(rows: list[dict[str, Any]], texts: list[str]) -> None:
    """Every text is there once, in order, with the result that belongs to it."""
    assert [row["row"] for row in rows] == list(range(1, len(texts) + 1))
    assert [row["doc_text"] for row in rows] == texts
    assert Counter(row["row"] for row in rows).most_common(1)[0][1] == 1
    wrong = [row for row in rows if row["error"] is None and row["sport"] != pytest.approx(expected(row["doc_text"]))]
    assert wrong == []


def test_workers_killed_in_the_middle_change_nothing_but_the_time(service: Service) -> None:
    texts, data = posts(2000)
    service.start_all(FAKE_SECONDS="0.002")
    job = service.upload(data)
    shuffler = random.Random(7)
    for _ in range(4):
        before = service.job(job)["rows"]["succeeded"]
        step = shuffler.randint(60, 250)
        wait_until(
            lambda enough=before + step: service.job(job)["rows"]["succeeded"] >= min(enough, 2000),
            60,
            what="the job to go on",
        )
        service.kill(service.processes[-1])
        service.start("fake", FAKE_SECONDS="0.002")
    done = service.wait_finished(job)
    assert (done["status"], done["rows"]["succeeded"]) == ("succeeded", 2000)
    assert_whole(service.rows(job), texts)


def test_a_text_that_kills_every_worker_fails_alone(service: Service) -> None:
    texts, data = posts(120, {77: "!kill"})
    service.start("api")
    service.start("sweeper")
    stopping = threading.Event()

    def keep_a_worker() -> None:
        while not stopping.is_set():
            worker = service.start("fake")
            while worker.poll() is None and not stopping.wait(0.05):
                pass

    keeper = threading.Thread(target=keep_a_worker)
    keeper.start()
    try:
        service.wait_ready()
        job = service.upload(data)
        other = service.upload(posts(30)[1])
        done = service.wait_finished(job, 180)
        assert service.wait_finished(other)["status"] == "succeeded"
    finally:
        stopping.set()
        keeper.join()
    assert (done["status"], done["rows"]["succeeded"], done["rows"]["failed"]) == ("partially_succeeded", 119, 1)
    rows = service.rows(job)
    assert_whole(rows, texts)
    assert [row["row"] for row in rows if row["error"]] == [77]
    assert rows[76]["error"].startswith("worker_lost: ")


def test_a_network_that_breaks_on_a_text_fails_that_text_alone(service: Service) -> None:
    texts, data = posts(60, {5: "!explode", 50: "!fail"})
    service.start_all()
    job = service.upload(data)
    done = service.wait_finished(job)
    assert (done["rows"]["succeeded"], done["rows"]["failed"]) == (58, 2)
    rows = service.rows(job)
    assert_whole(rows, texts)
    assert [row["row"] for row in rows if row["error"]] == [5, 50]


def test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes(service: Service) -> None:
    texts, data = posts(300)
    service.start_all(FAKE_SECONDS="0.004")
    sleeper = service.processes[-1]
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] > 0, what="the first rows")
    os.kill(sleeper.pid, signal.SIGSTOP)
    service.start("fake")
    done = service.wait_finished(job)
    os.kill(sleeper.pid, signal.SIGCONT)
    answer = service.classify({"text": "после"}, wait=20)
    assert answer.status == 200
    assert service.job(job) == done
    assert_whole(service.rows(job), texts)


def test_a_worker_that_is_asked_to_stop_leaves_nothing_half_done(service: Service) -> None:
    texts, data = posts(400)
    service.start_all(FAKE_SECONDS="0.005")
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] > 0, what="the first rows")
    worker = service.processes[-1]
    worker.terminate()
    assert worker.wait(20) == 0
    after = service.job(job)
    assert 0 < after["rows"]["succeeded"] < 400
    service.start("fake")
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)


def test_a_message_given_five_times_is_one_inference(service: Service) -> None:
    texts, data = posts(50)
    service.start_all()
    job = service.upload(data)
    app = celery_app(service.settings)
    for _ in range(5):
        app.send_task(DRAIN_TASK, queue=QUEUE)
    app.close()
    assert service.wait_finished(job)["rows"]["succeeded"] == 50
    assert_whole(service.rows(job), texts)


def test_an_interactive_text_overtakes_a_file(service: Service) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    job = service.upload(posts(500)[1])
    wait_until(lambda: service.job(job)["status"] == "running", what="the file to be begun")
    answer = service.classify({"text": "срочно"}, wait=20)
    assert (answer.status, answer.json["status"]) == (200, "succeeded")
    assert service.job(job)["status"] == "running"
    assert service.call("POST", f"{V1}/jobs/{job['id']}/cancel").status == 202
    assert service.wait_finished(job)["status"] == "cancelled"


@pytest.fixture
def own_valkey(service: Service, open_folder: Path) -> Iterator[EmbeddedValkey]:
    """A Redis that the test may stop, kill and empty; the service uses it."""
    server = EmbeddedValkey(open_folder)
    server.start()
    service.settings = replace(service.settings, redis_url=server.url)
    yield server
    service.stop()
    server.stop()


def test_a_file_posted_while_redis_is_down_is_done_when_it_is_back(
    service: Service, own_valkey: EmbeddedValkey
) -> None:
    service.start_all()
    own_valkey.stop()
    texts, data = posts(100)
    job = service.upload(data)
    assert service.classify({"text": "тоже"}).status == 202
    own_valkey.start()
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)


def test_a_redis_wiped_at_half_of_a_file_costs_nothing(service: Service, own_valkey: EmbeddedValkey) -> None:
    texts, data = posts(600)
    service.start_all(FAKE_SECONDS="0.004")
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] >= 200, what="a third of the file")
    with redis.Redis.from_url(own_valkey.url.replace("redis+socket://", "unix://")) as client:
        client.flushall()
    own_valkey.stop()
    own_valkey.start()
    service.kill(service.processes[-1])
    service.start("fake")
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)
    assert service.classify({"text": "и дальше"}, wait=20).status == 200


@pytest.fixture
def own_postgres(service: Service, open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres that the test may restart; the service uses it."""
    server = EmbeddedPostgres(open_folder)
    server.start()
    upgrade(server.url)
    service.settings = replace(service.settings, database_url=server.url)
    yield server
    service.stop()
    server.stop()


def test_a_postgres_that_drops_everybody_and_restarts_costs_only_time(
    service: Service, own_postgres: EmbeddedPostgres
) -> None:
    texts, data = posts(500)
    service.start_all(FAKE_SECONDS="0.004")
    job = service.upload(data)
    statuses = set()
    for _ in range(15):
        with closing(psycopg2.connect(own_postgres.dsn_of("postgres"))) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = 'rubrika'"
            )
        statuses |= {service.classify({"text": "между делом"}).status, service.get(f"{V1}/jobs").status}
    own_postgres.stop()
    statuses |= {service.classify({"text": "пока базы нет"}).status, service.get(f"{V1}/jobs").status}
    assert 503 in statuses
    own_postgres.start()
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)
    statuses.add(service.classify({"text": "и дальше"}, wait=20).status)
    assert statuses <= {200, 202, 503}


def test_a_stopping_api_finishes_the_requests_in_work(service: Service) -> None:
    service.start_all(FAKE_SECONDS="1")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(service.classify({"text": "долго"}, wait=20).status))
    thread.start()
    wait_until(lambda: service.get(f"{V1}/classifications").json["items"], what="the request to be accepted")
    service.processes[0].terminate()
    thread.join(30)
    assert answers == [200]
    assert service.processes[0].wait(30) == 0
