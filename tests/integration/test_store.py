"""The life of a text in the database: claims, leases, the fence, the sweep, cancelling and deleting."""

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from jobs import accepting, ending, fleet, partitions, reading, store, sweeping
from jobs.database import run
from jobs.errors import ConflictError, NotFoundError
from jobs.migrate import differences, upgrade
from jobs.records import Idempotency, NewJob, NewText, Outcome
from jobs.repeating import IdempotencyInFlightError, IdempotencyMismatchError
from jobs.states import JobKind, JobState, Lane, RowError
from tests.integration.store_support import TOPICS, add, job_of, posts, recorded, take, work
from tests.support import wait_until


def test_the_migrations_build_what_the_schema_says(engine: Engine) -> None:
    assert run(engine, differences) == []


def test_migrating_again_changes_nothing(database: str, engine: Engine) -> None:
    before = run(engine, partitions.existing_days)
    upgrade(database)
    assert run(engine, partitions.existing_days) == before
    assert len(before) == partitions.DAYS_AHEAD + 1


def test_a_job_goes_from_queued_to_succeeded_and_comes_back_whole(engine: Engine, model: int) -> None:
    job_id = add(engine)
    assert job_of(engine, job_id).state is JobState.QUEUED
    assert work(engine, model) == []
    assert job_of(engine, job_id).state is JobState.RUNNING
    assert job_of(engine, job_id).rows_succeeded == 4
    assert work(engine, model) == []
    assert work(engine, model) == [job_id]
    job = job_of(engine, job_id)
    assert (job.state, job.rows_succeeded, job.rows_failed) == (JobState.SUCCEEDED, 10, 0)
    rows = run(engine, lambda c: reading.page_of_rows(c, job, after=0, limit=100))
    assert [row.row_no for row in rows] == list(range(1, 11))
    assert [(row.doc_text, row.speech2text, row.custom_id, row.extra) for row in rows] == [
        (post.doc_text, post.speech2text, post.custom_id, post.extra) for post in posts(10)
    ]
    assert {row.probabilities for row in rows} == {(0.75, 0.25)}


def test_a_row_that_was_refused_while_reading_is_recorded_and_never_given_to_a_worker(
    engine: Engine, model: int
) -> None:
    bad = NewText("", "", "", None, None, RowError.BROKEN_ROW, "three cells", "b")
    job_id, _ = accepting.add_job(engine, NewJob("me", JobKind.FILE), [posts(1)[0], bad], lane=Lane.BULK, chunk_rows=8)
    assert work(engine, model) == [job_id]
    job = job_of(engine, job_id)
    assert (job.state, job.rows_succeeded, job.rows_failed) == (JobState.PARTIALLY_SUCCEEDED, 1, 1)
    rows = run(engine, lambda c: reading.page_of_rows(c, job, after=0, limit=9))
    assert (rows[1].error_code, rows[1].error_message, rows[1].error_column) == ("broken_row", "three cells", "b")


def test_an_error_while_reading_the_rows_leaves_nothing(engine: Engine) -> None:
    def broken() -> Iterator[NewText]:
        yield posts(1)[0]
        raise RuntimeError("the file ends here")

    with pytest.raises(RuntimeError, match="ends here"):
        accepting.add_job(engine, NewJob("me", JobKind.FILE), broken(), lane=Lane.BULK, chunk_rows=8)
    with pytest.raises(ValueError, match="at least one"):
        accepting.add_job(engine, NewJob("me", JobKind.FILE), [], lane=Lane.BULK, chunk_rows=8)
    for table in ("jobs", "texts", "chunks"):
        assert run(engine, lambda c, t=table: c.execute(text(f"SELECT count(*) FROM {t}")).scalar_one()) == 0


