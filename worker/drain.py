"""One rung bell: claim chunk after chunk until nothing waits, and keep the network busy all the while.

While the network computes a chunk, one thread claims, reads and tokenises the next and another records the last.
Between two batches of a chunk the worker looks for texts that somebody is waiting for and computes these first.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from jobs import store
from jobs.bell import Bell
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.records import Claim, ClaimedText, Outcome
from jobs.settings import Settings
from jobs.states import Lane, RowError
from ml.classifier import Classifier, Predictions, Prepared
from ml.posts import Post
from worker.heart import Heart
from worker.memo import Known, Memo, key_of

log = logging.getLogger(__name__)
T = TypeVar("T")

SLICE_SECONDS = 60.0
"""After so long a drain rings for its own continuation, so that its message is acknowledged well within the broker's
visibility timeout."""

INTERACTIVE_CHUNKS = 32
"""So many waiting requests are computed together."""

RECORD_SECONDS = 60.0
"""For so long a worker tries to record its work while Postgres is away; then the lease is left to expire."""


@dataclass(frozen=True)
class Work:
    """A claim with its texts, ready for the network: those of `texts` that `known` has no answer for."""

    claim: Claim
    texts: list[ClaimedText]
    keys: list[bytes]
    known: Mapping[int, Known]
    prepared: Prepared
    begun: bool


class Drain:
    """The worker's side of the queue. `run` is called by one thread at a time; `stop` by any."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        bell: Bell,
        classifier: Classifier,
        model_id: int,
        heart: Heart,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._bell = bell
        self._classifier = classifier
        self._model_id = model_id
        self._heart = heart
        self._memo = Memo()
        self._stopping = threading.Event()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def stop(self) -> None:
        """Finish the chunk in hand, give back the one read ahead, and claim no more."""
        self._stopping.set()

    def close(self) -> None:
        """Wait for the threads; call it when no drain runs."""
        self._reader.shutdown()
        self._writer.shutdown()

    def run(self) -> None:
        """Drain both lanes for up to `SLICE_SECONDS`. While Postgres is away it returns; the sweeper rings again."""
        deadline = time.monotonic() + SLICE_SECONDS
        ahead: Future[Work | None] | None = None
        recorded: Future[None] | None = None
        try:
            while not self._stopping.is_set():
                if time.monotonic() > deadline:
                    self._bell.ring()
                    break
                self._serve_waiting(beside_others=False)
                work = ahead.result() if ahead else None
                work = work or self._take(Lane.BULK)
                ahead = None
                if work is None:
                    break
                if not work.claim.chunks[0].attempts:
                    ahead = self._reader.submit(self._take, Lane.BULK, beside_others=True)
                elif recorded:
                    # A chunk that saw a death may well bring the next: nothing else is in hand when it is computed.
                    recorded.result()
                predictions = self._compute(work, self._overtake)
                if recorded:
                    recorded.result()
                recorded = self._writer.submit(self._record, work, predictions)
        except UnavailableError as error:
            log.warning("drain ends early: %s", error)
        finally:
            try:
                self._settle_hands(ahead, recorded)
            finally:
                # Whatever ended the drain, nothing is in hand now: a lease that the heart kept alive from here on
                # would never expire, and its texts would wait for as long as this worker lives.
                self._heart.drop_all()
                self._memo.forget()

    def _settle_hands(self, ahead: Future[Work | None] | None, recorded: Future[None] | None) -> None:
        """Nothing stays in hand when a drain ends: what was read ahead is given back, what was computed is recorded."""
        try:
            if recorded:
                recorded.result()
        except UnavailableError as error:
            log.warning("what was computed is not recorded, its lease is left to expire: %s", error)
        finally:
            self._give_back(ahead)

    def _give_back(self, ahead: Future[Work | None] | None) -> None:
        try:
            if ahead and (work := ahead.result()):
                self._in_transaction(lambda connection: store.release(connection, work.claim.lease))
                self._heart.drop(work.claim.lease)
        except UnavailableError as error:
            log.warning("the lease of what was read ahead is left to expire: %s", error)

    # --- interactive texts --------------------------------------------------------------------------------------

    def _overtake(self) -> None:
        """Between two batches of a bulk chunk: whoever is waiting in front of a page goes first."""
        try:
            self._serve_waiting(beside_others=True)
        except UnavailableError as error:
            log.warning("no look at waiting requests: %s", error)
        except Exception:
            # What is wrong with the text of one must not be held against the file of another.
            log.exception("serving waiting requests failed")

    def _serve_waiting(self, *, beside_others: bool) -> None:
        while work := self._take(Lane.INTERACTIVE, beside_others=beside_others, begin=True):
            try:
                self._record(work, self._compute(work, None))
            finally:
                self._heart.drop(work.claim.lease)

    # --- one claim ----------------------------------------------------------------------------------------------

    def _take(self, lane: Lane, *, beside_others: bool = False, begin: bool = False) -> Work | None:
        """Claim, read and tokenise; None when nothing waits. `begin` notes in the same step that computing begins.

        For a chunk that saw a death that is noted in any case, so that a text which kills while it is read or
        tokenised runs out of attempts like one that kills the network.
        """

        def step(connection: Connection) -> tuple[Claim, list[ClaimedText], bool] | None:
            store.relaxed(connection)
            claimed = store.claim(
                connection,
                lane=lane,
                limit=INTERACTIVE_CHUNKS if lane is Lane.INTERACTIVE else 1,
                lease_seconds=self._settings.lease_seconds,
                beside_others=beside_others,
            )
            if claimed is None:
                return None
            begun = begin or claimed.chunks[0].attempts > 0
            if begun:
                store.begin(connection, claimed.lease)
            return claimed, store.read_texts(connection, claimed), begun

        taken = run(self._engine, step)
        if taken is None:
            return None
        claimed, texts, begun = taken
        self._heart.hold(claimed.lease)
        posts = [Post(text.doc_text, text.image2text, text.speech2text) for text in texts]
        keys = [key_of(post) for post in posts]
        known = {position: found for position, key in enumerate(keys) if (found := self._memo.get(key))}
        fresh = [post for position, post in enumerate(posts) if position not in known]
        try:
            return Work(claimed, texts, keys, known, self._classifier.prepare(fresh), begun)
        except Exception:
            self._heart.drop(claimed.lease)
            self._in_transaction(lambda connection: store.expire(connection, claimed.lease))
            raise

    def _compute(self, work: Work, between_batches: Callable[[], None] | None) -> Predictions | None:
        """The probabilities of a claim; None when it is no longer ours or cannot be computed at all."""
        lease = work.claim.lease
        if not work.begun and not self._in_transaction(lambda connection: self._begin(connection, lease)):
            log.warning("lease %s was lost before its chunk was begun", lease)
            return None
        try:
            return self._classifier.compute(work.prepared, between_batches)
        except Exception:
            # Not one bad text (the classifier sees to these) but the network as a whole. It counts as a death: after
            # three the chunk is split, so that whatever is wrong stays with as few texts as possible.
            log.exception("computing %d texts failed", len(work.texts))
            self._heart.drop(lease)
            self._in_transaction(lambda connection: store.expire(connection, lease))
            return None

    @staticmethod
    def _begin(connection: Connection, lease: UUID) -> bool:
        store.relaxed(connection)
        return store.begin(connection, lease)

    def _record(self, work: Work, predictions: Predictions | None) -> None:
        """Record the outcomes under the lease and wake who waits; repeats while Postgres is away for a moment."""
        lease = work.claim.lease
        if predictions is None:
            self._heart.drop(lease)
            return
        outcomes = self._outcomes(work, predictions)
        deadline = time.monotonic() + RECORD_SECONDS
        try:
            while True:
                try:
                    settled = self._in_transaction(
                        lambda connection: store.finish(connection, lease, self._model_id, outcomes),
                    )
                    break
                except UnavailableError:
                    if time.monotonic() > deadline or self._stopping.wait(0.2):
                        raise
        finally:
            self._heart.drop(lease)
        self._bell.wake(settled)

    def _in_transaction(self, step: Callable[[Connection], T]) -> T:
        return run(self._engine, step)

    def _outcomes(self, work: Work, predictions: Predictions) -> list[Outcome]:
        """The texts of a claim with what is known of them or was computed just now, which is remembered."""
        probabilities = predictions.probabilities.tolist()
        truncated = predictions.truncated.tolist()
        outcomes = []
        computed = 0
        for position, text in enumerate(work.texts):
            if found := work.known.get(position):
                outcomes.append(Outcome(text, *found))
                continue
            failure = predictions.failures.get(computed)
            if failure is None:
                self._memo.put(work.keys[position], (probabilities[computed], truncated[computed]))
                outcomes.append(Outcome(text, probabilities[computed], truncated[computed]))
            else:
                outcomes.append(Outcome(text, None, truncated[computed], RowError.MODEL_FAILED, failure))
            computed += 1
        return outcomes
