"""What goes wrong inside a worker or on the way to Postgres, each fault made on purpose in a real database."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from jobs import accepting, ending, fleet, partitions, reading, store, sweeping
from jobs.bell import Bell
from jobs.copying import copy_in
from jobs.database import make_engine, run, transaction
from jobs.errors import UnavailableError
from jobs.records import Claim, Job, NewJob, NewText, Topic
from jobs.settings import Settings
from jobs.states import JobKind, JobState, Lane
from ml.classifier import Predictions
from ml.errors import DeviceLostError
from ml.posts import Post
from tests.fake_classifier import FakeClassifier, FakePrepared
from tests.support import sigterm_is_sent
from worker import sweeper
from worker.drain import Drain
from worker.heart import Heart
from worker.sweeper import keep_house


class Fragile(FakeClassifier):
    """Breaks on `!tokens` while it prepares; `on_compute` is called before each time it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.on_compute: Callable[[], None] = lambda: None

    def prepare(self, posts: Sequence[Post]) -> FakePrepared:
        if any("!tokens" in post.doc_text for post in posts):
            raise RuntimeError("the tokenizer broke")
        return super().prepare(posts)

    def compute(self, prepared: FakePrepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        self.on_compute()
        return super().compute(prepared, between_batches)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    made = make_engine(settings.database_url, pool_size=8, application="tests")
    yield made
    made.dispose()


@pytest.fixture
def classifier() -> Fragile:
    return Fragile()


@pytest.fixture
def heart(engine: Engine, classifier: Fragile) -> Iterator[Heart]:
    topics = [Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in classifier.info.topics]
    model = run(
        engine,
        lambda c: fleet.register_model(c, name="fake", version="1", sha256="f" * 64, topics=topics, card={}),
    )
    heart = Heart(engine, worker="test", model_id=model, device="fake", lease_seconds=10)
    heart.start()
    yield heart
    heart.stop()


@pytest.fixture
def drain(settings: Settings, engine: Engine, classifier: Fragile, heart: Heart) -> Iterator[Drain]:
    bell = Bell(settings)
    made = Drain(settings, engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
    yield made
    made.close()
    bell.close()


def add(engine: Engine, texts: Sequence[str], *, chunk_rows: int = 10, lane: Lane = Lane.BULK) -> Job:
    rows = [NewText(value, "", "") for value in texts]
    job_id, _ = accepting.add_job(engine, NewJob("me", JobKind.FILE), rows, lane=lane, chunk_rows=chunk_rows)
    return job_of(engine, job_id)


def job_of(engine: Engine, job_id: object) -> Job:
    return run(engine, lambda c: reading.get_job(c, "me", job_id))  # type: ignore[arg-type]


def take(engine: Engine, **more: bool) -> Claim:
    claimed = run(engine, lambda c: store.claim(c, lane=Lane.BULK, limit=1, lease_seconds=60, **more))
    assert claimed is not None
    return claimed


def drain_and_sweep(engine: Engine, drain: Drain) -> None:
    """As often as a text may be tried: a drain that a fault ends, and the sweep after it."""
    for _ in range(20):
        try:
            drain.run()
        except RuntimeError as error:
            assert str(error) == "the tokenizer broke"  # noqa: PT017
        swept = run(engine, sweeping.sweep)
        assert swept is not None
        if not swept.waiting and not swept.requeued:
            return


@pytest.mark.parametrize("lane", list(Lane))
def test_a_text_that_breaks_the_tokenizer_ends_alone(engine: Engine, drain: Drain, heart: Heart, lane: Lane) -> None:
    job = add(engine, [f"пост {number}" for number in range(16)] + ["!tokens"], lane=lane)
    other = add(engine, ["другой"], lane=lane)
    drain_and_sweep(engine, drain)
    assert heart.held() == frozenset()
    done = job_of(engine, job.id)
    assert (done.state, done.rows_succeeded, done.rows_failed) == (JobState.PARTIALLY_SUCCEEDED, 16, 1)
    assert job_of(engine, other.id).state is JobState.SUCCEEDED
    rows = run(engine, lambda c: reading.page_of_rows(c, job, after=0, limit=99))
    assert [row.row_no for row in rows if row.error_code] == [17]


def test_a_fault_of_any_kind_keeps_no_lease_alive(
    engine: Engine, drain: Drain, classifier: Fragile, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the first chunk fails when the second is computed and the third is read ahead."""
    add(engine, [f"пост {number}" for number in range(40)])

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("not a word that anybody expects")

    monkeypatch.setattr(store, "finish", broken)
    with pytest.raises(RuntimeError, match="not a word"):
        drain.run()
    assert heart.held() == frozenset()
    waiting = run(engine, lambda c: c.execute(text("SELECT first_row FROM chunks WHERE state = 'queued'")).scalars())
    assert 21 in set(waiting)


def test_a_worker_whose_device_is_lost_ends_and_leaves_its_texts_to_another(
    engine: Engine, drain: Drain, classifier: Fragile, heart: Heart
) -> None:
    job = add(engine, ["пост"] * 5)

    def lost() -> None:
        raise DeviceLostError("an illegal memory access")

    classifier.on_compute = lost
    with sigterm_is_sent():
        drain.run()
    assert heart.held() == frozenset()
    found = job_of(engine, job.id)
    assert (found.rows_succeeded, found.rows_failed) == (0, 0)


def test_a_chunk_that_saw_a_death_is_computed_with_nothing_else_in_hand(
    engine: Engine, drain: Drain, classifier: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the chunk before it, still on its way to the database, would share its deaths and in the end its fate."""
    job = add(engine, [f"пост {number}" for number in range(20)])
    second = [take(engine), take(engine)][1]
    run(engine, lambda c: store.begin(c, second.lease))
    run(engine, lambda c: c.execute(text("UPDATE chunks SET lease_until = now() - interval '1 s'")))
    swept = run(engine, sweeping.sweep)
    assert swept is not None
    assert swept.requeued == 2
    seen: list[int] = []
    both_begun = threading.Event()
    finish = store.finish

    def late(*arguments: Any, **more: Any) -> Any:
        both_begun.wait(0.5)
        return finish(*arguments, **more)

    def look() -> None:
        seen.append(job_of(engine, job.id).rows_succeeded)
        if len(seen) == 2:
            both_begun.set()

    monkeypatch.setattr(store, "finish", late)
    classifier.on_compute = look
    drain.run()
    assert seen == [0, 10]


def test_a_chunk_read_ahead_by_a_worker_that_died_is_taken_alone(engine: Engine) -> None:
    """Reading it may be what was deadly, which no worker lives to tell."""
    add(engine, ["a"] * 20)
    first = take(engine)
    run(engine, lambda c: store.expire(c, first.lease))
    run(engine, sweeping.sweep)
    assert run(engine, lambda c: store.claim(c, lane=Lane.BULK, limit=1, lease_seconds=9, beside_others=True)) is None
    again = take(engine)
    assert (again.chunks[0].first_row, again.chunks[0].attempts) == (1, 1)


def test_parts_of_a_chunk_keep_its_turn_and_its_model(engine: Engine, heart: Heart) -> None:
    rows = [NewText("a", "", "")] * 10
    accepting.add_job(engine, NewJob("me", JobKind.FILE), rows, lane=Lane.BULK, chunk_rows=5, model_id=heart.model_id)
    run(engine, lambda c: c.execute(text("""
        UPDATE chunks SET state = 'running', attempts = 3, lease = gen_random_uuid(),
                          lease_until = now() - interval '1 s'
        WHERE first_row = 6
    """)))  # fmt: skip
    run(engine, sweeping.sweep)
    parts = run(
        engine, lambda c: c.execute(text("SELECT first_row, turn, model_id FROM chunks ORDER BY first_row")).all()
    )
    assert [tuple(part) for part in parts] == [(1, 0, heart.model_id)] + [
        (row, 1, heart.model_id) for row in range(6, 11)
    ]


def test_a_copy_that_finds_no_room_is_not_there_now(engine: Engine) -> None:
    """Errors of COPY come from the driver as they are; they mean the same as those of any other statement."""

    class NoRoom(psycopg2.errors.DiskFull):
        pgcode = "53100"

    def no_room() -> Iterator[str]:
        yield "a\n"
        raise NoRoom("could not extend file: No space left on device")

    with pytest.raises(UnavailableError), transaction(engine) as connection:
        copy_in(connection, "texts", ("job_id",), no_room())


def test_connections_that_are_all_in_use_are_not_there_now(settings: Settings) -> None:
    engine = create_engine(settings.database_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    with transaction(engine), pytest.raises(UnavailableError), transaction(engine):
        pytest.fail("a second connection was given")
    engine.dispose()


def test_a_backend_that_ends_in_the_middle_of_a_copy_is_not_there_now(engine: Engine, settings: Settings) -> None:
    def rows() -> Iterator[NewText]:
        for number in range(20_000):
            if number == 10_000:
                ended = run(other, lambda c: c.execute(text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'tests' AND datname = current_database()"
                )).all())  # fmt: skip
                assert ended
            yield NewText("а" * 100, "", "")

    other = make_engine(settings.database_url, pool_size=1, application="executioner")
    with pytest.raises(UnavailableError):
        accepting.add_job(engine, NewJob("me", JobKind.FILE), rows(), lane=Lane.BULK, chunk_rows=100)
    assert run(engine, lambda c: c.execute(text("SELECT count(*) FROM texts")).scalar_one()) == 0
    other.dispose()


def test_twenty_who_cancel_at_once_all_succeed(engine: Engine) -> None:
    job = add(engine, ["a"] * 30)
    gate = threading.Barrier(20)

    def cancel() -> None:
        gate.wait()
        ending.cancel(engine, "me", job.id)

    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(cancel) for _ in range(20)]:
            future.result()
    assert job_of(engine, job.id).state is JobState.CANCELLED


def test_a_process_that_hangs_in_a_transaction_does_not_keep_its_locks(engine: Engine, settings: Settings) -> None:
    """A worker that is frozen while it records would else hold its job against all others for ten minutes."""
    job = add(engine, ["a"])
    hanging = make_engine(settings.database_url, pool_size=1, application="hanging", idle_seconds=0.2)
    lock = text("SELECT state FROM jobs WHERE id = :job FOR UPDATE")

    def hang(connection: Connection) -> None:
        connection.execute(lock, {"job": job.id})
        # Waits for the lock, and gets it when the server has ended the first.
        run(engine, lambda c: c.execute(lock, {"job": job.id}).one())
        connection.execute(lock, {"job": job.id})

    with pytest.raises(UnavailableError):
        run(hanging, hang)
    hanging.dispose()


OLD = date(2020, 1, 1)


def make_old(engine: Engine) -> None:
    """Move all that there is to a day whose time is long over."""

    def step(connection: Connection) -> None:
        for table in partitions.PARTITIONED:
            name = partitions.name_of(table, OLD)
            bounds = f"FOR VALUES FROM ('{OLD}') TO ('{OLD}'::date + 1)"
            connection.execute(text(f"CREATE TABLE {name} PARTITION OF {table} {bounds}"))
        for table in ("jobs", "chunks", "texts"):
            connection.execute(text(f"UPDATE {table} SET day = :day"), {"day": OLD})

    run(engine, step)


def jobs_left(engine: Engine) -> int:
    return run(engine, lambda c: int(c.execute(text("SELECT count(*) FROM jobs")).scalar_one()))


def has_old(engine: Engine) -> bool:
    return OLD in run(engine, partitions.existing_days)


def test_a_day_whose_tables_are_in_use_is_left_for_later(engine: Engine) -> None:
    """Else everybody would queue behind the sweeper, which queues behind one long upload. Its jobs go at once."""
    add(engine, ["старый"])
    make_old(engine)
    with transaction(engine) as connection:
        connection.execute(text("LOCK TABLE texts IN ROW EXCLUSIVE MODE"))
        with pytest.raises(DBAPIError, match="lock timeout"):
            list(keep_house(engine, 30))
        assert (jobs_left(engine), has_old(engine)) == (0, True)
    list(keep_house(engine, 30))
    assert not has_old(engine)


@pytest.mark.parametrize("bound", ["BATCH_JOBS", "BATCH_ROWS"])
def test_sweeps_go_on_while_a_day_is_dropped(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    for number in range(3):
        add(engine, [f"старый {number}"])
    make_old(engine)
    monkeypatch.setattr(partitions, bound, 1)
    stopping = threading.Event()
    seen: list[tuple[int, bool]] = []

    def look(*_: object) -> None:
        seen.append((jobs_left(engine), has_old(engine)))
        if not has_old(engine) or len(seen) == 9:
            stopping.set()

    monkeypatch.setattr(sweeper, "sweep_once", look)
    sweeper.run_sweeper(settings, stopping)
    assert seen == [(3, True), (2, True), (1, True), (0, True), (0, False)]


def test_a_sweeper_waits_for_no_other_that_is_at_the_days(engine: Engine) -> None:
    with transaction(engine) as connection:
        assert partitions.delete_jobs(connection, OLD) == 0
        assert partitions.drop_day(connection, OLD)

        def other(its: Connection) -> None:
            its.execute(text("SET LOCAL lock_timeout = '100ms'"))
            assert sweeping.keep_days(its, 30) == []
            assert partitions.delete_jobs(its, OLD) is None
            assert not partitions.drop_day(its, OLD)

        run(engine, other, attempts=1)


def test_what_was_accepted_for_a_day_at_the_last_moment_goes_with_it(engine: Engine) -> None:
    add(engine, ["старый"])
    make_old(engine)
    run(engine, lambda c: partitions.drop_day(c, OLD))
    assert (jobs_left(engine), has_old(engine)) == (0, False)
