"""The steps of BERT that are the same whatever multiplies, over texts that lie packed, one behind the other.

All numbers lie at addresses. States are float32 (tokens, width).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.x86.emit import LANES, compiled, entrance
from ml.x86.vectors import (
    first,
    fused,
    larger,
    largest,
    load,
    load_half,
    power_of_two,
    spread,
    store,
    store_brain,
    total,
)

LOWEST = np.float32(-3e38)
ZERO = np.float32(0)
ONE = np.float32(1)
BLOCK = 32
"""Columns, or keys of a text, that are computed together."""
PARTS, WIDE, STATES, NOWHERE = range(4)
"""Where products go."""


@compiled
def moments(row: int, width: int, epsilon: float) -> Any:
    """Return `a` and `b` of the layer normalisation `a * x + b` of a row (Ba et al. 2016, arXiv:1607.06450)."""
    # Four sums at a time: each waits for its own last addition alone.
    left, right, left_squares, right_squares = spread(ZERO), spread(ZERO), spread(ZERO), spread(ZERO)
    for place in range(0, width * 4, 128):
        one, other = load(row + place), load(row + place + 64)
        left, right = left + one, right + other
        left_squares, right_squares = fused(one, one, left_squares), fused(other, other, right_squares)
    share = ONE / np.float32(width)
    mean = total(left + right) * share
    variance = max(total(left_squares + right_squares) * share - mean * mean, ZERO)
    steep = ONE / np.float32(math.sqrt(variance + np.float32(epsilon)))
    return steep, -mean * steep


@compiled
def embed(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    words: int,
    positions: int,
    states: int,
    width: int,
) -> None:
    """Add for each token its row of `words`, float16, and that of its place in its text, float32."""
    for text in range(len(starts) - 1):
        place = positions
        for token in range(starts[text], starts[text + 1]):
            word = words + ids[token] * width * 2
            row = states + token * width * 4
            for column in range(0, width, LANES):
                store(row + column * 4, load_half(word + column * 2) + load(place + column * 4))
            place += width * 4


@compiled
def softmax(scores: int, count: int, shares: int, blocks: int, apart: int) -> Any:
    """Write `2 ** (score - highest)` of a row of scores in bfloat16, `apart` bytes from each 32 of them to the next of
    `blocks`; return one over their sum."""
    whole = count // LANES * LANES
    highest = spread(LOWEST)
    for column in range(0, whole, LANES):
        highest = larger(highest, load(scores + column * 4))
    if whole < count:
        highest = larger(highest, first(load(scores + whole * 4), count - whole, LOWEST))
    top, sums = spread(largest(highest)), spread(ZERO)
    for column in range(0, whole, LANES):
        share = power_of_two(load(scores + column * 4) - top)
        sums = sums + share
        store_brain(shares + column // BLOCK * apart + column % BLOCK * 2, share)
    for column in range(whole, blocks * BLOCK, LANES):
        share = first(power_of_two(load(scores + column * 4) - top), count - column, ZERO)
        sums = sums + share
        store_brain(shares + column // BLOCK * apart + column % BLOCK * 2, share)
    return ONE / total(sums)


@compiled
def merge(states: int, weights: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], width: int) -> None:
    """Make of each two neighbours of a text their mean, weighted by how many tokens each stands for, and of a last one
    without a neighbour itself; `weights` and `starts` (texts + 1,) become those of what is left. In place: as
    `ml.network.merge_pairs` does it."""
    done, begin = 0, starts[0]
    for text in range(len(starts) - 1):
        end = starts[text + 1]
        for token in range(begin, end, 2):
            left = states + token * width * 4
            target = states + done * width * 4
            if token + 1 < end:
                sums = weights[token] + weights[token + 1]
                share, other = spread(weights[token] / sums), spread(weights[token + 1] / sums)
                for column in range(0, width * 4, 64):
                    right = load(left + width * 4 + column)
                    store(target + column, fused(load(left + column), share, right * other))
                weights[done] = sums
            else:
                for column in range(0, width * 4, 64):
                    store(target + column, load(left + column))
                weights[done] = weights[token]
            done += 1
        begin = end
        starts[text + 1] = done


@entrance
def mean(states: int, weights: npt.NDArray[np.float32], starts: npt.NDArray[np.int64], width: int, pooled: int) -> None:
    """The mean of each text over its tokens, weighted: float32 (texts, width)."""
    for text in range(len(starts) - 1):
        sums = ZERO
        for token in range(starts[text], starts[text + 1]):
            sums += weights[token]
        for column in range(0, width * 4, 64):
            found = spread(ZERO)
            for token in range(starts[text], starts[text + 1]):
                found = fused(load(states + token * width * 4 + column), spread(weights[token]), found)
            store(pooled + text * width * 4 + column, found * spread(ONE / sums))


@entrance
def ngrams(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.int32],
    table: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float32],
) -> None:
    """Add up for each text the rows of its n-grams, as `ml.ngrams` finds them: float32 (texts, columns)."""
    rows, longest = len(table), hashes.shape[1]
    for text in range(len(starts) - 1):
        for token in range(starts[text], starts[text + 1]):
            row = 0
            for place in range(min(longest, starts[text + 1] - token)):
                row += hashes[ids[token + place], place]
                if row >= rows:
                    row -= rows
                for column in range(table.shape[1]):
                    sums[text, column] += table[row, column]
