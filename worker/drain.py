"""One rung bell: claim chunk after chunk until nothing waits, and keep the network busy all the while.

While the network computes a chunk, one thread claims, reads and tokenises the next and another records the last.
Between two batches of a chunk the worker looks for texts that somebody is waiting for and computes these first, and for
texts that somebody wants explained.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from jobs import answers, logs, store
from jobs.answers import Answer
from jobs.bell import Bell
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.meters import Meter
from jobs.records import Claim, ClaimedText
from jobs.settings import Settings
from jobs.states import Lane
from jobs.traces import NoTraces, Traces
from ml.classifier import Classifier, Predictions
from ml.errors import DeviceLostError
from worker.explainer import Explainer
from worker.heart import Heart
from worker.lookout import NOBODY, Lookout, Waiting
from worker.memo import Memo, key_of
from worker.rate import INTERACTIVE_SECONDS, Rate, claim_seconds
from worker.spent import Spent
from worker.work import Done, Work, done, post_of

log = logging.getLogger(__name__)
T = TypeVar("T")

SLICE_SECONDS = 60.0
"""After so long a drain rings for its own continuation, so that its message is acknowledged well within the broker's
visibility timeout."""

MAX_CHUNKS = 32
"""So many chunks at most are claimed at once."""

LOOK_SECONDS = 0.05
"""Between the batches of a claim the worker looks no more often than this for waiting requests: the batches of a quick
network are over every ten milliseconds."""

RECORD_SECONDS = 60.0
"""For so long a worker tries to record its work while Postgres is away; then the lease is left to expire."""


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
        traces: Traces | None = None,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._bell = bell
        self._classifier = classifier
        self._model_id = model_id
        self._heart = heart
        self._traces: Traces = traces or NoTraces()
        self._memo = Memo()
        self._rates = {lane: Rate() for lane in Lane}
        self._spent = Spent()
        self._look_due = 0.0
        self._lookout = Lookout(engine, model_id, named_only=settings.trial)
        self._busy_since: float | None = None
        self._stopping = threading.Event()
        self._explainer = Explainer(settings, engine, bell, classifier, model_id, heart, self._stopping)
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
                served = self._serve_waiting(beside_others=False)
                served |= self._explainer.serve(self._let_pass, beside_others=False)
                work = ahead.result() if ahead else None
                if work is None:
                    if recorded:
                        # What is claimed now may have seen a death, and bring the next as soon as it is tokenised:
                        # nothing else is in hand then. Beside other work no such chunk is claimed.
                        recorded.result()
                    work = self._take(Lane.BULK)
                ahead = None
                if work is None:
                    if served:
                        continue
                    break
                if not work.claim.chunks[0].attempts:
                    ahead = self._reader.submit(self._take, Lane.BULK, beside=work)
                found = self._compute(work, self._overtake)
                if recorded:
                    recorded.result()
                recorded = self._writer.submit(self._record, work, found)
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
                self._lookout.close()

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
        if not self._let_pass().explanations:
            return
        try:
            self._explainer.serve(self._let_pass, beside_others=True)
        except UnavailableError as error:
            log.warning("no look at texts to explain: %s", error)
        except Exception:
            log.exception("explaining failed")

    def _let_pass(self) -> Waiting:
        """Between two batches of anything that takes its time: texts that somebody waits for are computed first.

        Returns what was seen to wait, if it was time to look.
        """
        if time.monotonic() < self._look_due:
            return NOBODY
        waiting = NOBODY
        try:
            waiting = self._lookout.look()
            if waiting.requests:
                self._serve_waiting(beside_others=True)
        except UnavailableError as error:
            log.warning("no look at waiting requests: %s", error)
        except Exception:
            # What is wrong with the text of one must not be held against the file of another.
            log.exception("serving waiting requests failed")
        self._look_due = time.monotonic() + LOOK_SECONDS
        return waiting

    def _serve_waiting(self, *, beside_others: bool) -> bool:
        """Compute one claim of waiting requests, and no more, so that files go on however many come; whether there was
        one."""
        work = self._take(Lane.INTERACTIVE, beside_others=beside_others, begin=True)
        if work is None:
            return False
        try:
            self._record(work, self._compute(work, None))
        finally:
            self._heart.drop(work.claim.lease)
        return True

    # --- one claim ----------------------------------------------------------------------------------------------

    def _take(
        self, lane: Lane, *, beside: Work | None = None, beside_others: bool = False, begin: bool = False
    ) -> Work | None:
        """Claim, read and tokenise; None when nothing waits. `begin` notes in the same step that computing begins.

        For a chunk that saw a death that is noted in any case, so that a text which kills while it is read or
        tokenised runs out of attempts like one that kills the network. `beside` is the claim that is in work meanwhile.
        """
        interactive = lane is Lane.INTERACTIVE
        rows = self._rates[lane].rows_in(INTERACTIVE_SECONDS if interactive else self._claim_seconds())

        def step(connection: Connection) -> tuple[Claim, list[ClaimedText], bool] | None:
            store.relaxed(connection)
            claimed = store.claim(
                connection,
                lane=lane,
                limit=MAX_CHUNKS if interactive else max(1, min(MAX_CHUNKS, rows // self._settings.chunk_rows)),
                max_rows=rows,
                lease_seconds=self._settings.lease_seconds,
                model_id=self._model_id,
                named_only=self._settings.trial,
                beside_others=beside_others or beside is not None,
            )
            if claimed is None:
                return None
            begun = begin or claimed.chunks[0].attempts > 0
            if begun:
                store.begin(connection, claimed.lease)
            texts = store.read_texts(connection, claimed)
            if time.monotonic() - started > self._settings.lease_seconds / 3:
                # The lease runs from before the texts were read, and nothing has kept it alive since. Where reading
                # takes longer than a lease it would be over at once, each time anew.
                store.extend(connection, [claimed.lease], self._settings.lease_seconds)
            return claimed, texts, begun

        started, claimed_at = time.monotonic(), time.time_ns()
        taken = run(self._engine, step)
        if not interactive:
            self._busy_since = None if taken is None else self._busy_since or started
        if taken is None:
            return None
        self._spent.add(Meter.READ_SECONDS, time.monotonic() - started)
        claimed, texts, begun = taken
        self._heart.hold(claimed.lease)
        try:
            return self._prepared(claimed, texts, begun, beside, claimed_at)
        except Exception:
            self._heart.drop(claimed.lease)
            self._in_transaction(lambda connection: store.expire(connection, claimed.lease))
            raise

    def _claim_seconds(self) -> float:
        """How much work to claim of files, from one slice to the next without a break."""
        return claim_seconds(0.0 if self._busy_since is None else time.monotonic() - self._busy_since)

    def _prepared(
        self, claimed: Claim, texts: list[ClaimedText], begun: bool, beside: Work | None, claimed_at: int
    ) -> Work:
        """Sort out what is known and what is being computed, and tokenise the rest."""
        keys = [key_of(text.doc_text, text.image2text, text.speech2text) for text in texts]
        with self._spent.timed(Meter.RECALL_SECONDS):
            known = self._known(keys)
        in_work = {beside.keys[position] for position in beside.fresh} if beside else frozenset()
        new = [position for position in range(len(texts)) if position not in known]
        fresh = [position for position in new if keys[position] not in in_work]
        awaited = [position for position in new if keys[position] in in_work]
        with self._spent.timed(Meter.TOKENISE_SECONDS):
            prepared = self._classifier.prepare([post_of(texts[position]) for position in fresh])
        return Work(claimed, texts, keys, known, fresh, awaited, prepared, begun, claimed_at)

    def _known(self, keys: list[bytes]) -> dict[int, Answer]:
        """The answers that this drain remembers or that the cache holds, by position."""
        known = {position: found for position, key in enumerate(keys) if (found := self._memo.get(key))}
        asked = [key for position, key in enumerate(keys) if position not in known]
        if self._settings.cache_rows and asked:
            cached = self._in_transaction(lambda connection: answers.look_up(connection, self._model_id, asked))
            if cached:
                known |= {position: cached[key] for position, key in enumerate(keys) if key in cached}
        return known

    def _compute(self, work: Work, between_batches: Callable[[], None] | None) -> Done | None:
        """What is found out of a claim; None when it is no longer ours or cannot be computed at all."""
        with logs.about(**work.about):
            return self._computed(work, between_batches)

    def _computed(self, work: Work, between_batches: Callable[[], None] | None) -> Done | None:
        lease = work.claim.lease
        if not work.begun and not self._in_transaction(lambda connection: self._begin(connection, lease)):
            log.warning("the lease was lost before its chunk was begun")
            return None
        self._spent.add(Meter.CLAIMS_AGAIN if work.claim.chunks[0].attempts else Meter.CLAIMS_FIRST, 1)
        try:
            return done(work, self._predictions(work, between_batches), self._memo)
        except Exception as error:
            # Not one bad text (the classifier sees to these) but the network as a whole. It counts as a death: after
            # three the chunk is split, so that whatever is wrong stays with as few texts as possible.
            log.exception("computing %d texts failed", len(work.texts))
            self._heart.drop(lease)
            self._in_transaction(lambda connection: store.expire(connection, lease))
            if isinstance(error, DeviceLostError):
                # This process will compute nothing any more: it ends, and whoever watches over it starts another.
                self._stopping.set()
                os.kill(os.getpid(), signal.SIGTERM)
            return None

    def _predictions(
        self, work: Work, between_batches: Callable[[], None] | None
    ) -> list[tuple[list[int], Predictions]]:
        """Run the network on what is not known: the fresh texts, and those awaited ones whose twin has failed."""
        late = []
        for position in work.awaited:
            if found := self._memo.get(work.keys[position]):
                work.known[position] = found
            else:
                late.append(position)
        started = time.monotonic()
        computed = [(list(work.fresh), self._classifier.compute(work.prepared, between_batches))]
        if late:
            prepared = self._classifier.prepare([post_of(work.texts[position]) for position in late])
            computed.append((late, self._classifier.compute(prepared, between_batches)))
        for _, predictions in computed:
            self._spent.add_effort(predictions.effort)
        lane = Lane.INTERACTIVE if between_batches is None else Lane.BULK
        self._rates[lane].note(len(work.fresh) + len(late), time.monotonic() - started)
        return computed

    @staticmethod
    def _begin(connection: Connection, lease: UUID) -> bool:
        store.relaxed(connection)
        return store.begin(connection, lease)

    def _record(self, work: Work, found: Done | None) -> None:
        """Record the outcomes under the lease and wake who waits; repeats while Postgres is away for a moment."""
        lease = work.claim.lease
        if found is None:
            self._heart.drop(lease)
            return
        spent = self._spent.take()
        try:
            with self._spent.timed(Meter.RECORD_SECONDS):
                settled = self._finish(lease, found, spent)
        except BaseException:
            self._spent.put_back(spent)
            raise
        finally:
            self._heart.drop(lease)
        with logs.about(**work.about, rows=len(work.texts), known=len(work.known)):
            log.info("recorded")
        self._traces.computed(
            {chunk.job_id for chunk in work.claim.chunks},
            work.claimed_at,
            time.time_ns(),
            {"prepared": work.prepared_at, "computed": found.computed_at},
            {"rubrika.lease": lease.hex, "rubrika.rows": len(work.texts), "rubrika.known": len(work.known)},
        )
        self._bell.wake(settled)
        if self._settings.cache_rows and (found.learned or found.stale):
            self._remember(found)

    def _finish(self, lease: UUID, found: Done, spent: Mapping[str, float]) -> list[UUID]:
        deadline = time.monotonic() + RECORD_SECONDS
        while True:
            try:
                return self._in_transaction(
                    lambda connection: store.finish(
                        connection, lease, self._model_id, found.outcomes, worker=self._heart.worker, spent=spent
                    ),
                )
            except UnavailableError:
                if time.monotonic() > deadline or self._stopping.wait(0.2):
                    raise

    def _remember(self, found: Done) -> None:
        """Add to the cache. Whatever goes wrong with that, the results are recorded."""

        def step(connection: Connection) -> None:
            store.relaxed(connection)
            answers.remember(connection, self._model_id, found.learned)
            if found.stale:
                answers.refresh(connection, self._model_id, found.stale)

        try:
            self._in_transaction(step)
        except Exception as error:
            log.warning("%d answers are not kept for later: %s", len(found.learned), error)

    def _in_transaction(self, step: Callable[[Connection], T]) -> T:
        return run(self._engine, step)
