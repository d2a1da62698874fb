"""Texts through a backend: several batches in flight, memory that runs out, and texts that fail alone."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.backends import Backend, Logits, Pending
from ml.batches import Ids, plan
from ml.errors import BackendError, DeviceLostError, MemoryShortError

log = logging.getLogger(__name__)

Batch = npt.NDArray[np.int64]

SHORT = (MemoryShortError, MemoryError)

SMALLEST_BUDGET = 512
"""Tokens of a batch below which short memory is no reason to make all that follow smaller still."""


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
        self._tokens = tokens or backend.batching.tokens

    def run(
        self, ids: Sequence[Ids], between_batches: Callable[[], None] | None = None
    ) -> tuple[Logits, dict[int, str], Effort]:
        """Return logits, float32 (texts, topics), the reasons of the texts that failed (their rows are NaN), and the
        effort.

        `between_batches` is called between two batches; what it raises ends the call.

        Raises:
            DeviceLostError: nothing can be computed any more.
        """
        logits = np.full((len(ids), self._topics), np.nan, dtype=np.float32)
        failed: dict[int, str] = {}
        flying: deque[tuple[Batch, Pending]] = deque()
        effort, began, elsewhere = Effort(), time.monotonic(), 0.0
        multiple = self._backend.batching.multiple
        for number, batch in enumerate(plan(ids, self._tokens, multiple)):
            if number and between_batches is not None:
                left = time.monotonic()
                between_batches()
                elsewhere += time.monotonic() - left
            effort += _effort([len(ids[text]) for text in batch], multiple)
            self._begin(ids, batch, flying, logits, failed)
            while len(flying) >= self._backend.batching.in_flight:
                self._finish(ids, *flying.popleft(), logits, failed)
        while flying:
            self._finish(ids, *flying.popleft(), logits, failed)
        return logits, failed, effort + Effort(seconds=time.monotonic() - began - elsewhere)

    def _begin(
        self,
        ids: Sequence[Ids],
        batch: Batch,
        flying: deque[tuple[Batch, Pending]],
        logits: Logits,
        failed: dict[int, str],
    ) -> None:
        try:
            flying.append((batch, self._backend.start([ids[text] for text in batch])))
        except SHORT:
            # What is in flight holds memory too: only when it has come down is it known what fits.
            while flying:
                self._finish(ids, *flying.popleft(), logits, failed)
            self._in_halves(ids, batch, logits, failed)
        except DeviceLostError:
            raise
        except Exception as error:
            self._singly(ids, batch, logits, failed, error)

    def _finish(
        self, ids: Sequence[Ids], batch: Batch, pending: Pending, logits: Logits, failed: dict[int, str]
    ) -> None:
        try:
            logits[batch] = _checked(pending())
        except SHORT:
            self._in_halves(ids, batch, logits, failed)
        except DeviceLostError:
            raise
        except Exception as error:
            self._singly(ids, batch, logits, failed, error)

    def _in_halves(self, ids: Sequence[Ids], batch: Batch, logits: Logits, failed: dict[int, str]) -> None:
        """Compute a batch that did not fit as two, and make the batches of later calls smaller as well."""
        if len(batch) == 1:
            failed[int(batch[0])] = "MemoryShortError: the memory does not suffice for this text alone."
            return
        held = sum(len(ids[text]) for text in batch)
        if SMALLEST_BUDGET < held // 2 < self._tokens:
            self._tokens = held // 2
            log.warning("memory is short: from now on %d tokens a batch", self._tokens)
        for half in np.array_split(batch, 2):
            try:
                pending = self._backend.start([ids[text] for text in half])
            except SHORT:
                self._in_halves(ids, half, logits, failed)
            except DeviceLostError:
                raise
            except Exception as error:
                self._singly(ids, half, logits, failed, error)
            else:
                self._finish(ids, half, pending, logits, failed)

    def _singly(
        self, ids: Sequence[Ids], batch: Batch, logits: Logits, failed: dict[int, str], error: Exception
    ) -> None:
        """Find the texts for which a batch failed; the others have their results all the same."""
        for text in batch.tolist():
            if len(batch) > 1:
                try:
                    logits[text] = _checked(self._backend.start([ids[text]])())[0]
                    continue
                except DeviceLostError:
                    raise
                except Exception as own:
                    error = own
            failed[text] = reason(error)


def reason(error: Exception) -> str:
    """Say in one line why a text failed."""
    return f"{type(error).__name__}: {error}"[:300]


def _checked(logits: Logits) -> Logits:
    if not np.isfinite(logits).all():
        raise BackendError("The network returned something that is not a number.")
    return logits


def _effort(lengths: Sequence[int], multiple: int) -> Effort:
    tokens = sum(lengths)
    # Packed texts are not filled up.
    padded = -(-max(lengths) // multiple) * multiple * len(lengths) if multiple else tokens
    return Effort(1, tokens, padded - tokens)
