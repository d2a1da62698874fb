"""The running sums of a job say what its results say, whatever was recorded, in whatever order."""

from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from jobs import accepting, fleet, reading, store, summing, sweeping, tallies
from jobs.database import make_engine, run
from jobs.records import Claim, ClaimedText, Model, NewJob, NewText, Outcome, Topic
from jobs.states import JobKind, Lane, RowError

TOPICS = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.41), Topic("x", "Икс", "X", 0.05))


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = make_engine(database, pool_size=8, application="tests")
    yield made
    made.dispose()


def register(connection: Connection, topics: tuple[Topic, ...] = TOPICS, sha256: str = "0" * 64) -> Model:
    model_id = fleet.register_model(connection, name="m", version="1", sha256=sha256, topics=topics, card={})
    return next(model for model in fleet.models(connection) if model.id == model_id)


def add(engine: Engine, texts: list[NewText], chunk_rows: int = 4) -> UUID:
    new = NewJob("me", JobKind.FILE, "posts.csv", {"columns": ["text"]})
    return accepting.add_job(engine, new, texts, lane=Lane.BULK, chunk_rows=chunk_rows)[0]


def take(engine: Engine, limit: int = 1) -> Claim | None:
    return run(engine, lambda c: store.claim(c, lane=Lane.BULK, limit=limit, lease_seconds=30))


def read(engine: Engine, claimed: Claim) -> list[ClaimedText]:
    return run(engine, lambda c: store.read_texts(c, claimed))


def finish(engine: Engine, claimed: Claim, model: Model, outcomes: list[Outcome]) -> None:
    run(engine, lambda c: store.finish(c, claimed.lease, model.id, outcomes))


def finish_some(engine: Engine, model: Model, probabilities: list[float]) -> bool:
    """Compute one chunk; False when none waits."""
    claimed = take(engine)
    if claimed is not None:
        finish(engine, claimed, model, [Outcome(one, probabilities) for one in read(engine, claimed)])
    return claimed is not None


def finish_all(engine: Engine, model: Model, probabilities: list[float]) -> None:
    while finish_some(engine, model, probabilities):
        pass


def summary(engine: Engine, job_id: UUID, model: Model, **thresholds: float) -> summing.Summary:
    job = run(engine, lambda c: reading.get_job(c, "me", job_id))
    return run(engine, lambda c: summing.summarise(c, job, model, thresholds))


def counted(engine: Engine, job_id: UUID, model: Model) -> summing.Summary:
    """The same without any tally: counted by Postgres over the results."""
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT * FROM tallies WHERE job_id = :job"), {"job": job_id}).all()
        connection.execute(text("DELETE FROM tallies WHERE job_id = :job"), {"job": job_id})
        connection.commit()
    found = summary(engine, job_id, model)
    with engine.begin() as connection:
        for row in kept:
            names = ", ".join(row._fields)
            values = ", ".join(f":{name}" for name in row._fields)
            connection.execute(text(f"INSERT INTO tallies ({names}) VALUES ({values})"), dict(row._mapping))
    return found


def assert_same(found: summing.Summary, wanted: summing.Summary) -> None:
    assert (found.computed, found.none_assigned, found.truncated) == (
        wanted.computed, wanted.none_assigned, wanted.truncated,
    )  # fmt: skip
    assert found.pairs == wanted.pairs
    assert found.failures == wanted.failures
    assert found.others == wanted.others
    for mine, other in zip(found.topics, wanted.topics, strict=True):
        assert (mine.topic, mine.assigned, mine.histogram) == (other.topic, other.assigned, other.histogram)
        assert (mine.mean_probability is None) == (other.mean_probability is None)
        assert (mine.mean_probability or 0.0) == pytest.approx(other.mean_probability or 0.0)


# Edges of bins and the thresholds themselves are where two ways of counting would differ.
EDGES = [0.0, 1.0, *(float(np.float32(number / 20)) for number in range(21))]
EDGES += [float(np.float32(topic.threshold)) for topic in TOPICS]
probability = st.one_of(st.sampled_from(EDGES), st.floats(0, 1, width=32))
outcome = st.one_of(st.tuples(st.lists(probability, min_size=3, max_size=3), st.booleans()), st.none())


