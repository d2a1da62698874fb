"""Real servers for tests: the PostgreSQL and the Valkey that `rubrika up` runs, started once for a session.

`DATABASE_URL` and `REDIS_URL` of the caller are never used: a test must not write into somebody's data.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
import redis
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from jobs.migrate import upgrade
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.support import free_port

_TEMPLATE = "rubrika_template"
_numbers = itertools.count(1)


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A temporary folder that the user `nobody` can reach when the tests run as root. pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="rubrika-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of the test's own in which embedded servers can run, whoever runs the tests."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """The data folder of the session's servers."""
    with _open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL. Its files need not survive a power cut, so it does not wait for the disk."""
    server = EmbeddedPostgres(server_folder, options={"fsync": "off", "full_page_writes": "off"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(server_folder: Path) -> Iterator[EmbeddedValkey]:
    """The session's Valkey."""
    server = EmbeddedValkey(server_folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres: EmbeddedPostgres) -> str:
    """The address of the session's PostgreSQL: an empty database that tests should leave alone. See `database`."""
    return postgres.url


@pytest.fixture(scope="session")
def redis_url(valkey: EmbeddedValkey) -> str:
    """The address of the session's Valkey, as Celery takes it."""
    return valkey.url


@pytest.fixture(scope="session")
def _template(postgres: EmbeddedPostgres) -> str:
    """The name of a database that Alembic has migrated and nobody is connected to."""
    _execute(postgres, f'CREATE DATABASE "{_TEMPLATE}"')
    upgrade(postgres.url_of(_TEMPLATE))
    return _TEMPLATE


class _Databases:
    """Databases made and dropped by a thread beside the tests: Postgres needs a fifth of a second for both.

    The next is made while a test runs, so that the one after it need not wait.
    """

    def __init__(self, postgres: EmbeddedPostgres, template: str, thread: Executor) -> None:
        self._postgres = postgres
        self._template = template
        self._thread = thread
        self._next = thread.submit(self._make)
        self._drops: list[Future[None]] = []

    def take(self) -> str:
        made, self._next = self._next, self._thread.submit(self._make)
        return made.result()

    def drop(self, name: str) -> None:
        self._drops.append(self._thread.submit(_execute, self._postgres, f'DROP DATABASE "{name}" WITH (FORCE)'))

    def close(self) -> None:
        """Raises what went wrong in the thread."""
        self._next.result()
        for drop in self._drops:
            drop.result()

    def _make(self) -> str:
        name = f"rubrika_test_{next(_numbers)}"
        _execute(self._postgres, f'CREATE DATABASE "{name}" TEMPLATE "{self._template}" STRATEGY file_copy')
        return name


@pytest.fixture(scope="session")
def _databases(postgres: EmbeddedPostgres, _template: str) -> Iterator[_Databases]:
    with ThreadPoolExecutor(1) as thread:
        made = _Databases(postgres, _template, thread)
        yield made
        made.close()


@pytest.fixture
def database(postgres: EmbeddedPostgres, _databases: _Databases) -> Iterator[str]:
    """The address of a freshly migrated database of the test's own, dropped after it."""
    name = _databases.take()
    yield postgres.url_of(name)
    _databases.drop(name)


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The address of a database without any table, for tests of the migrations themselves."""
    name = f"rubrika_test_{next(_numbers)}"
    _execute(postgres, f'CREATE DATABASE "{name}"')
    yield postgres.url_of(name)
    _execute(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def settings(database: str, redis_url: str, valkey: EmbeddedValkey, tmp_path: Path) -> Settings:
    """Settings of a process that uses a fresh database, an emptied Redis and a free port."""
    with closing(redis.Redis.from_url(redis_url.replace("redis+socket://", "unix://"))) as client:
        client.flushall()
    return Settings.from_env(
        {
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "RUBRIKA_PORT": str(free_port()),
            "RUBRIKA_DATA_DIR": str(tmp_path / "data"),
        }
    )


def _execute(postgres: EmbeddedPostgres, statement: str) -> None:
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with connection.cursor() as cursor:
            cursor.execute(statement)
