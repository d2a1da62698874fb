"""Looks between the batches of a file whether somebody waits, without the price of a claim.

A claim that finds nothing is a transaction all the same: a connection from the pool that is tried first, a setting, a
query that locks, a commit. A look is one statement, on a connection that stays for as long as a drain runs.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from jobs.database import translated
from jobs.states import Lane

_WAITING = """
    SELECT EXISTS (SELECT FROM chunks WHERE state = 'queued' AND lane = %(lane)s
                     AND (model_id = %(model)s OR (model_id IS NULL AND NOT %(named_only)s))),
           EXISTS (SELECT FROM explanations WHERE state = 'queued' AND model_id = %(model)s)
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
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._asked = {"lane": int(Lane.INTERACTIVE), "model": model_id, "named_only": named_only}
        self._connection: Connection | None = None

    def look(self) -> Waiting:
        """What waits at this moment; somebody else may be faster. Raises `UnavailableError`."""
        try:
            with translated():
                if self._connection is None:
                    self._connection = self._engine.connect()
                return Waiting(*self._connection.exec_driver_sql(_WAITING, self._asked).one())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back; the next look takes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
