"""Migrations while the service runs: nobody waits long behind them, and none reads a large table under a lock."""

import ast
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, text

from jobs import migrate
from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from jobs.settings import PROJECT_ROOT
from tests.support import wait_until

VERSIONS = sorted((PROJECT_ROOT / "migrations" / "versions").glob("*.py"))
LARGE = ("jobs", "chunks", "texts", "results", "answers")


@pytest.fixture
def old(empty_database: str) -> Iterator[Engine]:
    """A database as it was before models knew their folders."""
    engine = make_engine(empty_database, pool_size=4, application="tests")
    with engine.connect() as connection:
        alembic = migrate.config()
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "0003")
        connection.commit()
    yield engine
    engine.dispose()


def revision(engine: Engine) -> str:
    return run(engine, lambda c: str(c.execute(text("SELECT version_num FROM alembic_version")).scalar_one()))


def test_a_table_in_use_is_waited_for_and_nobody_queues_behind(
    old: Engine, empty_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(migrate, "AGAIN_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    migrating = threading.Thread(target=migrate.upgrade, args=(empty_database,))
    with old.connect() as reader:
        reader.execute(text("SELECT count(*) FROM models"))
        migrating.start()
        wait_until(lambda: "the migration is tried again" in caplog.text, what="the migration to give way once")
        # Another reader gets through while the first one is still in its transaction.
        assert run(old, lambda c: c.execute(text("SELECT count(*) FROM models")).scalar_one()) == 0
        assert revision(old) == "0003"
        reader.rollback()
    migrating.join(30)
    assert not migrating.is_alive()
    assert revision(old) == migrate.head()
    assert run(old, migrate.differences) == []


def test_a_lock_that_is_never_given_ends_with_a_sentence(
    old: Engine, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(migrate, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.1)
    with old.connect() as reader:
        reader.execute(text("SELECT count(*) FROM models"))
        with pytest.raises(UnavailableError, match="needs a lock"):
            migrate.upgrade(empty_database)
        reader.rollback()
    migrate.upgrade(empty_database)
    assert revision(old) == migrate.head()


def test_several_at_once_migrate_once(empty_database: str) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            migrate.upgrade(empty_database)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    engine = make_engine(empty_database, pool_size=1, application="tests")
    assert revision(engine) == migrate.head()
    engine.dispose()


def test_who_waits_for_another_migration_is_in_no_transaction(old: Engine, empty_database: str) -> None:
    """An index that is made concurrently waits for the end of every transaction: of theirs, too."""
    waiting = threading.Thread(target=migrate.upgrade, args=(empty_database,))
    look = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rubrika migrate' AND state = 'idle'")
    with old.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": migrate.MIGRATION_LOCK})
        other.commit()
        waiting.start()
        wait_until(lambda: run(old, lambda c: c.execute(look).scalar_one()) == 1, what="it to wait in no transaction")
        other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": migrate.MIGRATION_LOCK})
        other.commit()
    waiting.join(30)
    assert revision(old) == migrate.head()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_says_what_it_locks(version: Path) -> None:
    said = ast.get_docstring(ast.parse(version.read_text()))
    assert said is not None
    assert version.stem.startswith("0001") or "\nLocks: " in said


@pytest.mark.parametrize("version", VERSIONS[2:], ids=lambda path: path.stem)
def test_large_tables_are_neither_rewritten_nor_indexed_under_a_lock(version: Path) -> None:
    """From the third on, there are installations with rows in them."""
    tables = "|".join(LARGE)
    source = version.read_text()
    made_here = set(re.findall(r"CREATE (?:UNLOGGED )?TABLE (\w+)", source))
    indexed = re.findall(rf"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?[\w\s]*? ON (?:ONLY )?({tables})\b", source)
    assert [table for concurrently, table in indexed if not concurrently and table not in made_here] == []
    assert not re.search(rf"ALTER TABLE ({tables}) (?:(?!NOT VALID)[^\"])*?(ADD CONSTRAINT|SET NOT NULL|TYPE )", source)
