"""What Postgres cannot answer within its time is 503, and what is still being worked on under a key is told apart."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, text

from api.context import OWNER
from jobs import database
from jobs.database import transaction
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload


@pytest.fixture
def other(engine: Engine) -> Iterator[Connection]:
    """A transaction of somebody else, rolled back at the end."""
    with transaction(engine) as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize(
    "tail", ["/summary?thresholds=sport:0.3", "/results?sort=sport", "/compare/{id}", "/compare/{id}/rows"]
)
def test_what_takes_too_long_is_given_up(
    client: FlaskClient, worker: Worker, other: Connection, monkeypatch: pytest.MonkeyPatch, tail: str
) -> None:
    job = upload(client, CSV).get_json()
    worker.work()
    address = job["links"]["self"] + tail.format(id=job["id"])
    with monkeypatch.context() as patch:
        patch.setattr(database, "LONGEST_READ_SECONDS", 0.2)
        other.execute(text("LOCK TABLE results IN ACCESS EXCLUSIVE MODE"))
        refused = client.get(address)
        assert_problem(refused, 503, "too_slow")
        assert refused.headers["Retry-After"] == "60"
        other.rollback()
    assert client.get(address).status_code == 200


def test_a_key_in_flight_is_told_from_other_conflicts(client: FlaskClient, worker: Worker, other: Connection) -> None:
    job = upload(client, CSV).get_json()
    worker.work()
    key = "once"
    other.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"{OWNER}\x1f{key}"})
    headers = {"Idempotency-Key": key}
    for path in (f"{V1}/jobs/{job['id']}/rerun", f"{V1}/jobs/{job['id']}/retry"):
        refused = client.post(path, headers=headers)
        assert_problem(refused, 409, "key_in_flight")
        assert refused.headers["Retry-After"] == "1"
    text_ = client.post(f"{V1}/classifications", json={"text": "а"}, headers=headers)
    assert_problem(text_, 409, "key_in_flight")
    other.rollback()
    assert client.post(f"{V1}/classifications", json={"text": "а"}, headers=headers).status_code == 202
    assert_problem(client.post(f"{V1}/jobs/{job['id']}/cancel"), 409, "conflict")
