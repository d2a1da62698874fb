"""The whole record in one file, and back: PostgreSQL's own pg_dump and pg_restore, which the wheel brings along.

Postgres is all there is to save. The file has every text, so it is made for its owner alone.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic.util import CommandError
from sqlalchemy import make_url

from jobs import keys
from jobs.database import make_engine, transaction
from jobs.errors import RubrikaError, StartError
from jobs.migrate import upgrade
from jobs.restoring import clear
from jobs.settings import Settings
from local.binaries import postgres_wheel
from local.checks import locked
from local.postgres import EmbeddedPostgres


def backup(settings: Settings, file: Path) -> int:
    """Write everything into `file`, while the service runs or not; what stands there before is replaced at the end.

    Returns its size in bytes. Raises `RubrikaError` with one sentence.
    """
    target = file.expanduser().absolute()
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with _server(settings, alone=False) as url:
            # The cache of answers is unlogged and can be computed again.
            # A session that somebody ends, or whose cookie was stolen, is not to come back with a restored backup.
            left_out = ("--no-unlogged-table-data", "--exclude-table-data=sessions")
            _run("pg_dump", url, "--format=custom", *left_out, f"--file={aside}")
        aside.replace(target)
        return target.stat().st_size
    except OSError as error:
        raise RubrikaError(f"The backup cannot be written to {target}: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)


def restore(settings: Settings, file: Path) -> int:
    """Fill an empty database from `file` and bring it to the newest schema, while nothing of Rubrika runs on it.

    Returns how many keys open it: those of the day of the backup, also what was revoked since.

    Raises `RubrikaError` with one sentence. What fails while the file is read leaves the database empty.
    """
    source = file.expanduser().absolute()
    if not source.is_file():
        raise RubrikaError(f"There is no file {source}.")
    listed = _program("pg_restore", "--list", str(source))
    if "TABLE public jobs" not in listed or "TABLE public alembic_version" not in listed:
        raise RubrikaError(f"{source} is a dump of another database, not one of Rubrika.")
    with _server(settings, alone=True) as url:
        engine = make_engine(url, pool_size=1, application="rubrika restore")
        try:
            with transaction(engine) as connection:
                clear(connection)
        finally:
            engine.dispose()
        _run("pg_restore", url, "--single-transaction", "--exit-on-error", str(source))
        try:
            upgrade(url)
        except CommandError as error:
            raise RubrikaError(f"The backup is of a newer Rubrika than this one: {error}.") from error
        engine = make_engine(url, pool_size=1, application="rubrika restore")
        try:
            with transaction(engine) as connection:
                return sum(key.revoked_at is None for key in keys.all_keys(connection))
        finally:
            engine.dispose()


@contextmanager
def _server(settings: Settings, *, alone: bool) -> Iterator[str]:
    """The database of the settings; the embedded one is started for as long as it takes when it does not run.

    `alone`: it must not run, because a service would be using it.
    """
    if settings.database_url:
        yield settings.database_url
        return
    server = EmbeddedPostgres(settings.data_dir)
    if not alone:
        _ = server.url  # Raises where there is none: a backup does not make one.
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(settings.data_dir, settings))
        except StartError as error:
            if alone:
                raise RubrikaError(f"{error} Stop it, then restore.") from error
        else:
            server.start()
            stack.callback(server.stop)
        yield server.url


def _run(program: str, url: str, *options: str) -> None:
    given = make_url(url)
    # Everybody on the machine sees the arguments of a program, and only its owner its environment.
    address = given.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    password = {"PGPASSWORD": given.password} if given.password else {}
    _program(program, "--no-owner", "--no-privileges", f"--dbname={address}", *options, **password)


def _program(name: str, *options: str, **env: str) -> str:
    """What one of PostgreSQL's programs prints. Raises `RubrikaError` with its own words when it fails."""
    path = postgres_wheel().program("postgres").with_name(name)
    program = str(path) if path.is_file() else shutil.which(name)
    if program is None:
        raise RubrikaError(f"{name} is not installed.")
    done = subprocess.run(
        [program, *options], env={**os.environ, "LC_ALL": "C", **env}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [done.stderr.strip()]
        raise RubrikaError(f"{said[0].rstrip('.')}.")
    return done.stdout
