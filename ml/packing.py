"""The texts of a batch one after the other, without padding between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ml.batches import Ids

Ints = npt.NDArray[np.int32]


class Run(NamedTuple):
    """Neighbouring texts of the same length: `texts` texts of `length` tokens from token `start` on."""

    start: int
    texts: int
    length: int


@dataclass(frozen=True)
class Packed:
    """A batch of n texts with t tokens in all, followed by filler up to T tokens.

    Attributes:
        numbers: int32 (2 T + n + 1,): the token ids, the position of each in its text, and where each text begins,
            with t at the end. One array, so that one copy brings all to a device.
        size: T.
        texts: n.
        tokens: t.
        longest: tokens of the longest text.
        runs: neighbours of the same length.
    """

    numbers: Ints
    size: int
    texts: int
    tokens: int
    longest: int
    runs: tuple[Run, ...]


def pack(texts: Sequence[Ids], pad_id: int, size: int = 0, position_after_pad: bool = False) -> Packed:
    """Put the texts of a batch behind one another.

    Args:
        texts: n token ids, of one token at least each.
        pad_id: the filler; it stands at position 0.
        size: T; no filler where it is less than there are tokens.
        position_after_pad: number positions as RoBERTa does: from the number after `pad_id` on, tokens that are
            `pad_id` themselves not counted.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    tokens = int(ends[-1])
    size = max(size, tokens)
    numbers = np.empty(2 * size + len(texts) + 1, dtype=np.int32)
    ids, positions, starts = numbers[:size], numbers[size : 2 * size], numbers[2 * size :]
    np.concatenate(texts, out=ids[:tokens])
    ids[tokens:], positions[tokens:] = pad_id, 0
    begins = np.repeat(ends[:-1], lengths)
    if position_after_pad:
        real = ids[:tokens] != pad_id
        counted = np.cumsum(real)
        positions[:tokens] = np.where(real, counted - (counted - real)[begins], 0) + pad_id
    else:
        positions[:tokens] = np.arange(tokens) - begins
    starts[:] = ends
    edges = np.flatnonzero(np.diff(lengths, prepend=-1))
    counts = np.diff(edges, append=len(lengths))
    runs = tuple(map(Run, ends[edges].tolist(), counts.tolist(), lengths[edges].tolist()))
    return Packed(numbers, size, len(texts), tokens, int(lengths.max()), runs)
