"""Every query that changes a text that was accepted, named for what happens to it, in the order of its life.

Each change of state is a conditional UPDATE: zero rows is an answer (somebody else was first), not an error. All
functions run in the transaction of the connection that they are given and lock chunks before jobs, so that no two of
them can wait for each other in a circle. How a text is accepted is in `jobs.accepting`, what is only read in
`jobs.reading`; how an owner stops or removes a job is in `jobs.ending`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from jobs import asking, meters, tallies
from jobs.copying import copy_in, escaped, real_array
from jobs.records import Chunk, Claim, ClaimedText, Outcome
from jobs.states import Lane

_RESULT_COLUMNS = (
    "job_id", "row_no", "day", "model_id", "probabilities", "truncated", "error_code", "error_message",
)  # fmt: skip


# --- a worker takes it ----------------------------------------------------------------------------------------------


def claim(
    connection: Connection,
    *,
    lane: Lane,
    limit: int,
    lease_seconds: float,
    max_rows: int | None = None,
    model_id: int | None = None,
    named_only: bool = False,
    beside_others: bool = False,
) -> Claim | None:
    """Take up to `limit` waiting chunks of a lane under a new lease; None when nothing waits for this model.

    With `max_rows` no more than so many rows, unless the first chunk alone has more.

    Chunks are taken by their turn, which gives every job a fair share, and never those that ask for another model than
    `model_id`; with `named_only` those alone that ask for it. A chunk that a worker has begun on before is taken alone,
    so that a text that kills workers takes no neighbour along; when it is the turn of such a one, a caller who has
    other chunks in hand (`beside_others`) gets None and comes back when these are done.
    """
    waiting = connection.execute(
        text("""
            SELECT job_id, day, first_row, row_count, attempts FROM chunks
            WHERE state = 'queued' AND lane = :lane
              AND (model_id = :model OR (model_id IS NULL AND NOT :named_only))
            ORDER BY turn, job_id, first_row FOR UPDATE SKIP LOCKED LIMIT :limit
        """),
        {"lane": int(lane), "limit": limit, "model": model_id, "named_only": named_only},
    ).all()
    if not waiting or (beside_others and waiting[0].attempts):
        return None
    taken = waiting[:1] if waiting[0].attempts else [chunk for chunk in waiting if not chunk.attempts]
    if max_rows is not None:
        ends = list(accumulate(chunk.row_count for chunk in taken))
        taken = taken[: max(1, bisect_right(ends, max_rows))]
    lease = uuid4()
    connection.execute(
        text("""
            UPDATE chunks SET state = 'running', lease = :lease,
                              lease_until = now() + make_interval(secs => :seconds)
            FROM unnest(CAST(:jobs AS uuid[]), CAST(:firsts AS integer[])) AS taken(job_id, first_row)
            WHERE chunks.job_id = taken.job_id AND chunks.first_row = taken.first_row
        """),
        {
            "lease": lease,
            "seconds": lease_seconds,
            "jobs": [chunk.job_id for chunk in taken],
            "firsts": [chunk.first_row for chunk in taken],
        },
    )
    return Claim(lease, tuple(Chunk(**chunk._mapping) for chunk in taken))


def read_texts(connection: Connection, claimed: Claim) -> list[ClaimedText]:
    """The texts of the claimed chunks that a model can read, by chunk and row."""
    of = [(chunk.job_id, chunk.day) for chunk in claimed.chunks]
    # What its chunk says already is not read again with each text. OFFSET keeps Postgres from joining the ranges with
    # all texts of the day: each is one look into the primary key.
    rows = connection.exec_driver_sql(
        """
        SELECT n, row_no, doc_text, image2text, speech2text
        FROM unnest(%(jobs)s::uuid[], %(days)s::date[], %(firsts)s::integer[], %(counts)s::integer[])
            WITH ORDINALITY AS mine(job, of_day, first, count, n),
        LATERAL (SELECT row_no, doc_text, image2text, speech2text FROM texts
                 WHERE job_id = job AND day = of_day AND row_no >= first AND row_no < first + count
                   AND error_code IS NULL OFFSET 0) AS its
        """,
        {
            "jobs": [chunk.job_id for chunk in claimed.chunks],
            "days": [chunk.day for chunk in claimed.chunks],
            "firsts": [chunk.first_row for chunk in claimed.chunks],
            "counts": [chunk.row_count for chunk in claimed.chunks],
        },
    )
    return [ClaimedText(*of[row[0] - 1], *row[1:]) for row in sorted(rows, key=itemgetter(0, 1))]


def begin(connection: Connection, lease: UUID) -> bool:
    """Note that computing begins, which is what a death is counted against; False when the lease is lost."""
    begun = connection.execute(
        text("""
            UPDATE chunks SET attempts = attempts + 1 WHERE lease = :lease AND state = 'running'
            RETURNING job_id
        """),
        {"lease": lease},
    ).scalars()
    jobs = sorted(set(begun))
    if jobs:
        connection.execute(
            text("UPDATE jobs SET state = 'running', started_at = now() WHERE id = ANY(:jobs) AND state = 'queued'"),
            {"jobs": jobs},
        )
    return bool(jobs)


def extend(connection: Connection, leases: Sequence[UUID], lease_seconds: float) -> None:
    """A sign of life: the leases run `lease_seconds` from now."""
    connection.execute(
        text("""
            UPDATE chunks SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
            WHERE lease = ANY(:leases) AND state = 'running'
        """),
        {"leases": list(leases), "seconds": lease_seconds},
    )


def expire(connection: Connection, lease: UUID) -> None:
    """End a lease on which computing failed as a whole; the sweeper treats it as that of a worker that died."""
    connection.execute(
        text("UPDATE chunks SET lease_until = now() WHERE lease = :lease AND state = 'running'"),
        {"lease": lease},
    )


def relaxed(connection: Connection) -> None:
    """Let this transaction commit without waiting for the disk.

    For claims and signs of life: should Postgres crash and forget one, the chunk is simply waiting again.
    """
    connection.execute(text("SET LOCAL synchronous_commit = off"))


def release(connection: Connection, lease: UUID) -> None:
    """Give back what was claimed and not begun: others may take it at once."""
    connection.execute(
        text("""
            UPDATE chunks SET state = 'queued', lease = NULL, lease_until = NULL
            WHERE lease = :lease AND state = 'running'
        """),
        {"lease": lease},
    )


# --- its result is recorded -----------------------------------------------------------------------------------------


def finish(
    connection: Connection,
    lease: UUID,
    model_id: int,
    outcomes: Sequence[Outcome],
    *,
    worker: str = meters.PAST,
    spent: Mapping[str, float] | None = None,
) -> list[UUID]:
    """Record what was computed under a lease, all or nothing; return the jobs that are finished by it.

    The fence comes first: chunks that are no longer ours (another worker took over, the job was deleted) are left out,
    and their outcomes with them, so that a text may be computed twice and is never recorded twice. Repeating the call
    after a commit whose answer was lost changes nothing. The rows, and what they have cost (`spent`, see
    `jobs.meters`), are added to the sums of `worker` in the same transaction: these count what is recorded.
    """
    mine = connection.execute(
        text("""
            UPDATE chunks SET state = 'done', lease_until = NULL, finished_at = clock_timestamp()
            WHERE lease = :lease AND state = 'running'
            RETURNING job_id, first_row, row_count
        """),
        {"lease": lease},
    ).all()
    if not mine:
        return []
    held: dict[UUID, set[int]] = {}
    for chunk in mine:
        held.setdefault(chunk.job_id, set()).update(range(chunk.first_row, chunk.first_row + chunk.row_count))
    kept = [outcome for outcome in outcomes if outcome.text.row_no in held.get(outcome.text.job_id, ())]
    copy_in(connection, "results", _RESULT_COLUMNS, _result_lines(kept, model_id))
    asking.results_are_in(connection, kept, model_id)
    succeeded = dict.fromkeys(held, 0)
    failed = dict.fromkeys(held, 0)
    cached = dict.fromkeys(held, 0)
    for outcome in kept:
        (failed if outcome.probabilities is None else succeeded)[outcome.text.job_id] += 1
        cached[outcome.text.job_id] += outcome.cached
    settled = count_rows(connection, succeeded, failed, model_id, cached)
    tallies.add(connection, model_id, kept)
    meters.add(connection, worker, {**meters.rows_of(kept), **(spent or {})})
    return settled


def _result_lines(outcomes: Sequence[Outcome], model_id: int) -> Iterator[str]:
    job_id, start, end = None, "", ""
    for outcome in outcomes:
        source = outcome.text
        if source.job_id != job_id:
            job_id, start, end = source.job_id, f"{source.job_id}\t", f"\t{source.day.isoformat()}\t{model_id}\t"
        yield (
            f"{start}{source.row_no}{end}{real_array(outcome.probabilities)}\t{'t' if outcome.truncated else 'f'}\t"
            f"{escaped(outcome.error_code)}\t{escaped(outcome.error_message)}\n"
        )


def count_rows(
    connection: Connection,
    succeeded: Mapping[UUID, int],
    failed: Mapping[UUID, int],
    model_id: int | None,
    cached: Mapping[UUID, int] | None = None,
) -> list[UUID]:
    """Add recorded rows to the counts of their jobs, in the order of the ids, and settle those that are complete."""
    jobs = sorted(succeeded)
    connection.execute(text("SELECT 1 FROM jobs WHERE id = ANY(:jobs) ORDER BY id FOR UPDATE"), {"jobs": jobs})
    connection.execute(
        text("""
            UPDATE jobs SET rows_succeeded = rows_succeeded + more.succeeded, rows_failed = rows_failed + more.failed,
                            rows_cached = rows_cached + more.cached, model_id = coalesce(:model, jobs.model_id)
            FROM unnest(CAST(:jobs AS uuid[]), CAST(:succeeded AS integer[]), CAST(:failed AS integer[]),
                        CAST(:cached AS integer[])) AS more(id, succeeded, failed, cached)
            WHERE jobs.id = more.id
        """),
        {
            "jobs": jobs,
            "succeeded": [succeeded[job] for job in jobs],
            "failed": [failed[job] for job in jobs],
            "cached": [(cached or {}).get(job, 0) for job in jobs],
            "model": model_id,
        },
    )
    return settle(connection, jobs)


def settle(connection: Connection, jobs: Sequence[UUID]) -> list[UUID]:
    """Give the jobs that have no open chunk left, and nothing to explain, their terminal state; return these.

    A statement of its own after the counts were locked, so that of two workers who finish the last two chunks at once
    the second sees what the first has committed.
    """
    return list(
        connection.execute(
            text("""
                UPDATE jobs SET finished_at = clock_timestamp(), started_at = coalesce(started_at, created_at), state =
                    CASE WHEN rows_succeeded + rows_failed < rows_total THEN 'cancelled'
                         WHEN rows_failed = 0 THEN 'succeeded'
                         WHEN rows_succeeded = 0 THEN 'failed'
                         ELSE 'partially_succeeded' END
                WHERE id = ANY(:jobs) AND finished_at IS NULL AND NOT EXISTS (
                    SELECT 1 FROM chunks WHERE job_id = jobs.id AND state IN ('queued', 'running'))
                  AND NOT EXISTS (
                    SELECT 1 FROM explanations
                    WHERE job_id = jobs.id AND state IN ('queued', 'running') AND with_text)
                RETURNING id
            """),
            {"jobs": list(jobs)},
        ).scalars(),
    )
