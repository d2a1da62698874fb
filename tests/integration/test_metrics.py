"""What `/metrics` says is what happened: rows, leases, sweeps, requests; with labels that nobody can make up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, Engine, text

from api.app import create_app
from jobs import fleet, meters, store, sweeping
from jobs.database import run
from jobs.meters import Meter
from jobs.records import Claim, Outcome
from jobs.settings import Settings
from jobs.states import Lane
from tests.integration.api_support import CSV, V1, Worker, upload
from tests.integration.store_support import add, take


def samples(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of `/metrics` by its name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(client: FlaskClient, name: str, **labels: str) -> float:
    return samples(client)[name, frozenset(labels.items())]


def sums(engine: Engine) -> dict[Meter, float]:
    return dict(run(engine, lambda c: meters.read(c, alive_seconds=15)).sums)


def begun(engine: Engine, seconds: float = 30) -> tuple[Claim, list[Outcome]]:
    def step(connection: Connection) -> tuple[Claim, list[Outcome]]:
        claimed = take(connection, seconds=seconds)
        assert claimed is not None
        store.begin(connection, claimed.lease)
        return claimed, [Outcome(read, [0.75, 0.25]) for read in store.read_texts(connection, claimed)]

    return run(engine, step)


# --- the sums of the record -----------------------------------------------------------------------------------------


def test_rows_are_counted_when_they_are_recorded_and_once(engine: Engine, model: int) -> None:
    add(engine, 4)
    claimed, outcomes = begun(engine)
    outcomes[1] = replace(outcomes[1], cached=True)
    outcomes[2] = replace(outcomes[2], probabilities=None, error_code="model_failed", error_message="it broke")
    assert sum(sums(engine).values()) == 0
    for _ in range(2):
        # The second time is that of a worker whose first commit was not answered.
        run(
            engine,
            lambda c: store.finish(c, claimed.lease, model, outcomes, worker="w", spent={Meter.TOKENS: 40.0}),
        )
    found = sums(engine)
    rows = found[Meter.ROWS_COMPUTED], found[Meter.ROWS_CACHED], found[Meter.ROWS_FAILED], found[Meter.TOKENS]
    assert rows == (2, 1, 1, 40)


def test_a_late_worker_counts_nothing(engine: Engine, model: int) -> None:
    add(engine, 4)
    claimed, outcomes = begun(engine, seconds=0)
    run(engine, sweeping.sweep)
    run(engine, lambda c: store.finish(c, claimed.lease, model, outcomes, worker="late", spent={Meter.BATCHES: 1.0}))
    found = sums(engine)
    assert (found[Meter.ROWS_COMPUTED], found[Meter.BATCHES], found[Meter.LEASES_REQUEUED]) == (0, 0, 1)


def test_the_sums_of_workers_that_are_gone_stay(engine: Engine, model: int) -> None:
    run(engine, lambda c: fleet.worker_seen(c, "here", model, "cpu"))
    for source, amount in (("here", 1.0), ("gone", 10.0), ("away", 100.0), (meters.SWEEPER, 1000.0)):
        run(engine, lambda c, s=source, a=amount: meters.add(c, s, {Meter.ROWS_COMPUTED: a}))
    for _ in range(2):
        run(engine, sweeping.forget_workers)
        assert sums(engine)[Meter.ROWS_COMPUTED] == 1111
    left = run(engine, lambda c: c.execute(text("SELECT source FROM meters ORDER BY 1")).scalars().all())
    assert left == ["here", meters.PAST, meters.SWEEPER]
    # One that was only taken for gone goes on.
    run(engine, lambda c: meters.add(c, "gone", {Meter.ROWS_COMPUTED: 1.0}))
    assert sums(engine)[Meter.ROWS_COMPUTED] == 1112


def test_every_sweep_is_counted_with_what_it_did(engine: Engine, model: int) -> None:
    assert run(engine, lambda c: meters.read(c, alive_seconds=15)).swept_seconds is None
    add(engine, 1)
    for _ in range(sweeping.MAX_ATTEMPTS):
        begun(engine, seconds=0)
        run(engine, sweeping.sweep)
    found = sums(engine)
    assert found[Meter.SWEEPS] == sweeping.MAX_ATTEMPTS
    assert (found[Meter.LEASES_REQUEUED], found[Meter.LEASES_GIVEN_UP], found[Meter.ROWS_FAILED]) == (2, 1, 1)
    swept = run(engine, lambda c: meters.read(c, alive_seconds=15)).swept_seconds
    assert swept is not None
    assert 0 <= swept < 60


def test_what_waits_is_told_by_lane(engine: Engine, model: int) -> None:
    add(engine, 10, chunk_rows=4)
    add(engine, 3, lane=Lane.INTERACTIVE)
    begun(engine)
    lanes = run(engine, lambda c: meters.read(c, alive_seconds=15)).lanes
    bulk, interactive = lanes[Lane.BULK], lanes[Lane.INTERACTIVE]
    assert (bulk.queued_chunks, bulk.queued_rows, bulk.running_chunks, bulk.running_rows) == (2, 6, 1, 4)
    assert (interactive.queued_chunks, interactive.queued_rows, interactive.running_rows) == (1, 3, 0)


# --- the address ----------------------------------------------------------------------------------------------------


def test_work_shows_in_the_metrics(client: FlaskClient, worker: Worker) -> None:
    upload(client, CSV)
    assert value(client, "rubrika_queue_rows", lane="bulk", state="queued") == 3
    worker.work()
    assert value(client, "rubrika_queue_rows", lane="bulk", state="queued") == 0
    assert value(client, "rubrika_queue_oldest_seconds", lane="bulk") == 0
    assert value(client, "rubrika_rows_total", answer="computed") == 3
    assert value(client, "rubrika_workers", model="tiny@1.0.0", device="cpu") == 1
    assert value(client, "rubrika_postgres_up") == value(client, "rubrika_redis_up") == 1
    assert value(client, "rubrika_http_requests_total", method="POST", route=f"{V1}/jobs", status="202") == 1
    assert value(client, "rubrika_http_request_seconds_count", method="POST", route=f"{V1}/jobs") == 1


def test_requests_are_counted_by_route_and_no_client_makes_up_a_label(client: FlaskClient) -> None:
    for number in range(5):
        client.get(f"{V1}/jobs/{number:032x}")
        client.get(f"/nothing/{number}")
        client.open(f"/nothing/{number}", method=f"BREW{number}")
        client.get(f"{V1}/jobs?colour=red{number}", headers={"X-Request-Id": f"mine{number}"})
    found = {
        tuple(sorted(dict(labels).items())): count
        for (name, labels), count in samples(client).items()
        if name == "rubrika_http_requests_total"
    }
    assert found == {
        (("method", "GET"), ("route", f"{V1}/jobs/<id>"), ("status", "404")): 5,
        (("method", "GET"), ("route", "other"), ("status", "404")): 5,
        (("method", "other"), ("route", "other"), ("status", "404")): 5,
        (("method", "GET"), ("route", f"{V1}/jobs"), ("status", "422")): 5,
    }


@pytest.fixture
def away(settings: Settings) -> Iterator[Any]:
    app = create_app(
        replace(settings, database_url="postgresql+psycopg2://n@127.0.0.1:1/n", redis_url="redis://127.0.0.1:1/0")
    )
    yield app
    app.extensions["rubrika"].bell.close()
    app.extensions["rubrika"].engine.dispose()


def test_without_postgres_and_redis_that_is_what_it_says(away: Any) -> None:
    client = away.test_client()
    assert client.get(f"{V1}/jobs").status_code == 503
    assert value(client, "rubrika_postgres_up") == value(client, "rubrika_redis_up") == 0
    assert value(client, "rubrika_http_requests_total", method="GET", route=f"{V1}/jobs", status="503") == 1
    assert not [name for name, _ in samples(client) if name.startswith("rubrika_queue")]


def test_the_format_is_the_one_that_is_asked_for(client: FlaskClient) -> None:
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.content_type.startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