def test_two_workers_never_hold_the_same_chunk(engine: Engine) -> None:
    add(engine, 40, chunk_rows=1)
    held: list[tuple[UUID, int]] = []
    lock = threading.Lock()

    def worker() -> None:
        while claimed := run(engine, take):
            with lock:
                held.extend((chunk.job_id, chunk.first_row) for chunk in claimed.chunks)

    threads = [threading.Thread(target=worker) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(held) == 40
    assert len(set(held)) == 40


def test_interactive_texts_are_claimed_together_and_bulk_apart(engine: Engine) -> None:
    for _ in range(3):
        add(engine, 1, lane=Lane.INTERACTIVE)
    add(engine, 8)
    claimed = run(engine, lambda c: take(c, Lane.INTERACTIVE, limit=32))
    assert claimed is not None
    assert len(claimed.chunks) == 3
    assert len(run(engine, lambda c: store.read_texts(c, claimed))) == 3
    assert run(engine, lambda c: take(c, Lane.INTERACTIVE)) is None


def test_a_late_finish_changes_nothing(engine: Engine, model: int) -> None:
    job_id = add(engine, 4)
    late = run(engine, lambda c: take(c, seconds=0.05))
    assert late is not None
    texts = run(engine, lambda c: store.read_texts(c, late))
    wait_until(lambda: bool((swept := run(engine, sweeping.sweep)) and swept.requeued), what="the lease to expire")
    assert work(engine, model) == [job_id]
    assert run(engine, lambda c: store.finish(c, late.lease, model, [Outcome(t, [0.0, 0.0]) for t in texts])) == []
    assert run(engine, lambda c: store.begin(c, late.lease)) is False
    rows = run(engine, lambda c: reading.page_of_rows(c, job_of(engine, job_id), after=0, limit=9))
    assert {row.probabilities for row in rows} == {(0.75, 0.25)}


def test_finishing_twice_records_once(engine: Engine, model: int) -> None:
    job_id = add(engine, 4)
    claimed = run(engine, take)
    assert claimed is not None
    outcomes = [Outcome(read, [0.1, 0.2]) for read in run(engine, lambda c: store.read_texts(c, claimed))]
    assert run(engine, lambda c: store.finish(c, claimed.lease, model, outcomes)) == [job_id]
    assert run(engine, lambda c: store.finish(c, claimed.lease, model, outcomes)) == []
    assert recorded(engine, job_id) == [1, 2, 3, 4]
    assert job_of(engine, job_id).rows_succeeded == 4


def test_a_text_that_kills_workers_ends_alone_and_its_neighbours_are_done(engine: Engine, model: int) -> None:
    job_id = add(engine, 20, chunk_rows=20)
    deaths = 0
    for _ in range(100):
        claimed = run(engine, lambda c: take(c, seconds=60))
        if claimed is None:
            break
        run(engine, lambda c, lease=claimed.lease: store.begin(c, lease))
        texts = run(engine, lambda c, held=claimed: store.read_texts(c, held))
        if any(read.row_no == 13 for read in texts):
            deaths += 1
            run(engine, lambda c, lease=claimed.lease: store.expire(c, lease))
            run(engine, sweeping.sweep)
            continue
        outcomes = [Outcome(read, [0.75, 0.25]) for read in texts]
        run(engine, lambda c, lease=claimed.lease, o=outcomes: store.finish(c, lease, model, o))
    job = job_of(engine, job_id)
    assert (job.state, job.rows_succeeded, job.rows_failed) == (JobState.PARTIALLY_SUCCEEDED, 19, 1)
    rows = run(engine, lambda c: reading.page_of_rows(c, job, after=0, limit=99))
    assert [row.row_no for row in rows if row.error_code] == [13]
    assert rows[12].error_code == RowError.WORKER_LOST
    assert deaths <= 7


def test_a_text_that_saw_a_death_is_only_ever_taken_alone(engine: Engine) -> None:
    for _ in range(3):
        add(engine, 1, lane=Lane.INTERACTIVE)
    first = run(engine, lambda c: take(c, Lane.INTERACTIVE, limit=32))
    assert first is not None
    run(engine, lambda c: store.begin(c, first.lease))
    run(engine, lambda c: store.expire(c, first.lease))
    run(engine, sweeping.sweep)
    beside = run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=32, lease_seconds=9, beside_others=True))
    assert beside is None
    again = run(engine, lambda c: take(c, Lane.INTERACTIVE, limit=32))
    assert again is not None
    assert len(again.chunks) == 1


def test_a_sign_of_life_keeps_a_lease_and_release_gives_it_back(engine: Engine) -> None:
    add(engine, 4)
    claimed = run(engine, lambda c: take(c, seconds=0.05))
    assert claimed is not None
    run(engine, lambda c: store.extend(c, [claimed.lease], 60))
    swept = run(engine, sweeping.sweep)
    assert swept is not None
    assert swept.requeued == 0
    run(engine, lambda c: store.release(c, claimed.lease))
    again = run(engine, take)
    assert again is not None
    assert again.chunks[0].attempts == 0


def test_cancelling_keeps_finished_rows_and_waits_for_chunks_in_work(engine: Engine, model: int) -> None:
    job_id = add(engine, 12)
    work(engine, model)
    held = run(engine, take)
    assert held is not None
    ending.cancel(engine, "me", job_id)
    ending.cancel(engine, "me", job_id)
    assert job_of(engine, job_id).state is JobState.CANCELLING
    assert run(engine, take) is None
    texts = run(engine, lambda c: store.read_texts(c, held))
    assert run(engine, lambda c: store.finish(c, held.lease, model, [Outcome(t, [0.1, 0.1]) for t in texts])) == [
        job_id
    ]
    job = job_of(engine, job_id)
    assert (job.state, job.rows_succeeded) == (JobState.CANCELLED, 8)
    ending.cancel(engine, "me", job_id)
    assert recorded(engine, job_id) == list(range(1, 9))


def test_a_cancelled_job_whose_worker_dies_is_settled_by_the_sweep(engine: Engine) -> None:
    job_id = add(engine, 4)
    held = run(engine, lambda c: take(c, seconds=0.05))
    assert held is not None
    ending.cancel(engine, "me", job_id)
    wait_until(lambda: bool((s := run(engine, sweeping.sweep)) and job_id in s.settled), what="the sweep to settle it")
    assert job_of(engine, job_id).state is JobState.CANCELLED


def test_a_finished_job_cannot_be_cancelled(engine: Engine, model: int) -> None:
    job_id = add(engine, 2)
    work(engine, model)
    with pytest.raises(ConflictError):
        ending.cancel(engine, "me", job_id)


