"""Which texts are computed together: batches of similar lengths, bounded by tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
"""The token ids of one text, (length,), special tokens included."""


@dataclass(frozen=True)
class Batching:
    """The batches that suit a backend.

    Attributes:
        tokens: most tokens in a batch, padding included, unless one text alone has more.
        multiple: the texts of a batch are padded to the longest, rounded up to this; 0: nothing is padded.
        in_flight: batches that are begun before the first of them is waited for.
        sizes: where nothing is padded, a batch is filled up to the first of these rising numbers of tokens that holds
            it; one text alone may have more than the last of them, and is not.
    """

    tokens: int
    multiple: int = 0
    in_flight: int = 1
    sizes: tuple[int, ...] = ()

    def size_of(self, tokens: int) -> int:
        """Return how many tokens are computed for texts that stand behind one another and have so many."""
        return next((size for size in self.sizes if size >= tokens), tokens)

    def computed(self, lengths: Sequence[int]) -> int:
        """Return how many tokens are computed for a batch of texts of these lengths, those that fill it up included."""
        if not self.multiple:
            return self.size_of(sum(lengths))
        return -(-max(lengths) // self.multiple) * self.multiple * len(lengths)


def plan(ids: Sequence[Ids], tokens: int, multiple: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield indices of texts of similar length, longest first, `tokens` tokens at most; see `Batching`."""
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    if multiple:
        start = 0
        while start < len(order):
            padded = -(-int(lengths[order[start]]) // multiple) * multiple
            count = max(1, tokens // max(1, padded))
            yield order[start : start + count]
            start += count
        return
    ends = np.cumsum(lengths[order])
    start, before = 0, 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, before + tokens, side="right")))
        yield order[start:stop]
        start, before = stop, int(ends[stop - 1])
