"""Says which words of a text speak for its topics, one text at a time, for whoever has asked.

That costs a hundred times what the text itself has cost. So between its batches texts that are not classified yet go
first, and beside files no more than half of the time goes into explaining.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from jobs import explaining, store
from jobs.bell import Bell
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.records import ExplanationClaim, Piece
from jobs.settings import Settings
from jobs.states import ExplanationError
from ml.classifier import Classifier
from ml.errors import DeviceLostError, MlError
from ml.explain import explain
from ml.posts import Post
from worker.heart import Heart

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
"""Beside files the worker looks no more often than this for explanations that somebody has asked for."""

RECORD_SECONDS = 60.0
"""For so long it tries to record one while Postgres is away; then the lease is left to expire."""


class _StoppedError(Exception):
    """The worker was told to stop in the middle of an explanation."""


class Explainer:
    """The worker's side of explanations. `serve` is called by the thread of the drain alone."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        bell: Bell,
        classifier: Classifier,
        model_id: int,
        heart: Heart,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._bell = bell
        self._classifier = classifier
        self._model_id = model_id
        self._heart = heart
        self._stopping = stopping
        self._due = 0.0

    def serve(self, between_batches: Callable[[], object], *, beside_others: bool) -> bool:
        """Explain one text, if somebody has asked for that; whether there was one.

        `between_batches` is called in between. With `beside_others` a claim is in work: then explaining waits for as
        long as the last explanation has taken, and leaves alone what has cost a worker its life. Raises
        `UnavailableError`.
        """
        if beside_others and time.monotonic() < self._due:
            return False
        began = time.monotonic()
        claimed = run(self._engine, lambda connection: self._claim(connection, beside_others))
        if claimed is not None:
            self._heart.hold(claimed.lease)
            try:
                self._explain(claimed, between_batches)
            finally:
                self._heart.drop(claimed.lease)
        now = time.monotonic()
        self._due = now + max(LOOK_SECONDS, now - began)
        return claimed is not None

    def _claim(self, connection: Connection, beside_others: bool) -> ExplanationClaim | None:
        store.relaxed(connection)
        return explaining.claim(
            connection,
            model_id=self._model_id,
            lease_seconds=self._settings.lease_seconds,
            beside_others=beside_others,
        )

    def _explain(self, claimed: ExplanationClaim, between_batches: Callable[[], object]) -> None:
        def between() -> None:
            if self._stopping.is_set():
                raise _StoppedError
            between_batches()

        its = claimed.text
        try:
            found = explain(self._classifier, Post(its.doc_text, its.image2text, its.speech2text), between)
        except _StoppedError:
            run(self._engine, lambda connection: explaining.release(connection, claimed))
            return
        except UnavailableError:
            raise
        except DeviceLostError:
            # No fault of the text, or of one in a million: its lease is left to expire, which counts one attempt. This
            # process will compute nothing any more: it ends, and whoever watches over it starts another.
            log.exception("the device was lost while a text of job %s was explained", its.job_id)
            self._stopping.set()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except Exception as error:
            # The text is classified, and stays so, whatever is wrong with its parts.
            log.warning("a text of job %s cannot be explained", its.job_id, exc_info=not isinstance(error, MlError))
            reason = f"{type(error).__name__}: {error}"[:300]
            self._record(claimed, lambda c: explaining.fail(c, claimed, ExplanationError.FAILED, reason))
            return
        topics = [found[topic.id] for topic in self._classifier.info.topics]
        pieces = [Piece(piece.field, piece.start, piece.end) for piece in topics[0]]
        weights: Sequence[Sequence[float]] = [[piece.weight for piece in of_topic] for of_topic in topics]
        self._record(claimed, lambda c: explaining.finish(c, claimed, pieces, weights))

    def _record(self, claimed: ExplanationClaim, step: Callable[[Connection], bool]) -> None:
        """Record under the lease and wake who waits; repeats while Postgres is away for a moment."""
        deadline = time.monotonic() + RECORD_SECONDS
        while True:
            try:
                recorded = run(self._engine, step)
                break
            except UnavailableError:
                if time.monotonic() > deadline or self._stopping.wait(0.2):
                    raise
        if recorded:
            self._bell.wake([claimed.text.job_id])
        else:
            log.warning("lease %s was lost before its explanation was recorded", claimed.lease)