def test_deleting_leaves_nothing_and_stops_the_worker_that_holds_it(engine: Engine, model: int) -> None:
    job_id = add(engine, 8)
    held = run(engine, take)
    assert held is not None
    texts = run(engine, lambda c: store.read_texts(c, held))
    ending.delete(engine, "me", job_id)
    assert run(engine, lambda c: store.finish(c, held.lease, model, [Outcome(t, [0.1, 0.1]) for t in texts])) == []
    for table in ("jobs", "texts", "chunks", "results"):
        assert run(engine, lambda c, t=table: c.execute(text(f"SELECT count(*) FROM {t}")).scalar_one()) == 0
    with pytest.raises(NotFoundError):
        ending.delete(engine, "me", job_id)


def test_another_owner_finds_nothing(engine: Engine) -> None:
    job_id = add(engine, 2, owner="somebody")
    with pytest.raises(NotFoundError):
        job_of(engine, job_id)
    with pytest.raises(NotFoundError):
        ending.cancel(engine, "me", job_id)
    with pytest.raises(NotFoundError):
        ending.delete(engine, "me", job_id)


def test_one_key_makes_one_job_even_from_twenty_threads(engine: Engine) -> None:
    made: list[UUID] = []
    refused: list[Exception] = []

    def post() -> None:
        job = NewJob("me", JobKind.FILE, idempotency=Idempotency("k", "same"))
        try:
            made.append(accepting.add_job(engine, job, posts(3), lane=Lane.BULK, chunk_rows=8)[0])
        except IdempotencyInFlightError as error:
            refused.append(error)

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) + len(refused) == 20
    assert len(set(made)) == 1
    with pytest.raises(IdempotencyMismatchError):
        accepting.add_job(
            engine,
            NewJob("me", JobKind.FILE, idempotency=Idempotency("k", "other")),
            posts(1),
            lane=Lane.BULK,
            chunk_rows=8,
        )
    assert run(engine, lambda c: c.execute(text("SELECT count(*) FROM jobs")).scalar_one()) == 1


def test_the_schema_refuses_impossible_rows(engine: Engine) -> None:
    job_id = add(engine, 2)
    for statement in (
        "UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = :job",
        "UPDATE jobs SET rows_failed = 3 WHERE id = :job",
        "UPDATE jobs SET state = 'paused' WHERE id = :job",
        "UPDATE chunks SET state = 'running' WHERE job_id = :job",
        "INSERT INTO results (job_id, row_no, day) VALUES (:job, 1, (now() AT TIME ZONE 'UTC')::date)",
    ):
        with pytest.raises(IntegrityError):
            run(engine, lambda c, s=statement: c.execute(text(s), {"job": job_id}))


def test_days_over_their_retention_are_dropped_with_their_jobs(engine: Engine) -> None:
    old, new = add(engine, 2), add(engine, 2)

    def age(connection: Connection) -> None:
        day = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date - 40")).scalar_one()
        for table in partitions.PARTITIONED:
            name = partitions.name_of(table, day)
            connection.execute(
                text(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{day}') TO ('{day}'::date + 1)")
            )
        for table, column in (("jobs", "id"), ("chunks", "job_id"), ("texts", "job_id")):
            connection.execute(text(f"UPDATE {table} SET day = :day WHERE {column} = :job"), {"day": day, "job": old})

    run(engine, age)
    assert run(engine, lambda c: sweeping.keep_days(c, 0)) == []
    [day] = run(engine, lambda c: sweeping.keep_days(c, 30))
    run(engine, lambda c: partitions.drop_day(c, day))
    with pytest.raises(NotFoundError):
        job_of(engine, old)
    assert job_of(engine, new).rows_total == 2
    assert day not in run(engine, partitions.existing_days)


def test_the_newest_registered_model_is_the_active_one(engine: Engine, model: int) -> None:
    other = run(
        engine,
        lambda c: fleet.register_model(c, name="n", version="2", sha256="1" * 64, topics=TOPICS[:1], card={}),
    )
    assert run(engine, fleet.active_model).id == other
    again = run(
        engine,
        lambda c: fleet.register_model(c, name="m", version="1", sha256="0" * 64, topics=TOPICS, card={}),
    )
    assert again == model
    assert run(engine, fleet.active_model).topics == TOPICS
    assert len(run(engine, fleet.models)) == 2


def test_another_model_by_a_name_that_is_taken_is_told(
    engine: Engine, model: int, caplog: pytest.LogCaptureFixture
) -> None:
    def register(sha256: str, version: str) -> None:
        run(
            engine,
            lambda c: fleet.register_model(c, name="m", version=version, sha256=sha256, topics=TOPICS, card={}),
        )

    register("0" * 64, "1")
    register("1" * 64, "2")
    assert caplog.text == ""
    register("2" * 64, "1")
    assert "m@1 was the name of another model before" in caplog.text


def test_a_lease_token_that_nobody_gave_finishes_nothing(engine: Engine, model: int) -> None:
    assert run(engine, lambda c: store.finish(c, uuid4(), model, [])) == []
