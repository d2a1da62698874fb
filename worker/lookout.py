"""Looks between the batches of a file whether somebody waits, without the price of a claim.

A claim that finds nothing is a transaction all the same: a connection from the pool that is tried first, a setting, a
query that locks, a commit. A look is one statement, on a connection that stays for as long as a drain runs.
"""

from dataclasses import dataclass
from typing import Any

import psycopg2
from sqlalchemy import Engine, PoolProxiedConnection

from jobs.database import translated
from jobs.states import Lane

# In the order of the indices over what waits: EXISTS would forget it, and might read all that is finished instead.
_WAITING = """
    SELECT (SELECT true FROM chunks WHERE state = 'queued' AND lane = %(lane)s
              AND (model_id = %(model)s OR (model_id IS NULL AND NOT %(named_only)s))
            ORDER BY turn, job_id LIMIT 1),
           (SELECT true FROM explanations WHERE state = 'queued' AND model_id = %(model)s
            ORDER BY turn, job_id, row_no LIMIT 1)
"""


@dataclass(frozen=True)
class Waiting:
    """What waits for a worker with this model: texts that somebody waits for, and texts to explain."""

    requests: bool
    explanations: bool


NOBODY = Waiting(requests=False, explanations=False)


class Lookout:
    """Looks, and takes nothing. One thread at a time.

    Args:
        engine: its pool lends one connection from the first look until `close`.
        model_id: the model of this worker.
        named_only: only chunks that ask for this model by name are for it.
    """

    def __init__(self, engine: Engine, model_id: int, *, named_only: bool) -> None:
        self._engine = engine
        self._asked = {"lane": int(Lane.INTERACTIVE), "model": model_id, "named_only": named_only}
        self._lent: PoolProxiedConnection | None = None

    def look(self) -> Waiting:
        """What waits at this moment; somebody else may be faster. Raises `UnavailableError`."""
        try:
            with translated(), self._connection().cursor() as cursor:
                cursor.execute(_WAITING, self._asked)
                return Waiting(*map(bool, cursor.fetchone()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back; the next look takes another."""
        lent, self._lent = self._lent, None
        if lent is None:
            return
        try:
            # What SQLAlchemy does for an isolation level of its own asks the server, who may be gone.
            _bare(lent).autocommit = False
        except psycopg2.Error:
            lent.invalidate()
        lent.close()

    def _connection(self) -> Any:
        if self._lent is None:
            self._lent = self._engine.raw_connection()
            _bare(self._lent).autocommit = True
        return _bare(self._lent)


def _bare(lent: PoolProxiedConnection) -> Any:
    """Psycopg's own connection, for what the interface of all databases lacks."""
    return lent.dbapi_connection
