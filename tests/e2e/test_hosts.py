"""Several hosts: Postgres, Redis, API and sweeper on one, workers on two others, and a network that breaks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.migrate import upgrade
from tests.e2e.chaos import sql
from tests.e2e.hosts import Network, NetworkPostgres, NetworkValkey, NotAllowedError
from tests.e2e.nursery import Process, launch
from tests.e2e.rows import assert_whole, posts
from tests.e2e.service import Service
from tests.support import wait_until


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        made = Network("left", "right")
    except NotAllowedError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield made
    made.close()


@pytest.fixture
def spread(network: Network, service: Service, open_folder: Path) -> Iterator[Service]:
    """The service with its servers in the middle, where the test is as well."""
    with network.on("middle"):
        postgres, valkey = NetworkPostgres(open_folder), NetworkValkey(open_folder)
        postgres.start()
        valkey.start()
        upgrade(postgres.network_url)
        service.settings = replace(service.settings, database_url=postgres.network_url, redis_url=valkey.network_url)
        service.launch = launch  # A process is on the host of the thread that starts it.
        yield service
        service.stop()
        valkey.stop()
        postgres.stop()


def recorded_by(service: Service, worker: Process) -> int:
    """How many rows this worker has recorded so far; some may be equal to what it computed just before."""
    [[rows]] = sql(
        service.settings.database_url,
        "SELECT coalesce(sum(value), 0)::int FROM meters WHERE name LIKE 'rows_%%' AND source LIKE %s",
        f"%:{worker.pid}:%",
    )
    return int(rows)


def holding(service: Service) -> int:
    """How many leases there are."""
    [[leases]] = sql(service.settings.database_url, "SELECT count(DISTINCT lease) FROM chunks WHERE state = 'running'")
    return int(leases)


def test_a_host_that_is_cut_off_loses_nothing_and_doubles_nothing(spread: Service, network: Network) -> None:
    texts, data = posts(2000)
    spread.env["FAKE_SECONDS"] = "0.004"
    spread.env["RUBRIKA_CACHE_ROWS"] = "0"
    spread.start("api")
    spread.start("sweeper")
    with network.on("left"):
        left = spread.start("fake")
    with network.on("right"):
        right = spread.start("fake")
    spread.wait_ready()
    job = spread.upload(data)
    for worker in (left, right):
        wait_until(lambda w=worker: recorded_by(spread, w) > 0, 60, what="each host to record something")
    wait_until(lambda: holding(spread) >= 2, what="both hosts to have something in hand")

    network.cut("left")
    done = spread.wait_finished(job, 120)
    assert (done["status"], done["rows"]["succeeded"]) == ("succeeded", 2000)
    assert (left.poll(), right.poll()) == (None, None)
    rows = spread.rows(job)
    assert_whole(rows, texts)
    before = sql(spread.settings.database_url, "SELECT job_id, row_no, xmin::text FROM results ORDER BY 1, 2")
    [[expired]] = sql(spread.settings.database_url, "SELECT sum(value)::int FROM meters WHERE name = 'leases_requeued'")
    assert expired >= 1, "the host that was cut off had nothing in hand, so nothing was shown"

    network.heal("left")
    alone = recorded_by(spread, left)
    right.terminate()
    assert right.wait(30) == 0
    again = spread.upload(posts(300)[1])
    assert spread.wait_finished(again, 120)["rows"]["succeeded"] == 300
    assert left.poll() is None
    assert recorded_by(spread, left) == alone + 300
    assert_whole(spread.rows(again), texts[:300])
    # What the healed host still had in hand changed nothing of what the other had recorded.
    after = sql(
        spread.settings.database_url,
        "SELECT job_id, row_no, xmin::text FROM results WHERE job_id = %s ORDER BY 1, 2",
        str(before[0][0]),
    )
    assert after == before
    assert spread.job(job) == done


def test_while_every_worker_is_cut_off_all_is_accepted_and_done_afterwards(spread: Service, network: Network) -> None:
    """Long enough for leases to run out again and again, and for both ends to have given up their connections."""
    texts, data = posts(600)
    spread.env["FAKE_SECONDS"] = "0.01"
    spread.env["RUBRIKA_CACHE_ROWS"] = "0"
    spread.start("api")
    spread.start("sweeper")
    workers = {}
    for host in ("left", "right"):
        with network.on(host):
            workers[host] = spread.start("fake")
    spread.wait_ready()
    job = spread.upload(data)
    wait_until(lambda: holding(spread) >= 2, what="both hosts to have something in hand")

    for host in workers:
        network.cut(host)
    # A sign of life is good for fifteen seconds; then it is said that nobody is there.
    wait_until(lambda: spread.get("/readyz").status == 503, 60, what="the hosts to be missed", every=0.2)
    later = spread.upload(posts(100)[1])
    wait_until(lambda: holding(spread) == 0, what="their leases to run out")
    progress = spread.job(job)["rows"]["succeeded"]
    assert progress < 600

    for host in workers:
        network.heal(host)
    assert spread.wait_finished(job, 120)["rows"]["succeeded"] == 600
    assert spread.wait_finished(later, 120)["rows"]["succeeded"] == 100
    spread.wait_ready()
    assert_whole(spread.rows(job), texts)
    assert_whole(spread.rows(later), texts[:100])
    assert [worker.poll() for worker in workers.values()] == [None, None]
    [[results]] = sql(spread.settings.database_url, "SELECT count(*) FROM results")
    assert results == 700
