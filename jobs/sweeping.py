"""The queries of the sweeper: what was left lying by workers that died comes back to work, or to an end.

The sweeper, not the broker, is the guarantee that every accepted text ends with a result or an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from jobs import asking, explaining, meters, tallies
from jobs.meters import Meter
from jobs.partitions import ensure_partitions, existing_days
from jobs.records import Sweep
from jobs.states import RowError
from jobs.store import count_rows, relaxed, settle

SWEEP_LOCK = 0x52554253
MAX_ATTEMPTS = 3
"""So many workers may die on a chunk before it is split, or, when it is one text, given up."""

SPLIT_INTO = 8
WORKER_GONE_SECONDS = 3600


@dataclass(frozen=True)
class _Expired:
    job_id: UUID
    day: date
    first_row: int
    row_count: int
    attempts: int
    cancelling: bool


def sweep(connection: Connection) -> Sweep | None:
    """Bring back expired leases and settle what is complete, in one transaction; None when another sweeper is at it.

    An expired chunk is queued again; one that was only read ahead counts as begun, because reading it may be what was
    deadly, and so it is taken alone from here on. After `MAX_ATTEMPTS` deaths a chunk is split into `SPLIT_INTO` parts,
    which get one attempt each before they are split in turn, until the one text that kills workers stands alone; that
    one is recorded as failed.
    """
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SWEEP_LOCK}).scalar_one():
        return None
    requeued = split = 0
    lost: list[_Expired] = []
    touched: set[UUID] = set()
    for chunk in _expired(connection):
        touched.add(chunk.job_id)
        if chunk.cancelling:
            _set_state(connection, chunk, "cancelled")
        elif chunk.attempts < MAX_ATTEMPTS:
            _set_state(connection, chunk, "queued")
            requeued += 1
        elif chunk.row_count > 1:
            _split(connection, chunk)
            split += 1
        else:
            _set_state(connection, chunk, "done")
            lost.append(chunk)
    settled = _give_up(connection, lost)
    connection.execute(
        text("""
            UPDATE chunks SET state = 'cancelled', finished_at = now() WHERE (job_id, first_row) IN (
                SELECT job_id, first_row FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE jobs.state = 'cancelling' AND chunks.state = 'queued' FOR UPDATE OF chunks SKIP LOCKED)
        """),
    )
    cancelling = connection.execute(text("SELECT id FROM jobs WHERE state = 'cancelling'")).scalars().all()
    explained = explaining.sweep(connection)
    settled += settle(connection, sorted({*touched, *cancelling}))
    waiting, oldest = connection.execute(
        text("""
            SELECT count(*), extract(epoch FROM now() - min(queued_at))::float
            FROM (SELECT queued_at FROM chunks WHERE state = 'queued'
                  ORDER BY lane, turn, job_id LIMIT 1000) AS waiting
        """),
    ).one()
    if not (touched or settled or explained):
        # A sweep that found nothing to do need not wait for the disk to say so.
        relaxed(connection)
    done: dict[str, float] = {
        Meter.SWEEPS: 1,
        Meter.LEASES_REQUEUED: requeued,
        Meter.LEASES_SPLIT: split,
        Meter.LEASES_GIVEN_UP: len(lost),
        Meter.ROWS_FAILED: len(lost),
    }
    meters.add(connection, meters.SWEEPER, done)
    to_explain = explaining.waiting(connection)
    return Sweep(requeued, split, len(lost), waiting + to_explain, oldest, tuple(dict.fromkeys([*settled, *explained])))


def _expired(connection: Connection) -> list[_Expired]:
    rows = connection.execute(
        text("""
            SELECT job_id, chunks.day, first_row, row_count, attempts, jobs.state = 'cancelling' AS cancelling
            FROM chunks JOIN jobs ON jobs.id = job_id
            WHERE chunks.state = 'running' AND lease_until < now()
            ORDER BY job_id, first_row FOR UPDATE OF chunks SKIP LOCKED LIMIT 200
        """),
    )
    return [_Expired(**row._mapping) for row in rows]


def _key(chunk: _Expired) -> dict[str, Any]:
    return {"job": chunk.job_id, "first": chunk.first_row}


def _set_state(connection: Connection, chunk: _Expired, state: str) -> None:
    """End a lease. A chunk that is queued again gets the smallest turn that waits, which is its turn now."""
    connection.execute(
        text("""
            UPDATE chunks SET state = :state, lease_until = NULL, attempts = greatest(attempts, 1),
                              lease = CASE WHEN :state = 'queued' THEN NULL ELSE lease END,
                              finished_at = CASE WHEN :state = 'queued' THEN NULL ELSE now() END,
                              turn = greatest(turn, (
                                  SELECT min(turn) FROM chunks AS fresh
                                  WHERE state = 'queued' AND fresh.lane = chunks.lane AND fresh.attempts = 0))
            WHERE job_id = :job AND first_row = :first
        """),
        {**_key(chunk), "state": state},
    )


def _split(connection: Connection, chunk: _Expired) -> None:
    """Replace a chunk by up to `SPLIT_INTO` parts. A part of one text gets two attempts, a larger one gets one."""
    size = -(-chunk.row_count // SPLIT_INTO)
    whole = connection.execute(
        text("DELETE FROM chunks WHERE job_id = :job AND first_row = :first RETURNING lane, turn, model_id"),
        _key(chunk),
    ).one()
    connection.execute(
        text("""
            INSERT INTO chunks (job_id, first_row, row_count, day, lane, turn, model_id, state, attempts)
            SELECT :job, part, least(:size, :last - part + 1), :day, :lane, :turn, CAST(:model_id AS integer),
                   'queued', CAST(:attempts AS integer)
            FROM generate_series(:first, :last, :size) AS part
        """),
        {
            **_key(chunk),
            "last": chunk.first_row + chunk.row_count - 1,
            "size": size,
            "day": chunk.day,
            **whole._mapping,
            "attempts": MAX_ATTEMPTS - (2 if size == 1 else 1),
        },
    )


def _give_up(connection: Connection, lost: Sequence[_Expired]) -> list[UUID]:
    """Record the texts that nobody survived as failed, and count them."""
    if not lost:
        return []
    failed: dict[UUID, int] = {}
    for chunk in lost:
        inserted = connection.execute(
            text("""
                INSERT INTO results (job_id, row_no, day, error_code, error_message)
                SELECT job_id, row_no, day, :code, :message FROM texts
                WHERE job_id = :job AND day = :day AND row_no = :first AND error_code IS NULL
            """),
            {
                **_key(chunk),
                "day": chunk.day,
                "code": RowError.WORKER_LOST,
                "message": f"Every worker that read this text was lost ({chunk.attempts} attempts).",
            },
        ).rowcount
        asking.nothing_to_explain(connection, chunk.job_id, chunk.first_row)
        failed[chunk.job_id] = failed.get(chunk.job_id, 0) + inserted
    settled = count_rows(connection, dict.fromkeys(failed, 0), failed, None)
    tallies.add_failures(connection, {job: {RowError.WORKER_LOST: rows} for job, rows in failed.items() if rows})
    return settled


def keep_days(connection: Connection, retention_days: int) -> list[date]:
    """Make the partitions of the days ahead and list the days whose retention is over (to be given to `delete_jobs`
    until nothing is left, and then to `drop_day`, each time in a transaction of its own).

    `retention_days` of 0 keeps everything. When another sweeper makes or drops partitions, these are left to it.
    """
    ensure_partitions(connection, wait=False)
    if retention_days == 0:
        return []
    today: date = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    return [day for day in existing_days(connection) if day < today - timedelta(days=retention_days)]


def forget_workers(connection: Connection) -> None:
    """Remove the entries of workers that have given no sign of life for an hour, and add up their sums."""
    connection.execute(
        text("DELETE FROM workers WHERE seen_at < now() - make_interval(secs => :seconds)"),
        {"seconds": WORKER_GONE_SECONDS},
    )
    meters.fold(connection)
