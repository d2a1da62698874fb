"""The daily partitions of `texts` and `results`: made ahead of their day, dropped when their retention is over."""

from datetime import date, timedelta

from sqlalchemy import Connection, text

DAYS_AHEAD = 7
"""The sweeper keeps this many days ready, so that a stopped sweeper is noticed long before it matters."""

PARTITION_LOCK = 0x52554250
DAYS_LOCK = 0x52554254
"""Held by the sweeper that deletes the jobs of a day, in each of its transactions."""

BATCH_JOBS = 5_000
BATCH_ROWS = 1_000_000
"""So many jobs, and no more than have so many texts together, are deleted in one transaction: a third of a second for
jobs of one text each."""

PARTITIONED = ("texts", "results")


def name_of(table: str, day: date) -> str:
    """The partition of `table` for `day`: `texts_20260131`."""
    return f"{table}_{day:%Y%m%d}"


def ensure_partitions(connection: Connection, *, days_ahead: int = DAYS_AHEAD, wait: bool = True) -> list[date]:
    """Make the partitions from today (UTC) on that are missing; return the days that got one.

    A new table is attached rather than created as a partition, because attaching leaves readers and writers of the
    other days alone. Runs in the caller's transaction, under an advisory lock of that transaction; without `wait`
    nothing is done when another holds it.
    """
    if wait:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    elif not _try_lock(connection, PARTITION_LOCK):
        return []
    today: date = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    there = set(existing_days(connection))
    made = [day for day in (today + timedelta(days=n) for n in range(days_ahead + 1)) if day not in there]
    for day in made:
        for table in PARTITIONED:
            partition = name_of(table, day)
            connection.execute(
                text(f"CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            )
            connection.execute(
                text(
                    f"ALTER TABLE {table} ATTACH PARTITION {partition} "
                    f"FOR VALUES FROM ('{day.isoformat()}') TO ('{(day + timedelta(days=1)).isoformat()}')",
                ),
            )
    return made


def existing_days(connection: Connection) -> list[date]:
    """The days that have a partition of `texts`, oldest first. `results` always has the same ones."""
    names = connection.execute(
        text(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = 'texts'::regclass ORDER BY 1",
        ),
    ).scalars()
    return [date(int(name[-8:-4]), int(name[-4:-2]), int(name[-2:])) for name in names]


def delete_jobs(connection: Connection, day: date) -> int | None:
    """Delete some of the jobs that were created on `day`; how many, 0 when none is left, None when another is at it.

    A job goes as a whole, so that nobody meets half of one; its texts and results go with the tables of the day. Raises
    a lock error rather than waiting for long.
    """
    connection.execute(text("SET LOCAL lock_timeout = '1s'"))
    if not _try_lock(connection, DAYS_LOCK):
        return None
    jobs = connection.execute(
        text("""
            SELECT id FROM (
                SELECT id, sum(rows_total) OVER (ORDER BY id) - rows_total AS rows_before
                FROM (SELECT id, rows_total FROM jobs WHERE day = :day LIMIT :jobs) AS few) AS counted
            WHERE rows_before < :rows
        """),
        {"day": day, "jobs": BATCH_JOBS, "rows": BATCH_ROWS},
    ).scalars()
    ids = list(jobs)
    # In the order in which workers lock them; without it they would go with their jobs as well.
    for table, column in (("chunks", "job_id"), ("explanations", "job_id"), ("jobs", "id")):
        connection.execute(text(f"DELETE FROM {table} WHERE {column} = ANY(:ids)"), {"ids": ids})
    return len(ids)


def drop_day(connection: Connection, day: date) -> bool:
    """Drop the tables of `day`, in the caller's transaction, which is short when `delete_jobs` has left nothing; False
    when another makes or drops tables.

    Raises a lock error, to be tried again later, rather than queueing all readers behind a long one.
    """
    connection.execute(text("SET LOCAL lock_timeout = '1s'"))
    if not _try_lock(connection, PARTITION_LOCK):
        return False
    for table in PARTITIONED:
        connection.execute(text(f"DROP TABLE IF EXISTS {name_of(table, day)}"))
    # What an upload of more than a day has brought meanwhile: it held the tables until then, so there is no later one.
    connection.execute(text("DELETE FROM jobs WHERE day = :day"), {"day": day})
    return True


def _try_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock until the transaction ends, if nobody has it."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key}).scalar_one())
