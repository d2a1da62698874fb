"""A text is accepted: a job with its texts and its chunks is recorded, in one transaction.

What becomes of it then is in `jobs.store`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs import asking
from jobs.copying import copy_in, escaped, json_field
from jobs.database import transaction
from jobs.partitions import ensure_partitions, name_of
from jobs.records import NewJob, NewText, new_id
from jobs.repeating import if_same, job_of_key
from jobs.states import Lane
from jobs.waiting import require_room

_TEXT_COLUMNS = (
    "job_id", "row_no", "day", "doc_text", "image2text", "speech2text",
    "custom_id", "extra", "error_code", "error_message", "error_column",
)  # fmt: skip


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


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
