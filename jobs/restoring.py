"""Whether a database may be overwritten by a backup, and making room for that."""

from sqlalchemy import Connection, text

from jobs.errors import RubrikaError
from jobs.schema import metadata


def clear(connection: Connection) -> None:
    """Drop the tables of Rubrika, in which nothing was accepted yet.

    Raises `RubrikaError` with one sentence, and drops nothing, when something was, or when a process of Rubrika is
    connected.
    """
    others = connection.execute(
        text("""
            SELECT application_name FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'rubrika %'
            ORDER BY 1 LIMIT 1
        """),
    ).scalar_one_or_none()
    if others is not None:
        raise RubrikaError(f"A process is using this database ({others}): stop everything of Rubrika, then restore.")
    for table in ("jobs", "feedback"):
        there = connection.execute(text("SELECT to_regclass(:table)"), {"table": table}).scalar_one()
        if there and connection.execute(text(f"SELECT EXISTS (SELECT FROM {table})")).scalar_one():
            raise RubrikaError("This database is not empty: restore into a new one, so that nothing of it is lost.")
    # Partitions go with their tables.
    for name in (*metadata.tables, "alembic_version"):
        connection.execute(text(f'DROP TABLE IF EXISTS "{name}" CASCADE'))
