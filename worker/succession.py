"""Which model a worker runs: the one that its settings name, else the one that was activated last.

A worker that finds another model active than the one it runs makes sure that it has it, finishes what is in hand,
signs off, and starts itself anew in the same process. Nothing is computed by two models at once, memory holds one of
them, and a model that cannot be read or loaded here is left alone with a word in the log.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine

from jobs import fleet
from jobs.database import transaction
from jobs.errors import RubrikaError
from jobs.settings import Settings
from ml import artifact
from ml.errors import MlError

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""So often a worker looks whether another model was activated."""


@dataclass(frozen=True)
class Choice:
    """The folder to load, and what becomes of its model when it is loaded.

    Attributes:
        activate: it becomes the active one; unless RUBRIKA_MODEL names it, only if `seen` is active still. Loading
            takes from seconds to minutes, and what an operator activates meanwhile must not be undone.
        seen: the SHA-256 of the model that was active when this was chosen; None: there was none.
        refused: that of the active model when it could not be loaded here, so that this worker does not try it again
            every two seconds.
    """

    folder: Path
    activate: bool
    seen: str | None = None
    refused: str | None = None


def choose(connection: Connection, settings: Settings) -> Choice:
    """What a starting worker loads.

    RUBRIKA_MODEL is an operator's word for this worker, and, unless that is on trial, for all that is sent from now on.
    Without it the active model is loaded from where it lies, and the shipped one where that cannot be done.
    """
    if settings.trial:
        return Choice(settings.model, activate=False)
    active = None if settings.model_is_given else fleet.active_folder(connection)
    if active is None or active.folder is None:
        return Choice(settings.model, activate=True, seen=active.sha256 if active else None)
    reason = unusable(active)
    if reason is None:
        return Choice(Path(active.folder), activate=False, seen=active.sha256)
    log.warning("the active model cannot be loaded here, %s is taken instead: %s", settings.model, reason)
    # Another version of Rubrika brought another model into the very folder from which the active one was loaded: it is
    # that model's successor. Any other is a stopgap, of this worker alone.
    return Choice(settings.model, activate=Path(active.folder) == settings.model, seen=active.sha256)


def unusable(active: fleet.ActiveFolder) -> str | None:
    """Why the active model cannot be loaded on this machine; None when its folder is here and whole."""
    if active.folder is None:
        return "it is not known where it lies"
    try:
        found = artifact.read(Path(active.folder)).info.sha256
    except MlError as error:
        return str(error)
    return None if found == active.sha256 else f"{active.folder} holds another model now"


class Succession:
    """Looks every `LOOK_SECONDS` whether another model was activated, and calls `on_change` once when one was.

    `refused` is one that is known to be of no use here.
    """

    def __init__(
        self, engine: Engine, sha256: str, on_change: Callable[[], None], *, refused: str | None = None
    ) -> None:
        self._engine = engine
        self._sha256 = sha256
        self._on_change = on_change
        self._refused: set[str] = {refused} if refused else set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="succession", daemon=True)
        self.is_due = False
        """Whether the worker shall start anew when it has stopped."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; also before `start`."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if self._look():
                    self.is_due = True
                    self._on_change()
                    return
            except RubrikaError as error:
                log.debug("no look at the active model: %s", error)
            except Exception:
                log.exception("a look at the active model failed")

    def _look(self) -> bool:
        with transaction(self._engine) as connection:
            active = fleet.active_folder(connection)
        if active is None or active.folder is None or active.sha256 in {self._sha256, *self._refused}:
            return False
        reason = unusable(active)
        if reason is not None:
            log.warning("another model is active, and this worker stays with its own: %s", reason)
            self._refused.add(active.sha256)
        return reason is None
