"""Texts through a backend: several batches in flight, memory that runs out, and texts that fail alone."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ml.backends import Backend, Logits, Pending
from ml.batches import Ids, plan
from ml.errors import BackendError, DeviceLostError, MemoryShortError

log = logging.getLogger(__name__)
T = TypeVar("T")

Batch = npt.NDArray[np.int64]

SHORT = (MemoryShortError, MemoryError)

SMALLEST_BUDGET = 512
"""Tokens of a batch below which short memory is no reason to make all that follow smaller still. Nor is it the fault
of a text that has no more: then the memory is taken by something else, and another text would not fit either."""


@dataclass(frozen=True)
class Effort:
    """What the network had to do.

    Attributes:
        batches: how many it was given.
        tokens: tokens of texts in them.
        padding: tokens that only filled them up.
        seconds: how long it took, what happened between batches not counted.
    """

    batches: int = 0
    tokens: int = 0
    padding: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(
            self.batches + other.batches,
            self.tokens + other.tokens,
            self.padding + other.padding,
            self.seconds + other.seconds,
        )


NO_EFFORT = Effort()


@dataclass(frozen=True)
class _Failure:
    """Why there is nothing of a batch. Not the error itself, which holds the memory of all that it has interrupted."""

    is_short: bool
    reason: str


class Runner:
    """Runs texts in batches.

    `run` keeps nothing between batches but the budget, so that `between_batches` may call it again.

    Args:
        backend: what runs the network.
        topics: number of outputs.
        tokens: most tokens in a batch; None: what suits the backend.
    """

    def __init__(self, backend: Backend, topics: int, tokens: int | None = None) -> None:
        self._backend = backend
        self._topics = topics
        # What suits the backend may become less while it warms up.
        self._tokens = tokens

    def run(
        self, ids: Sequence[Ids], between_batches: Callable[[], None] | None = None
    ) -> tuple[Logits, dict[int, str], Effort]:
        """Return logits, float32 (texts, topics), the reasons of the texts that failed (their rows are NaN), and the
        effort.

        `between_batches` is called between two batches; what it raises ends the call.

        Raises:
            DeviceLostError: nothing can be computed any more.
        """
        batching = self._backend.batching
        logits = np.full((len(ids), self._topics), np.nan, dtype=np.float32)
        failed: dict[int, str] = {}
        flying: deque[tuple[Batch, Pending]] = deque()
        effort, began, elsewhere = Effort(), time.monotonic(), 0.0
        for number, batch in enumerate(plan(ids, self._budget, batching.multiple)):
            if number and between_batches is not None:
                left = time.monotonic()
                between_batches()
                elsewhere += time.monotonic() - left
            lengths = [len(ids[text]) for text in batch]
            effort += Effort(1, sum(lengths), batching.computed(lengths) - sum(lengths))
            self._begin(ids, batch, flying, logits, failed)
            while len(flying) >= batching.in_flight:
                self._finish(ids, *flying.popleft(), logits, failed)
        while flying:
            self._finish(ids, *flying.popleft(), logits, failed)
        return logits, failed, effort + Effort(seconds=time.monotonic() - began - elsewhere)

    @property
    def _budget(self) -> int:
        return self._tokens or self._backend.batching.tokens

    def _begin(
        self,
        ids: Sequence[Ids],
        batch: Batch,
        flying: deque[tuple[Batch, Pending]],
        logits: Logits,
        failed: dict[int, str],
    ) -> None:
        begun = _tried(lambda: self._backend.start([ids[text] for text in batch]))
        if not isinstance(begun, _Failure):
            flying.append((batch, begun))
            return
        was_flying = bool(flying)
        if begun.is_short:
            # What is in flight holds memory too: only when it has come down is it known what fits.
            while flying:
                self._finish(ids, *flying.popleft(), logits, failed)
        if begun.is_short and was_flying and len(batch) == 1:
            # It cannot be halved, and may fit now.
            self._at_once(ids, batch, logits, failed)
        else:
            self._in_parts(ids, batch, begun, logits, failed)

    def _finish(
        self, ids: Sequence[Ids], batch: Batch, pending: Pending, logits: Logits, failed: dict[int, str]
    ) -> None:
        def settle() -> None:
            logits[batch] = _checked(pending())

        found = _tried(settle)
        if found is not None:
            self._in_parts(ids, batch, found, logits, failed)

    def _in_parts(
        self, ids: Sequence[Ids], batch: Batch, failure: _Failure, logits: Logits, failed: dict[int, str]
    ) -> None:
        """Compute what a batch that has failed can still give."""
        if len(batch) == 1:
            text = int(batch[0])
            failed[text] = self._alone(len(ids[text]), failure)
        elif failure.is_short:
            self._in_halves(ids, batch, logits, failed)
        else:
            # One text may be at fault; the others have their results all the same.
            for one in np.array_split(batch, len(batch)):
                self._at_once(ids, one, logits, failed)

    def _in_halves(self, ids: Sequence[Ids], batch: Batch, logits: Logits, failed: dict[int, str]) -> None:
        """Compute a batch that did not fit as two, and make the batches of later calls smaller as well."""
        held = sum(len(ids[text]) for text in batch)
        if SMALLEST_BUDGET < held // 2 < self._budget:
            self._tokens = held // 2
            log.warning("memory is short: from now on %d tokens a batch", self._tokens)
        for half in np.array_split(batch, 2):
            self._at_once(ids, half, logits, failed)

    def _at_once(self, ids: Sequence[Ids], batch: Batch, logits: Logits, failed: dict[int, str]) -> None:
        """Begin a batch and wait for it, or for its parts."""
        begun = _tried(lambda: self._backend.start([ids[text] for text in batch]))
        if isinstance(begun, _Failure):
            self._in_parts(ids, batch, begun, logits, failed)
        else:
            self._finish(ids, batch, begun, logits, failed)

    @staticmethod
    def _alone(tokens: int, failure: _Failure) -> str:
        """Return what to say of a text that has failed by itself."""
        if not failure.is_short:
            return failure.reason
        if tokens <= SMALLEST_BUDGET:
            raise DeviceLostError(
                f"The memory does not suffice for a text of {tokens} tokens, and this process must start anew: "
                f"{failure.reason}"
            )
        return "MemoryShortError: the memory does not suffice for this text alone."


def _tried(step: Callable[[], T]) -> T | _Failure:
    """Return what `step` returns, or why it has failed."""
    try:
        return step()
    except DeviceLostError:
        raise
    except Exception as error:
        return _Failure(isinstance(error, SHORT), reason(error))


def reason(error: Exception) -> str:
    """Say in one line why a text failed."""
    return f"{type(error).__name__}: {error}"[:300]


def _checked(logits: Logits) -> Logits:
    if not np.isfinite(logits).all():
        raise BackendError("The network returned something that is not a number.")
    return logits
