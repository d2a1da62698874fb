"""The worker's sign of life: a thread that extends the leases in hand and notes that the worker is there."""

import logging
import threading
from uuid import UUID

from sqlalchemy import Connection, Engine

from jobs import explaining, fleet, store
from jobs.database import run
from jobs.errors import UnavailableError

log = logging.getLogger(__name__)


MAX_BEAT_SECONDS = fleet.WORKER_ALIVE_SECONDS / 3


class Heart:
    """Beats every third of a lease, or every five seconds, while the process lives.

    A process that hangs as a whole stops beating with it.
    """

    def __init__(
        self, engine: Engine, *, worker: str, model_id: int, device: str, lease_seconds: float, trial: bool = False
    ) -> None:
        self._engine = engine
        self.worker = worker
        self.model_id = model_id
        self._device = device
        self._trial = trial
        self._lease_seconds = lease_seconds
        self._leases: set[UUID] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        """Note the worker as alive and begin to beat. Raises `UnavailableError` when Postgres is away."""
        run(self._engine, self._one_beat)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and sign off."""
        self._stopping.set()
        self._thread.join()
        try:
            run(self._engine, lambda connection: fleet.worker_left(connection, self.worker))
        except UnavailableError:
            log.warning("left without signing off: the database is away")

    def hold(self, lease: UUID) -> None:
        """Keep this lease alive from now on."""
        with self._lock:
            self._leases.add(lease)

    def drop(self, lease: UUID) -> None:
        """Let this lease go; twice is the same as once."""
        with self._lock:
            self._leases.discard(lease)

    def held(self) -> frozenset[UUID]:
        """The leases that are kept alive now."""
        with self._lock:
            return frozenset(self._leases)

    def drop_all(self) -> None:
        """Let every lease go."""
        with self._lock:
            self._leases.clear()

    def _beat(self) -> None:
        while not self._stopping.wait(min(self._lease_seconds / 3, MAX_BEAT_SECONDS)):
            try:
                run(self._engine, self._one_beat)
            except UnavailableError as error:
                log.warning("no sign of life could be given: %s", error)
            except Exception:
                # A heart that stops would cost this worker every chunk from here on.
                log.exception("a beat failed")

    def _one_beat(self, connection: Connection) -> None:
        store.relaxed(connection)
        if leases := list(self.held()):
            store.extend(connection, leases, self._lease_seconds)
            explaining.extend(connection, leases, self._lease_seconds)
        fleet.worker_seen(connection, self.worker, self.model_id, self._device, trial=self._trial)
