"""Bring a database to the newest schema, and compare it with `jobs.schema`."""

import logging
import re
import threading
import time
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs.database import RETRIABLE_SQLSTATES, make_engine, transaction, translated
from jobs.errors import UnavailableError
from jobs.partitions import ensure_partitions
from jobs.schema import metadata
from jobs.settings import PROJECT_ROOT

log = logging.getLogger(__name__)

MIGRATION_LOCK = 0x52554252
"""Advisory lock: of several processes that migrate at once, one does and the others wait and find nothing to do."""

LOCK_SECONDS = 2.0
"""So long a migration waits for a lock, and so long whoever comes after it waits behind it."""

AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 300.0

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

    Safe to call from several processes at once, and while the service runs: a migration that needs a lock which
    somebody holds gives up after `LOCK_SECONDS`, so that nobody queues behind it for longer, and is tried again.
    Raises `UnavailableError` when the database cannot be reached, or when `PATIENCE_SECONDS` have passed like that.
    """
    engine = make_engine(database_url, pool_size=1, application="rubrika migrate")
    try:
        with translated(), engine.connect() as connection:
            _wait_for_turn(connection)
            try:
                _patiently(connection)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
        with transaction(engine) as connection:
            ensure_partitions(connection)
    finally:
        engine.dispose()


def _wait_for_turn(connection: Connection) -> None:
    """Take the advisory lock. It is asked for and not waited for: who waits is in a transaction, for whose end the
    `CREATE INDEX CONCURRENTLY` of the one who migrates would wait in turn."""
    pause = threading.Event()
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}).scalar_one():
        connection.commit()
        pause.wait(0.1)
    connection.commit()


def _patiently(connection: Connection) -> None:
    """Migrate, again and again while a lock is not to be had. What was migrated before that stays migrated."""
    alembic = config()
    alembic.attributes["connection"] = connection
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection.execute(text(f"SET lock_timeout = {round(LOCK_SECONDS * 1000)}"))
        connection.commit()
        try:
            command.upgrade(alembic, "head")
            connection.commit()
        except DBAPIError as error:
            connection.rollback()
            if getattr(error.orig, "pgcode", None) not in RETRIABLE_SQLSTATES:
                raise
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"A migration needs a lock that others have held for {PATIENCE_SECONDS:g} seconds: look into "
                    "pg_stat_activity for a transaction that does not end, and migrate again.",
                ) from error
            log.warning("a table is in use, the migration is tried again: %s", error.orig)
            pause.wait(AGAIN_SECONDS)
        else:
            return
        finally:
            connection.execute(text("SET lock_timeout = 0"))
            connection.commit()


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
