"""Every query that changes something, named for what happens to a text, in the order of its life.

Each change of state is a conditional UPDATE: zero rows is an answer (somebody else was first), not an error. All
functions run in the transaction of the connection that they are given and lock chunks before jobs, so that no two of
them can wait for each other in a circle. What is only read is in `jobs.reading`; how an owner stops or
removes a job is in `jobs.ending`.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import accumulate
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from jobs import asking, meters, tallies
from jobs.copying import copy_in, escaped, json_field, real_array
from jobs.database import transaction
from jobs.partitions import ensure_partitions, name_of
from jobs.records import Chunk, Claim, ClaimedText, NewJob, NewText, Outcome, new_id
from jobs.repeating import if_same, job_of_key
from jobs.states import Lane
from jobs.waiting import require_room

_TEXT_COLUMNS = (
    "job_id", "row_no", "day", "doc_text", "image2text", "speech2text",
    "custom_id", "extra", "error_code", "error_message", "error_column",
)  # fmt: skip
_RESULT_COLUMNS = (
    "job_id", "row_no", "day", "model_id", "probabilities", "truncated", "error_code", "error_message",
)  # fmt: skip


# --- a text is accepted ---------------------------------------------------------------------------------------------


def add_job(
    engine: Engine,
    job: NewJob,
    texts: Iterable[NewText],
    *,
    lane: Lane,
    chunk_rows: int,
    model_id: int | None = None,
) -> tuple[UUID, bool]:
    """Record a job with all its texts in one transaction; return its id and whether it is new.

    `texts` is read once, as fast as Postgres takes it, and never held as a whole; what it raises undoes everything.
    With `model_id` only that model may compute it. The same idempotency key and fingerprint give the job that is
    there. Raises `IdempotencyMismatchError`, `IdempotencyInFlightError`, `TooManyWaitingError` (of explanations
    `TooManyExplanationsError`), `UnavailableError`, and `ValueError` when `texts` is empty.
    """
    with transaction(engine) as connection:
        known = job_of_key(connection, job.owner, job.idempotency.key) if job.idempotency else None
        if job.idempotency and known:
            # What is left of a long body may have to be read for its fingerprint: not within a transaction.
            connection.rollback()
            return if_same(known, job.idempotency), False
        day = today(engine, connection)
        job_id = new_id()
        counter = _Counter()
        copy_in(connection, "texts", _TEXT_COLUMNS, counter.lines(job_id, day, texts))
        accept(
            connection,
            job,
            job_id,
            day,
            lane=lane,
            chunk_rows=chunk_rows,
            rows=counter.rows,
            any_failed=counter.failed > 0,
            model_id=model_id,
        )
        asking.ask_with(connection, job.owner, job_id, day, counter.explained, job.max_explanations)
        return job_id, True


def accept(
    connection: Connection,
    job: NewJob,
    job_id: UUID,
    day: date,
    *,
    lane: Lane,
    chunk_rows: int,
    rows: int,
    any_failed: bool = True,
    model_id: int | None = None,
) -> None:
    """Record the job of `rows` texts that the same transaction has written, with its chunks and its failed rows.

    With `any_failed` false the texts are not searched for rows that could not be read.

    Its first chunk gets the turn that is being worked on in the lane, each further one the next: from now on it shares
    the workers with the jobs that wait, and neither waits for them nor overtakes them (start-time fair queueing: Goyal,
    Vin and Cheng, 1996). A job that waits for a model which nobody runs does not hold that time back, and what other
    models are working on does not put it forward: a worker on trial is soon far ahead in the one job that it may do.
    Raises `ValueError` when there are no rows, and `TooManyWaitingError` beyond what the job says of that.
    """
    if rows == 0:
        raise ValueError("a job needs at least one text")
    if job.max_waiting is not None:
        require_room(connection, job.owner, rows, job.max_waiting)
    key, fingerprint = (job.idempotency.key, job.idempotency.read()) if job.idempotency else (None, None)
    connection.execute(
        text("""
            WITH failed AS (
                SELECT job_id, row_no, day, error_code, error_message, error_column
                FROM texts WHERE job_id = :id AND day = :day AND error_code IS NOT NULL AND :any_failed
            ), job AS (
                INSERT INTO jobs (id, day, owner, kind, state, filename, layout, model_id, rows_total, rows_failed,
                                  failures, created_at, idempotency_key, fingerprint)
                SELECT :id, :day, :owner, :kind, 'queued', :filename, CAST(:layout AS jsonb),
                       coalesce(:model, (SELECT id FROM models WHERE active)), :rows, coalesce(sum(n), 0),
                       coalesce(jsonb_object_agg(error_code, n) FILTER (WHERE n > 0), '{}'), now(), :key, :fingerprint
                FROM (SELECT error_code, count(*) AS n FROM failed GROUP BY 1) AS counted
            )
            INSERT INTO results (job_id, row_no, day, error_code, error_message, error_column) SELECT * FROM failed
        """),
        {
            "id": job_id,
            "day": day,
            "owner": job.owner,
            "kind": job.kind,
            "filename": job.filename,
            "layout": _json(job.read_layout()),
            "rows": rows,
            "any_failed": any_failed,
            "model": model_id,
            "key": key,
            "fingerprint": fingerprint,
        },
    )
    connection.execute(
        text("""
            INSERT INTO chunks (job_id, first_row, row_count, day, lane, turn, model_id, state)
            SELECT :id, first, least(:size, :rows - first + 1), :day, :lane,
                   greatest((SELECT max(turn) FROM chunks WHERE state = 'running' AND lane = :lane AND
                                coalesce(model_id, (SELECT id FROM models WHERE active)) IS NOT DISTINCT FROM
                                coalesce(:model, (SELECT id FROM models WHERE active))),
                            (SELECT min(turn) FROM chunks WHERE state = 'queued' AND lane = :lane), 0)
                   + (first - 1) / :size,
                   :model, 'queued'
            FROM generate_series(1, :rows, :size) AS first
        """),
        {
            "id": job_id,
            "size": chunk_rows,
            "rows": rows,
            "day": day,
            "lane": int(lane),
            "model": model_id,
        },
    )


def today(engine: Engine, connection: Connection) -> date:
    """The day whose partitions take new texts; they are made here should the sweeper have been away for a week."""
    day: date = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    there = connection.execute(text("SELECT to_regclass(:name)"), {"name": name_of("texts", day)}).scalar_one()
    if there is None:
        with transaction(engine) as other:
            ensure_partitions(other)
    return day


class _Counter:
    """Makes the COPY lines of texts and counts them on the way."""

    def __init__(self) -> None:
        self.rows = 0
        self.failed = 0
        self.explained: list[int] = []

    def lines(self, job_id: UUID, day: date, texts: Iterable[NewText]) -> Iterator[str]:
        start, end = f"{job_id}\t", f"\t{day.isoformat()}\t"
        for row in texts:
            self.rows += 1
            tail = "\t\\N\t\\N\t\\N\n"
            if row.explain:
                self.explained.append(self.rows)
            if row.error_code is not None:
                self.failed += 1
                tail = f"\t{escaped(row.error_code)}\t{escaped(row.error_message)}\t{escaped(row.error_column)}\n"
            yield (
                f"{start}{self.rows}{end}{escaped(row.doc_text)}\t{escaped(row.image2text)}\t"
                f"{escaped(row.speech2text)}\t{escaped(row.custom_id)}\t{json_field(row.extra)}{tail}"
            )


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


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
