"""Connections to Postgres: one engine a process, short transactions, and one word for "not reachable now"."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from jobs.errors import TooSlowError, UnavailableError

T = TypeVar("T")

RETRIABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available: the same transaction may well pass a moment later."""

GONE_SQLSTATES = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "53400", "53100", "53200"})
"""The server is being shut down, restarted or is out of connections, memory or disk."""


QUERY_CANCELED = "57014"

LONGEST_READ_SECONDS = 120
"""So long may Postgres work on one statement of `long_read`; a million rows it counts in a second or two."""


def make_engine(database_url: str, *, pool_size: int, application: str, idle_seconds: float = 600) -> Engine:
    """An engine with a bounded pool; nothing connects yet. `application` is the name shown in pg_stat_activity.

    A process that hangs in the middle of a transaction keeps what it has locked for `idle_seconds`.
    """
    url: URL = make_url(database_url)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=5,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 3,
            "application_name": application,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            # What was sent and is not acknowledged is no idle connection: after a network was cut, the kernel would
            # go on sending it for a quarter of an hour, at ever longer intervals, before it gives the connection up.
            "tcp_user_timeout": 20_000,
            # A long COPY keeps sending; only an idle transaction, which is a bug or a process that hangs, is ended. The
            # keepalives are those of the server, which else keeps the locks of a host that was lost for two hours.
            "options": f"-c timezone=UTC -c idle_in_transaction_session_timeout={idle_seconds * 1000:.0f} "
            "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
        },
    )


def is_unavailable(error: DBAPIError) -> bool:
    """Whether the error says that the server cannot be reached or used now, rather than that the query is wrong."""
    return error.connection_invalidated or _is_gone(error.orig)


def _is_gone(error: BaseException | None) -> bool:
    code = getattr(error, "pgcode", None)
    if code is None:
        # psycopg2 gives no code when the connection itself failed.
        return type(error).__name__ in {"OperationalError", "InterfaceError"}
    return code in GONE_SQLSTATES or code.startswith("08")


@contextmanager
def translated() -> Iterator[None]:
    """Turn "the server is not there" into `UnavailableError`; every other error passes as it is."""
    try:
        yield
    except DBAPIError as error:
        if is_unavailable(error):
            raise UnavailableError("The database cannot be reached at the moment.") from error
        raise
    except psycopg2.Error as error:
        # COPY goes past SQLAlchemy, which therefore wraps nothing of what it raises.
        if _is_gone(error):
            raise UnavailableError("The database cannot be reached at the moment.") from error
        raise
    except PoolTimeoutError as error:
        raise UnavailableError("All connections to the database are in use.") from error


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    Raises `UnavailableError` when Postgres cannot be reached.
    """
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def long_read(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads as much as a whole file, for somebody who waits for it; nothing else may be done in it.

    Raises `TooSlowError` when a statement takes longer than `LONGEST_READ_SECONDS`, and `UnavailableError`.
    """
    try:
        with transaction(engine) as connection:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {LONGEST_READ_SECONDS * 1000:.0f}")
            yield connection
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != QUERY_CANCELED:
            raise
        message = f"This took the database longer than {LONGEST_READ_SECONDS} seconds; ask when there is less to do."
        raise TooSlowError(message) from error


def run(engine: Engine, step: Callable[[Connection], T], *, attempts: int = 3) -> T:
    """Run `step` in a transaction and return what it returns; repeat it when Postgres asks for that.

    Deadlocks and serialization failures are repeated at once. `step` must change nothing but the database.
    """
    for attempt in range(1, attempts + 1):
        try:
            with transaction(engine) as connection:
                return step(connection)
        except DBAPIError as error:
            if attempt == attempts or getattr(error.orig, "pgcode", None) not in RETRIABLE_SQLSTATES:
                raise
    raise AssertionError("unreachable: the last attempt returned or raised")
