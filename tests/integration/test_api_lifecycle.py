"""What becomes of a job after it was sent: tried again, computed again, cancelled, deleted, expired."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from api.app import create_app
from jobs import fleet, partitions, sweeping
from jobs.database import run, transaction
from jobs.records import Topic
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.support import wait_until
from worker.sweeper import keep_house

NEWER = (Topic("travel", "Поездки", "Travel", 0.5), Topic("sport", "Спорт", "Sport", 0.6))
POSTS = 'id,text\n7,матч\n8,сломай\n9,"  "\n10,тишина\n11,сломай и это\n'.encode()


@pytest.fixture
def newer(app: Any, settings: Settings, worker: Worker) -> Worker:
    """A worker with another model beside the first one; its model becomes the active one."""
    return Worker(settings, app.extensions["rubrika"], name="newer", topics=NEWER, judge=lambda _: [0.7, 0.65])


@pytest.fixture
def engine(app: Any) -> Engine:
    engine: Engine = app.extensions["rubrika"].engine
    return engine


def items(client: FlaskClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{job['links']['results']}?limit=1000").get_json()["items"]
    return found


def now(client: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(job["links"]["self"]).get_json()
    return found


def counts(engine: Engine, job: dict[str, Any]) -> dict[str, int]:
    """How many rows each table has of a job."""
    columns = {"jobs": "id", "chunks": "job_id", "texts": "job_id", "results": "job_id"}
    with transaction(engine) as connection:
        return {
            table: connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE {column} = CAST(:job AS uuid)"), {"job": job["id"]}
            ).scalar_one()
            for table, column in columns.items()
        }


# --- the same rows with another model -------------------------------------------------------------------------------


def test_all_rows_are_computed_again_by_the_model_that_was_named(
    client: FlaskClient, worker: Worker, newer: Worker
) -> None:
    first = upload(client, POSTS).get_json()
    assert worker.work() == 4
    before = items(client, first)
    answer = client.post(first["links"]["rerun"], json={"model": "newer"})
    assert answer.status_code == 202, answer.text
    second = client.get(answer.headers["Location"]).get_json()
    assert second["id"] != first["id"]
    assert second["layout"] == first["layout"] | {"rerun_of": first["id"], "rows_of": first["id"]}
    assert (second["filename"], second["model"], second["rows"]["total"]) == ("posts.csv", "newer@1.0.0", 5)

    assert worker.work() == 0, "only the model that was named may compute it"
    assert newer.work() == 4
    after = items(client, second)
    inputs = ("row", "doc_text", "custom_id", "columns")
    assert [[row[name] for name in inputs] for row in after] == [[row[name] for name in inputs] for row in before]
    assert [row["probabilities"] and list(row["probabilities"]) for row in after].count(["travel", "sport"]) == 2
    assert [row["error"]["code"] for row in after if row["error"]] == ["model_failed", "empty_text", "model_failed"]
    assert items(client, first) == before

    third = client.post(second["links"]["rerun"], json={"model": "tiny@1.0.0"}).get_json()
    assert third["layout"]["rerun_of"] == second["id"]
    assert third["layout"]["rows_of"] == first["id"]
    assert (newer.work(), worker.work()) == (0, 4)


def test_without_a_body_it_is_the_active_model_and_the_job_may_be_in_any_state(
    client: FlaskClient, worker: Worker, newer: Worker
) -> None:
    first = upload(client, CSV).get_json()
    client.post(first["links"]["cancel"])
    second = client.post(first["links"]["rerun"])
    assert (second.status_code, second.get_json()["model"]) == (202, "newer@1.0.0")
    assert (worker.work(), newer.work()) == (0, 3)


def test_a_model_that_nobody_knows_or_runs_is_refused_with_what_to_do(
    client: FlaskClient, worker: Worker, newer: Worker, engine: Engine
) -> None:
    job = upload(client, CSV).get_json()
    rerun = job["links"]["rerun"]
    unknown = assert_problem(client.post(rerun, json={"model": "older"}), 422, "unknown_model")
    assert "newer@1.0.0, tiny@1.0.0" in unknown["detail"]
    assert unknown["errors"][0]["pointer"] == "/model"
    run(engine, lambda c: fleet.worker_left(c, "newer"))
    stopped = assert_problem(client.post(rerun, json={"model": "newer"}), 409, "model_not_running")
    assert "Running now: tiny@1.0.0." in stopped["detail"]
    assert "RUBRIKA_MODEL" in stopped["detail"]
    assert_problem(client.post(rerun), 409, "model_not_running")
    assert_problem(client.post(rerun, json={"modell": "tiny"}), 422)
    assert_problem(client.post(rerun, json=["tiny"]), 422)
    assert_problem(client.post(rerun, data=b"tiny"), 415)
    assert_problem(client.post(f"{V1}/jobs/{'0' * 32}/rerun", json={"model": "tiny"}), 404)
    assert len(client.get(f"{V1}/jobs").get_json()["items"]) == 1


def test_of_several_models_with_one_name_each_can_be_named_by_its_digest(
    app: Any, settings: Settings, client: FlaskClient, worker: Worker
) -> None:
    other = Worker(settings, app.extensions["rubrika"], name="same", sha256="1" * 64, trial=True)
    active = Worker(settings, app.extensions["rubrika"], name="same", sha256="2" * 64)
    rerun = upload(client, CSV).get_json()["links"]["rerun"]
    made = [client.post(rerun, json={"model": f"{digit}" * 64}).get_json() for digit in "12"]
    assert [job["model_sha256"] for job in made] == ["1" * 64, "2" * 64]
    for name in ("same", "same@1.0.0"):
        assert client.post(rerun, json={"model": name}).get_json()["model_sha256"] == "2" * 64
    run(active._engine, lambda c: fleet.worker_left(c, "2" * 64))
    assert client.post(rerun, json={"model": "same"}).get_json()["model_sha256"] == "1" * 64
    refused = assert_problem(client.post(rerun, json={"model": "2" * 64}), 409, "model_not_running")
    assert f"No live worker runs {'2' * 64}." in refused["detail"]
    for each in (other, active):
        each.close()


def test_a_rerun_under_a_key_is_made_once(client: FlaskClient, worker: Worker, newer: Worker, engine: Engine) -> None:
    job = upload(client, CSV).get_json()
    key = {"Idempotency-Key": "once"}
    made = client.post(job["links"]["rerun"], json={"model": "newer"}, headers=key).get_json()
    run(engine, lambda c: fleet.worker_left(c, "newer"))
    again = client.post(job["links"]["rerun"], json={"model": "newer"}, headers=key)
    assert (again.status_code, again.get_json()["id"]) == (202, made["id"])
    assert_problem(client.post(job["links"]["rerun"], json={"model": "tiny"}, headers=key), 422, "idempotency_mismatch")


# --- failed rows once more ------------------------------------------------------------------------------------------


def test_a_retry_keeps_the_order_the_columns_and_the_model(client: FlaskClient, worker: Worker, newer: Worker) -> None:
    first = upload(client, POSTS).get_json()
    worker.work()
    second = client.post(first["links"]["rerun"], json={"model": "newer"}).get_json()
    assert_problem(client.post(second["links"]["retry"]), 409)
    newer.work()
    third = client.post(second["links"]["retry"]).get_json()
    assert third["layout"] == first["layout"] | {"retry_of": second["id"]}
    rows = items(client, third)
    assert [(row["row"], row["doc_text"], row["columns"]) for row in rows] == [
        (1, "сломай", {"id": "8"}),
        (2, "сломай и это", {"id": "11"}),
    ]
    assert (worker.work(), newer.work()) == (0, 2)
    fourth = client.post(first["links"]["retry"]).get_json()
    assert fourth["rows"]["total"] == 2
    assert worker.work() == 2, "what was bound to no model may be tried by any"


# --- stopped and removed --------------------------------------------------------------------------------------------


def send_big(client: FlaskClient, rows: int) -> dict[str, Any]:
    data = b"text\n" + b"".join(f"пост {number}\n".encode() for number in range(rows))
    answer = client.post(f"{V1}/jobs?filename=big.csv", data=data, content_type="text/csv")
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.get_json()
    return job


def test_a_running_job_of_100_000_rows_is_cancelled_and_its_finished_rows_stay(
    client: FlaskClient, busy_worker: Worker, engine: Engine
) -> None:
    job = send_big(client, 100_000)
    wait_until(lambda: now(client, job)["rows"]["succeeded"], what="the first rows")
    assert client.post(job["links"]["cancel"]).get_json()["status"] in {"cancelling", "cancelled"}
    over = wait_until(lambda: found if (found := now(client, job))["finished_at"] else None, what="the end")
    assert over["status"] == "cancelled"
    assert 0 < over["rows"]["succeeded"] < 100_000
    assert counts(engine, job)["results"] == over["rows"]["succeeded"]
    with transaction(engine) as connection:
        states = connection.execute(
            text("SELECT state, sum(row_count) FROM chunks WHERE job_id = CAST(:job AS uuid) GROUP BY 1"),
            {"job": job["id"]},
        )
        rows = {row.state: row.sum for row in states}
    assert rows == {"done": over["rows"]["succeeded"], "cancelled": over["rows"]["queued"]}
    exported = client.get(job["links"]["ndjson"]).data.splitlines()
    assert len(exported) == 100_000


def test_posted_texts_are_no_file_that_could_be_cancelled(client: FlaskClient, worker: Worker) -> None:
    posted = client.post(f"{V1}/classifications", json={"text": "матч"}).get_json()
    request_id = posted["id"].partition("-")[0]
    assert_problem(client.post(f"{V1}/jobs/{request_id}/cancel"), 404)
    assert client.get(f"{V1}/classifications/{posted['id']}").get_json()["status"] == "queued"
    assert worker.work() == 1


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(
    client: FlaskClient, busy_worker: Worker, engine: Engine
) -> None:
    job = send_big(client, 20_000)
    wait_until(lambda: now(client, job)["rows"]["succeeded"], what="the first rows")
    assert client.delete(job["links"]["self"]).status_code == 204
    assert counts(engine, job) == {"jobs": 0, "chunks": 0, "texts": 0, "results": 0}
    assert_problem(client.delete(job["links"]["self"]), 404)
    following = upload(client, CSV).get_json()
    wait_until(lambda: now(client, following)["status"] == "succeeded", what="the worker to go on with other jobs")
    assert counts(engine, job) == {"jobs": 0, "chunks": 0, "texts": 0, "results": 0}


def test_what_is_over_its_retention_is_answered_like_what_never_was(
    client: FlaskClient, worker: Worker, engine: Engine
) -> None:
    job = upload(client, CSV).get_json()
    posted = client.post(f"{V1}/classifications", json={"text": "матч"}).get_json()
    worker.work()
    kept_day = _make_old(engine, days=29)
    list(keep_house(engine, 30))
    assert now(client, job)["status"] == "succeeded", f"{kept_day} is within the retention"
    _make_old(engine, days=31)
    list(keep_house(engine, 30))
    for name in ("self", "results", "summary", "csv", "ndjson", "json", "events"):
        assert_problem(client.get(job["links"][name]), 404)
    for name in ("cancel", "retry", "rerun"):
        assert_problem(client.post(job["links"][name]), 404)
    assert_problem(client.get(f"{V1}/classifications/{posted['id']}"), 404)
    assert client.get(f"{V1}/jobs").get_json()["items"] == []
    assert client.get(f"{V1}/classifications").get_json()["items"] == []
    assert counts(engine, job) == {"jobs": 0, "chunks": 0, "texts": 0, "results": 0}


def test_a_job_says_when_it_is_dropped(client: FlaskClient, worker: Worker, engine: Engine) -> None:
    job = upload(client, CSV).get_json()
    for days, is_over in ((30, False), (31, True)):
        day = date.fromisoformat(_make_old(engine, days=days))
        said = now(client, job)["expires_at"]
        assert said == f"{day + timedelta(days=31)}T00:00:00.000Z"
        assert (datetime.fromisoformat(said) <= datetime.now(UTC)) == is_over
        assert (day in run(engine, lambda c: sweeping.keep_days(c, 30))) == is_over


def test_a_job_that_is_kept_for_ever_says_of_no_end(settings: Settings, worker: Worker, engine: Engine) -> None:
    app = create_app(replace(settings, retention_days=0))
    job = upload(app.test_client(), CSV).get_json()
    _make_old(engine, days=5000)
    assert (job["expires_at"], now(app.test_client(), job)["expires_at"]) == (None, None)
    assert run(engine, lambda c: sweeping.keep_days(c, 0)) == []
    app.extensions["rubrika"].close()


def _make_old(engine: Engine, *, days: int) -> str:
    """Move everything to the partition of a day that lies `days` back; the day."""
    with transaction(engine) as connection:
        day = connection.execute(
            text("SELECT (now() AT TIME ZONE 'UTC')::date - CAST(:days AS integer)"), {"days": days}
        ).scalar_one()
        for table in partitions.PARTITIONED:
            name = partitions.name_of(table, day)
            connection.execute(
                text(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{day}') TO ('{day}'::date + 1)")
            )
        for table in ("jobs", "chunks", "texts", "results"):
            connection.execute(text(f"UPDATE {table} SET day = :day"), {"day": day})
        return str(day)


# --- asked again and again ------------------------------------------------------------------------------------------


def test_a_job_that_has_not_changed_is_not_sent_again(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    first = client.get(job["links"]["self"])
    tag = {"If-None-Match": first.headers["ETag"]}
    assert first.headers["Retry-After"] == "1"
    same = client.get(job["links"]["self"], headers=tag)
    assert (same.status_code, same.data) == (304, b"")
    worker.work()
    changed = client.get(job["links"]["self"], headers=tag)
    assert (changed.status_code, changed.get_json()["status"]) == (200, "succeeded")
    assert "Retry-After" not in changed.headers


def test_files_that_wait_know_how_many_are_before_them(client: FlaskClient, worker: Worker) -> None:
    jobs = [upload(client, CSV).get_json() for _ in range(3)]
    assert [now(client, job)["queue_position"] for job in jobs] == [0, 1, 2]
    client.post(jobs[0]["links"]["cancel"])
    assert [now(client, job)["queue_position"] for job in jobs] == [0, 0, 1]
    worker.work()
    assert [now(client, job)["queue_position"] for job in jobs] == [0, 0, 0]
