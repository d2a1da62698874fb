"""How many rows and explanations of an owner wait or are being computed, and whether there is room for more."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from jobs.database import transaction
from jobs.errors import RubrikaError
from jobs.states import TERMINAL_STATES

_FRESH_SECONDS = 1.0
_OVER = ", ".join(repr(str(state)) for state in sorted(TERMINAL_STATES))


class TooManyWaitingError(RubrikaError):
    """An owner has as many rows waiting as are allowed."""


class TooManyExplanationsError(TooManyWaitingError):
    """An owner has as many explanations waiting as are allowed."""


def waiting_rows(connection: Connection, owner: str) -> int:
    """The rows of an owner's unfinished jobs that have neither a result nor an error."""
    rows: int = connection.execute(
        text(f"""
            SELECT coalesce(sum(rows_total - rows_succeeded - rows_failed), 0)::bigint FROM jobs
            WHERE owner = :owner AND NOT (state IN ({_OVER}))
        """),
        {"owner": owner},
    ).scalar_one()
    return rows


def require_room(connection: Connection, owner: str, rows: int, most: int) -> None:
    """Make sure that `rows` more leave the owner within `most`, or raise `TooManyWaitingError`.

    From here to the end of its transaction the files of one owner go one by one, so that of two that come at once the
    second sees the first.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 1))"), {"key": owner})
    _refuse_over(waiting_rows(connection, owner), rows, most)


def waiting_explanations(connection: Connection, owner: str) -> int:
    """The explanations of an owner that are asked for and neither there nor given up."""
    # Each state has an index of its own: what is done, nearly all of the table, is not looked at.
    waiting: int = connection.execute(
        text("""
            SELECT count(*) FROM (
                SELECT job_id FROM explanations WHERE state = 'waiting'
                UNION ALL SELECT job_id FROM explanations WHERE state = 'queued'
                UNION ALL SELECT job_id FROM explanations WHERE state = 'running') AS open
            JOIN jobs ON jobs.id = open.job_id WHERE owner = :owner
        """),
        {"owner": owner},
    ).scalar_one()
    return waiting


def require_room_to_explain(connection: Connection, owner: str, asked: int, most: int) -> None:
    """Make sure that the owner is within `most` with the `asked` that this transaction has just added.

    Raises `TooManyExplanationsError`. From here to the end of its transaction nobody else's wish of this owner passes,
    so that of two that come at once the second is counted with the first.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 2))"), {"key": owner})
    waiting = waiting_explanations(connection, owner)
    if waiting > most:
        raise TooManyExplanationsError(
            f"{waiting - asked} explanations are waiting already, and {most} may; here are {asked} more. "
            "Ask for them later."
        )


@dataclass
class _Count:
    read_at: float
    rows: int


class Waiting:
    """The waiting rows of owners as this process knows them, a second old at most. Safe to share between threads.

    A text that somebody waits for must not pay for counting ten thousand jobs. What this process adds is counted at
    once; what others add in the same second may go over the limit, by what they can take in a second.
    """

    def __init__(self, engine: Engine, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, _Count] = {}

    def require_room(self, owner: str, rows: int = 1) -> None:
        """Make sure that there is room for `rows` more, and count them. Raises `TooManyWaitingError`."""
        with self._lock:
            known = self._counts.get(owner)
        if known is None or self._clock() - known.read_at > _FRESH_SECONDS:
            with transaction(self._engine) as connection:
                known = _Count(self._clock(), waiting_rows(connection, owner))
        with self._lock:
            self._counts = {
                name: count for name, count in self._counts.items() if self._clock() - count.read_at <= _FRESH_SECONDS
            } | {owner: known}
            _refuse_over(known.rows, rows, self._most)
            known.rows += rows


def _refuse_over(waiting: int, rows: int, most: int) -> None:
    if waiting + rows > most:
        raise TooManyWaitingError(
            f"{waiting} rows are waiting already, and {most} may; here are {rows} more. Send them later."
        )
