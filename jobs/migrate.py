"""Bring a database to the newest schema, and compare it with `jobs.schema`."""

import re
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from jobs.database import make_engine, transaction, translated
from jobs.partitions import ensure_partitions
from jobs.schema import metadata
from jobs.settings import PROJECT_ROOT

MIGRATION_LOCK = 0x52554252
"""Advisory lock: of several processes that migrate at once, one does and the others wait and find nothing to do."""

_PARTITION = re.compile(r"^(texts|results)_\d{8}")


def is_ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    """Alembic's filter: partitions come and go with the days and are no part of the schema's history."""
    return not (kind in {"table", "index"} and name is not None and _PARTITION.match(name))


def config() -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(PROJECT_ROOT / "migrations").replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(database_url: str) -> None:
    """Migrate the database at `database_url` to the newest revision and make the partitions of the next days.

    Safe to call from several processes at once. Raises `UnavailableError` when the database cannot be reached.
    """
    engine = make_engine(database_url, pool_size=1, application="rubrika migrate")
    try:
        with translated(), engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                alembic = config()
                alembic.attributes["connection"] = connection
                command.upgrade(alembic, "head")
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
        with transaction(engine) as connection:
            ensure_partitions(connection)
    finally:
        engine.dispose()


def differences(connection: Connection) -> list[Any]:
    """What `alembic check` would list: how the database differs from `jobs.schema`; empty when it does not."""
    context = MigrationContext.configure(
        connection,
        opts={"include_object": is_ours, "compare_server_default": True, "target_metadata": metadata},
    )
    return list(compare_metadata(context, metadata))


def head() -> str:
    """The newest revision that the code knows."""
    newest = ScriptDirectory.from_config(config()).get_current_head()
    assert newest is not None  # noqa: S101  (a checkout without migrations is not Rubrika)
    return newest
