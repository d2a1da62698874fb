"""The texts of a batch one after the other, without padding between them."""

from collections.abc import Callable, Sequence
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
class Level:
    """The texts of a batch at one length: n texts with t tokens in all, followed by filler up to T tokens.

    Attributes:
        size: T.
        texts: n.
        tokens: t.
        longest: tokens of the longest text.
        runs: neighbours of the same length.
    """

    size: int
    texts: int
    tokens: int
    longest: int
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Packed(Level):
    """A batch as it comes, and where it is to be merged, at its shorter lengths too.

    Attributes:
        numbers: int32, one array, so that one copy brings all to a device. The token ids (T,), the position of each in
            its text (T,), and where each text begins (n + 1,), with t at the end. Then for each of `merged`: the first
            and the last of the tokens that become one, numbered as one level higher, (T,) each, and (n + 1,) as above.
        merged: the levels after the first and after each further merging.
    """

    numbers: Ints
    merged: tuple[Level, ...] = ()

    @property
    def parts(self) -> list[int]:
        """How long the parts of `numbers` are, three for each level."""
        return [length for one in (self, *self.merged) for length in (one.size, one.size, one.texts + 1)]


def pack(
    texts: Sequence[Ids],
    pad_id: int,
    size_of: Callable[[int], int] = lambda tokens: tokens,
    position_after_pad: bool = False,
    merges: int = 0,
) -> Packed:
    """Put the texts of a batch behind one another.

    Args:
        texts: n token ids, of one token at least each.
        pad_id: the filler; it stands at position 0.
        size_of: gives T for a number of tokens.
        position_after_pad: number positions as RoBERTa does: from the number after `pad_id` on, tokens that are
            `pad_id` themselves not counted.
        merges: how often neighbouring tokens become one, two by two; an odd number leaves the last one alone.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    level, ends = _level(lengths, size_of)
    size, tokens = level.size, level.tokens
    ids, positions = np.full(size, pad_id, dtype=np.int32), np.zeros(size, dtype=np.int32)
    np.concatenate(texts, out=ids[:tokens])
    begins = np.repeat(ends[:-1], lengths)
    if position_after_pad:
        real = ids[:tokens] != pad_id
        counted = np.cumsum(real)
        positions[:tokens] = np.where(real, counted - (counted - real)[begins], 0) + pad_id
    else:
        positions[:tokens] = np.arange(tokens) - begins
    numbers, merged = [ids, positions, ends.astype(np.int32)], []
    for _ in range(merges):
        shorter = (lengths + 1) // 2
        below, under = _level(shorter, size_of)
        firsts, lasts = (np.zeros(below.size, dtype=np.int32) for _ in range(2))
        # The pairs of a text begin at its even places, counted from where it begins.
        place = 2 * (np.arange(below.tokens) - np.repeat(under[:-1], shorter)) + np.repeat(ends[:-1], shorter)
        firsts[: below.tokens] = place
        lasts[: below.tokens] = np.minimum(place + 1, np.repeat(ends[1:], shorter) - 1)
        numbers += [firsts, lasts, under.astype(np.int32)]
        merged.append(below)
        lengths, ends = shorter, under
    return Packed(**vars(level), numbers=np.concatenate(numbers), merged=tuple(merged))


def _level(lengths: npt.NDArray[np.int64], size_of: Callable[[int], int]) -> tuple[Level, npt.NDArray[np.int64]]:
    """Return texts of these lengths as a level, and where each begins, with t at the end."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    edges = np.flatnonzero(np.diff(lengths, prepend=-1))
    counts = np.diff(edges, append=len(lengths))
    runs = tuple(map(Run, ends[edges].tolist(), counts.tolist(), lengths[edges].tolist()))
    tokens = int(ends[-1])
    return Level(size_of(tokens), len(lengths), tokens, int(lengths.max()), runs), ends