@given(
    outcomes=st.lists(outcome, min_size=1, max_size=24),
    chunk_rows=st.integers(1, 9),
    together=st.integers(1, 4),
    bad=st.sets(st.integers(0, 23), max_size=3),
    lost=st.booleans(),
)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_tallies_say_what_the_results_say(
    engine: Engine,
    outcomes: list[tuple[list[float], bool] | None],
    chunk_rows: int,
    together: int,
    bad: set[int],
    lost: bool,
) -> None:
    model = run(engine, register)
    good, empty = NewText("а", "", ""), NewText("", "", "", error_code=RowError.EMPTY)
    job_id = add(engine, [empty if number in bad else good for number in range(len(outcomes))], chunk_rows)
    while claimed := take(engine, together):
        results = []
        for one in read(engine, claimed):
            computed = outcomes[one.row_no - 1]
            if computed is None:
                results.append(Outcome(one, None, False, RowError.MODEL_FAILED, "it broke"))
            else:
                results.append(Outcome(one, *computed))
        if lost:
            # The first claim is lost to another worker: what it reports is fenced off, and counted nowhere.
            lost = False
            lease = claimed.lease
            run(engine, lambda c, lease=lease: store.release(c, lease))  # type: ignore[misc]
        finish(engine, claimed, model, results)
        finish(engine, claimed, model, results)
    found = summary(engine, job_id, model)
    assert found.computed == sum(one is not None for n, one in enumerate(outcomes) if n not in bad)
    assert_same(found, counted(engine, job_id, model))
    stricter = summary(engine, job_id, model, sport=0.75)
    wanted = sum(
        one is not None and np.float32(one[0][0]) >= np.float32(0.75) for n, one in enumerate(outcomes) if n not in bad
    )
    assert stricter.topics[0].assigned == wanted
    assert stricter.topics[0].histogram == found.topics[0].histogram


def test_thresholds_that_change_do_not_make_a_tally_lie(engine: Engine) -> None:
    model = run(engine, register)
    job_id = add(engine, [NewText("а", "", "")] * 8)
    assert finish_some(engine, model, [0.6, 0.1, 0.9])
    changed = (Topic("sport", "Спорт", "Sport", 0.7), *TOPICS[1:])
    again = run(engine, lambda c: register(c, changed))
    assert again.id == model.id
    finish_all(engine, again, [0.6, 0.5, 0.9])
    found = summary(engine, job_id, again)
    assert [topic.assigned for topic in found.topics] == [0, 4, 8]
    assert [topic.assigned for topic in summary(engine, job_id, model).topics] == [8, 4, 8]
    assert_same(found, counted(engine, job_id, again))


def test_a_tally_of_only_the_last_rows_is_not_believed(engine: Engine) -> None:
    model = run(engine, register)
    job_id = add(engine, [NewText("а", "", "")] * 8)
    finish_all(engine, model, [0.6, 0.5, 0.9])
    with engine.begin() as connection:
        connection.execute(text("UPDATE tallies SET computed = 4, probability_sums = '{0,0,0}'"))
    assert run(engine, lambda c: tallies.read(c, job_id)) is None
    found = summary(engine, job_id, model)
    assert (found.computed, found.topics[0].assigned) == (8, 8)
    assert found.topics[0].mean_probability == pytest.approx(0.6)


def test_rows_of_two_models_have_a_tally_each(engine: Engine) -> None:
    model = run(engine, register)
    job_id = add(engine, [NewText("а", "", "")] * 12)
    assert finish_some(engine, model, [0.6, 0.1, 0.9])
    other = run(engine, lambda c: register(c, TOPICS[::-1], sha256="1" * 64))
    finish_all(engine, other, [0.9, 0.1, 0.2])
    for one, its_rows, beside, rows in ((model, 4, other, 8), (other, 8, model, 4)):
        found = summary(engine, job_id, one)
        assert (found.computed, found.others) == (its_rows, {beside.id: rows})
        assert_same(found, counted(engine, job_id, one))
    kept = run(engine, lambda c: tallies.read(c, job_id)) or {}
    assert [(model_id, tally.computed) for model_id, tally in kept.items()] == [(other.id, 8), (model.id, 4)]


def test_more_topics_than_bits_of_a_number(engine: Engine) -> None:
    topics = tuple(Topic(f"t{number}", "Т", "T", 0.5) for number in range(130))
    model = run(engine, lambda c: register(c, topics))
    job_id = add(engine, [NewText("а", "", "")] * 2)
    finish_all(engine, model, [0.9 if number in {0, 31, 59, 60, 129} else 0.1 for number in range(130)])
    found = summary(engine, job_id, model)
    assert [n for n, topic in enumerate(found.topics) if topic.assigned == 2] == [0, 31, 59, 60, 129]
    assert_same(found, counted(engine, job_id, model))


def test_rows_that_no_worker_survives_are_counted_with_their_reason(engine: Engine) -> None:
    model = run(engine, register)
    job_id = add(engine, [NewText("а", "", ""), NewText("", "", "", error_code=RowError.EMPTY)], chunk_rows=1)
    with engine.begin() as connection:
        connection.execute(
            text("""
                UPDATE chunks SET state = 'running', attempts = 3, lease = gen_random_uuid(), lease_until = now()
                WHERE first_row = 1
            """)
        )
    run(engine, sweeping.sweep)
    finish_all(engine, model, [0.6, 0.5, 0.9])
    failures = summary(engine, job_id, model).failures
    assert {code: (found.rows, found.examples) for code, found in failures.items()} == {
        RowError.WORKER_LOST: (1, (1,)),
        RowError.EMPTY: (1, (2,)),
    }
