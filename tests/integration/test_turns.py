"""Whose turn it is: fair shares of jobs, chunks that come back, models that are asked for, places in the queue."""

from uuid import UUID

from sqlalchemy import Engine, text

from jobs import accepting, fleet, store, sweeping
from jobs.database import run
from jobs.records import NewJob
from jobs.states import JobKind, JobState, Lane
from tests.integration.store_support import TOPICS, add, job_of, posts, take, work
from tests.support import wait_until


def test_a_small_job_does_not_wait_for_a_large_one(engine: Engine, model: int) -> None:
    large = add(engine, 12, chunk_rows=2)
    work(engine, model)
    small = add(engine, 2, chunk_rows=2)
    assert [small] in (work(engine, model), work(engine, model))
    assert job_of(engine, large).state is JobState.RUNNING


def shares(engine: Engine, claims: int) -> list[UUID]:
    """The jobs whose chunks are claimed, one after the other."""
    found = []
    for _ in range(claims):
        claimed = run(engine, take)
        assert claimed is not None
        found.append(claimed.chunks[0].job_id)
    return found


def test_two_large_jobs_progress_alike_from_when_the_second_came(engine: Engine) -> None:
    first = add(engine, 80, chunk_rows=2)
    assert set(shares(engine, 10)) == {first}
    second = add(engine, 80, chunk_rows=2)
    both = shares(engine, 40)
    assert (both.count(first), both.count(second)) == (20, 20)
    third = add(engine, 6, chunk_rows=2)
    assert {job: shares(engine, 9).count(job) for job in (third,)} == {third: 3}


def test_a_chunk_that_comes_back_goes_next_and_lets_no_late_job_overtake(engine: Engine) -> None:
    early = add(engine, 80, chunk_rows=2)
    lost = run(engine, lambda c: take(c, seconds=0.05))
    assert lost is not None
    shares(engine, 10)
    wait_until(lambda: bool((swept := run(engine, sweeping.sweep)) and swept.requeued), what="the lease to expire")
    late = add(engine, 80, chunk_rows=2)
    again = run(engine, take)
    assert again is not None
    assert again.chunks[0].first_row == lost.chunks[0].first_row
    both = shares(engine, 20)
    assert (both.count(early), both.count(late)) == (10, 10)


def test_parts_of_a_split_chunk_keep_its_turn(engine: Engine) -> None:
    add(engine, 16, chunk_rows=8)
    run(
        engine,
        lambda c: c.execute(
            text("""
                UPDATE chunks SET state = 'running', lease = gen_random_uuid(), lease_until = now() - interval '1 s',
                                  attempts = 3 WHERE first_row = 9
            """)
        ),
    )
    swept = run(engine, sweeping.sweep)
    assert swept is not None
    assert swept.split == 1
    turns = run(engine, lambda c: c.execute(text("SELECT turn FROM chunks ORDER BY first_row")).scalars().all())
    assert turns == [0] + [1] * 8


def test_a_chunk_that_asks_for_a_model_waits_for_it(engine: Engine, model: int) -> None:
    other = run(
        engine,
        lambda c: fleet.register_model(c, name="n", version="2", sha256="1" * 64, topics=TOPICS, card={}),
    )
    job = NewJob("me", JobKind.FILE)
    bound, _ = accepting.add_job(engine, job, posts(2), lane=Lane.BULK, chunk_rows=1, model_id=other)
    free, _ = accepting.add_job(engine, job, posts(2), lane=Lane.BULK, chunk_rows=1)

    def jobs_for(model_id: int | None, limit: int) -> list[UUID]:
        claimed = run(engine, lambda c: store.claim(c, lane=Lane.BULK, limit=limit, lease_seconds=9, model_id=model_id))
        return [chunk.job_id for chunk in claimed.chunks] if claimed else []

    assert jobs_for(None, 1) == [free]
    assert jobs_for(model, 9) == [free]
    assert jobs_for(model, 9) == []
    assert jobs_for(other, 9) == [bound, bound]


def test_what_a_worker_on_trial_is_far_ahead_in_does_not_put_new_jobs_off(engine: Engine, model: int) -> None:
    tried = run(
        engine,
        lambda c: fleet.register_model(
            c, name="n", version="2", sha256="1" * 64, topics=TOPICS, card={}, activate=False
        ),
    )
    long = add(engine, 80, chunk_rows=2)

    def jobs_of(model_id: int, claims: int) -> list[UUID]:
        """The jobs of so many claims; where none is left, there are fewer."""
        found = []
        for _ in range(claims):
            claimed = run(
                engine,
                lambda c: store.claim(
                    c, lane=Lane.BULK, limit=1, lease_seconds=9, model_id=model_id, named_only=model_id == tried
                ),
            )
            found += [chunk.job_id for chunk in claimed.chunks] if claimed else []
        return found

    assert jobs_of(model, 2) == [long, long]
    job = NewJob("me", JobKind.FILE)
    rerun, _ = accepting.add_job(engine, job, posts(80), lane=Lane.BULK, chunk_rows=2, model_id=tried)
    assert set(jobs_of(tried, 30)) == {rerun}
    late = add(engine, 20, chunk_rows=2)
    both = jobs_of(model, 20)
    assert (both.count(long), both.count(late)) == (10, 10)
    # Two jobs for the model on trial share it, however far the others are; what names no model is left to these.
    second, _ = accepting.add_job(engine, job, posts(10), lane=Lane.BULK, chunk_rows=2, model_id=tried)
    both = jobs_of(tried, 10)
    assert (both.count(rerun), both.count(second)) == (5, 5)
    assert jobs_of(tried, 10) == [rerun] * 5
    assert jobs_of(model, 20) == [long] * 20


def test_a_claim_holds_no_more_rows_than_were_asked_for_but_one_chunk_at_least(engine: Engine) -> None:
    add(engine, 12, chunk_rows=4)

    def rows(max_rows: int) -> int:
        claimed = run(engine, lambda c: store.claim(c, lane=Lane.BULK, limit=9, max_rows=max_rows, lease_seconds=9))
        assert claimed is not None
        run(engine, lambda c: store.release(c, claimed.lease))
        return sum(chunk.row_count for chunk in claimed.chunks)

    assert [rows(most) for most in (1, 4, 7, 8, 100)] == [4, 4, 4, 8, 12]


def test_the_place_in_the_queue_counts_the_jobs_whose_turn_is_earlier(engine: Engine, model: int) -> None:
    first, second, third = (add(engine, 8) for _ in range(3))
    assert [job_of(engine, job).queue_position for job in (first, second, third)] == [0, 1, 2]
    work(engine, model)
    assert [job_of(engine, job).queue_position for job in (second, third)] == [0, 1]
