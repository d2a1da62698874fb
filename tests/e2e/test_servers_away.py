"""Redis and Postgres that are away, empty, silent or restarted: time is all that it costs."""

from contextlib import closing

import psycopg2

from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.chaos import Proxy, flush, kill_redis
from tests.e2e.rows import assert_whole, posts
from tests.e2e.service import V1, Service
from tests.support import wait_until

PROMPT_SECONDS = 3
"""A client that gives up after so long still gets its 202 while Redis is away."""


def test_a_file_posted_while_redis_is_down_is_done_when_it_is_back(
    service: Service, own_valkey: EmbeddedValkey
) -> None:
    service.start_all()
    own_valkey.stop()
    texts, data = posts(100)
    job = service.upload(data, timeout=PROMPT_SECONDS)
    assert service.classify({"text": "тоже"}, timeout=PROMPT_SECONDS).status == 202
    own_valkey.start()
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)


def test_a_redis_wiped_and_killed_at_half_of_a_file_costs_nothing(service: Service, own_valkey: EmbeddedValkey) -> None:
    texts, data = posts(600)
    service.start_all(FAKE_SECONDS="0.004")
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] >= 200, what="a third of the file")
    flush(own_valkey)
    kill_redis(own_valkey)
    own_valkey.start()
    service.kill(service.processes[-1])
    service.start("fake")
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)
    assert service.classify({"text": "и дальше"}, wait=20).status == 200


def test_workers_hear_again_when_redis_was_restarted_in_a_row(service: Service, own_valkey: EmbeddedValkey) -> None:
    service.start_all()
    worker = service.processes[-1]
    for _ in range(4):
        kill_redis(own_valkey)
        own_valkey.start()
    assert service.classify({"text": "слышно"}, wait=60).status == 200
    assert worker.poll() is None


def test_connections_to_redis_that_are_half_open_are_given_up_and_made_anew(service: Service, proxy: Proxy) -> None:
    """The network loses them without a word: no end is closed, and nothing ever comes through again.

    First while the worker listens, then while it computes and has yet to acknowledge what it heard.
    """
    texts, data = posts(60)
    service.start_all(FAKE_SECONDS="0.01")
    running = list(service.processes)
    assert service.classify({"text": "слышно"}, wait=20).status == 200
    proxy.lose()
    heard = service.upload(data)
    assert service.classify({"text": "в пустоту"}).status == 202
    proxy.heal()
    wait_until(lambda: service.job(heard)["status"] == "running", 120, what="the worker to hear again")
    proxy.lose()
    assert service.wait_finished(heard)["status"] == "succeeded"
    job = service.upload(data)
    proxy.heal()
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(heard), texts)
    assert_whole(service.rows(job), texts)
    assert service.classify({"text": "снова слышно"}, wait=60).status == 200
    assert [process.poll() for process in running] == [None] * len(running)


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
