"""The daily partitions of `texts` and `results`: made ahead of their day, dropped when their retention is over."""

from datetime import date, timedelta

from sqlalchemy import Connection, text

DAYS_AHEAD = 7
"""The sweeper keeps this many days ready, so that a stopped sweeper is noticed long before it matters."""

PARTITION_LOCK = 0x52554250
PARTITIONED = ("texts", "results")


def name_of(table: str, day: date) -> str:
    """The partition of `table` for `day`: `texts_20260131`."""
    return f"{table}_{day:%Y%m%d}"


def ensure_partitions(connection: Connection, *, days_ahead: int = DAYS_AHEAD) -> list[date]:
    """Make the partitions from today (UTC) on that are missing; return the days that got one.

    A new table is attached rather than created as a partition, because attaching leaves readers and writers of the
    other days alone. Runs in the caller's transaction, under an advisory lock of that transaction.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
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


def drop_day(connection: Connection, day: date) -> None:
    """Drop everything of the jobs that were created on `day`, in the caller's transaction.

    Raises a lock error, to be tried again later, rather than queueing all readers behind a long one.
    """
    connection.execute(text("SET LOCAL lock_timeout = '1s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    # In the order in which workers lock them; without it they would go with their jobs as well.
    for table in ("explanations", "jobs"):
        connection.execute(text(f"DELETE FROM {table} WHERE day = :day"), {"day": day})
    for table in PARTITIONED:
        connection.execute(text(f"DROP TABLE IF EXISTS {name_of(table, day)}"))
