"""BERT over packed texts in 8 bits within fixed ranges (`ml.ranges`); attention in bfloat16.

All numbers lie at addresses, which `ml.x86.byte_network` gives out. States are float32 (tokens, width). What a product
is given are unsigned bytes, row by row, the number `x` as `x / step + zero`; weights are signed bytes, for each 32
columns four neighbouring numbers of all, then the next four. One thread computes one batch.
"""

import numpy as np
import numpy.typing as npt

from ml.x86.dots import ROWS, multiply_brains, multiply_bytes
from ml.x86.emit import LANES, compiled, entrance
from ml.x86.steps import BLOCK, PARTS, STATES, WIDE, ZERO, embed, merge, moments, softmax
from ml.x86.vectors import (
    fused,
    load,
    load_whole,
    pair_up,
    short_gelu,
    spread,
    store,
    store_brain,
    store_bytes,
    transpose,
)

SUMS = ROWS * BLOCK * 4
"""Bytes of a block of sums."""
TILE = LANES * LANES * 4
"""Bytes of 32 numbers of bfloat16 of each of 16 keys, transposed."""


@compiled
def normalise(
    states: int,
    rounded: int,
    scale: int,
    shift: int,
    given: int,
    zero: np.float32,
    begin: int,
    end: int,
    width: int,
    epsilon: float,
) -> None:
    """Layer normalisation of the states of tokens, in place and into bytes at `rounded`.

    `given`: one over the step of each channel; `zero`: the byte that stands for 0, as `store_bytes` wants it.
    """
    lowest = spread(zero)
    for token in range(begin, end):
        row, target = states + token * width * 4, rounded + token * width
        steep, level = moments(row, width, epsilon)
        steepness, off = spread(steep), spread(level)
        for column in range(0, width, LANES):
            here = column * 4
            one = fused(fused(load(row + here), steepness, off), load(scale + here), load(shift + here))
            store(row + here, one)
            store_bytes(target + column, fused(one, load(given + here), lowest))


@compiled
def as_bytes(states: int, rounded: int, given: int, zero: np.float32, tokens: int, width: int) -> None:
    """Write states into bytes, as `normalise` does it."""
    lowest = spread(zero)
    for token in range(tokens):
        for column in range(0, width, LANES):
            place = token * width + column
            store_bytes(rounded + place, fused(load(states + place * 4), load(given + column * 4), lowest))


@compiled
def multiply(
    rows: int,
    inputs: int,
    dense: npt.NDArray[np.int64],
    outputs: int,
    begin: int,
    end: int,
    scratch: int,
    goal: int,
    target: int,
    given: int,
    zero: np.float32,
    size: int,
    room: int,
) -> None:
    """Multiply bytes, those at `rows` of the token `begin`, with weights; the sums, scaled and with a bias added,

    - `PARTS`: are for each `size` outputs bfloat16 (room, size) at `target`;
    - `WIDE`: GELU of them (Hendrycks and Gimpel 2016, arXiv:1606.08415) goes there in bytes, the first row for the
      token `begin`; `given` and `zero` as for `normalise`;
    - `STATES`: are added to the states there;
    - `NOWHERE`: are dropped.

    `dense`: addresses of weights, scale and bias.
    """
    weights, scale, bias = dense[0], dense[1], dense[2]
    lowest = spread(zero)
    for column in range(0, outputs, BLOCK):
        columns, here = weights + column * inputs, column * 4
        scales, other_scales = load(scale + here), load(scale + here + 64)
        biases, other_biases = load(bias + here), load(bias + here + 64)
        for token in range(begin, end, ROWS):
            first = rows + (token - begin) * inputs
            multiply_bytes(first, inputs, columns, columns + 64, 128, inputs // 4, scratch, 128)
            if goal == PARTS:
                part = target + ((column // size * room + token) * size + column % size) * 2
                for row in range(ROWS):
                    sums, place = scratch + row * 128, part + row * size * 2
                    store_brain(place, fused(load_whole(sums), scales, biases))
                    store_brain(place + 32, fused(load_whole(sums + 64), other_scales, other_biases))
            elif goal == WIDE:
                steps, other_steps = load(given + here), load(given + here + 64)
                for row in range(ROWS):
                    sums, place = scratch + row * 128, target + (token - begin + row) * outputs + column
                    low = short_gelu(fused(load_whole(sums), scales, biases))
                    high = short_gelu(fused(load_whole(sums + 64), other_scales, other_biases))
                    store_bytes(place, fused(low, steps, lowest))
                    store_bytes(place + LANES, fused(high, other_steps, lowest))
            elif goal == STATES:
                for row in range(ROWS):
                    sums, place = scratch + row * 128, target + ((token + row) * outputs + column) * 4
                    store(place, load(place) + fused(load_whole(sums), scales, biases))
                    store(place + 64, load(place + 64) + fused(load_whole(sums + 64), other_scales, other_biases))


@compiled
def attend(
    parts: int,
    room: int,
    heads: int,
    size: int,
    begin: int,
    count: int,
    context: int,
    given: int,
    zero: np.float32,
    work: npt.NDArray[np.int64],
) -> None:
    """Attention of one text: `count` tokens from `begin` on.

    Args:
        parts: queries, keys and values of all heads, bfloat16 (3, heads, room, size). Queries are so small that the
            power of 2 does what the exponential function is to do.
        context: where the result goes, in bytes; `given` and `zero` as for `normalise`.
        work: addresses of what is made between.
    """
    keys, values, scores, shares, over, scratch = work[0], work[1], work[2], work[3], work[4], work[5]
    blocks, chunks, row = (count + BLOCK - 1) // BLOCK, size // BLOCK, size * 2
    line, lowest = blocks * 128 + 64, spread(zero)
    for head in range(heads):
        asked = parts + (head * room + begin) * row
        known = asked + heads * room * row
        told = known + heads * room * row
        for number in range(2 * blocks):
            for chunk in range(chunks):
                transpose(known + number * LANES * row + chunk * 64, row, keys + (number * chunks + chunk) * TILE)
        for token in range(0, count, 2):
            for chunk in range(chunks):
                here = values + (chunk * blocks * LANES + token // 2) * 128
                pair_up(told + token * row + chunk * 64, row, here, here + 64, count - token)
        for token in range(0, count, ROWS):
            for number in range(blocks):
                left = keys + 2 * number * chunks * TILE
                right, out = left + chunks * TILE, scores + number * 128
                multiply_brains(asked + token * row, row, left, right, 64, size // 2, out, line)
            rows = min(ROWS, count - token)
            for place in range(rows):
                target = shares + place * blocks * 64
                store(over + place * 64, spread(softmax(scores + place * line, count, target, blocks, 64)))
            for chunk in range(chunks):
                left = values + chunk * blocks * LANES * 128
                multiply_brains(shares, blocks * 64, left, left + 64, 128, (count + 1) // 2, scratch, 128)
                column = head * size + chunk * BLOCK
                steps, other_steps = load(given + column * 4), load(given + column * 4 + 64)
                for place in range(rows):
                    here = context + (begin + token + place) * heads * size + column
                    share, sums = load(over + place * 64), scratch + place * 128
                    store_bytes(here, fused(load(sums) * share, steps, lowest))
                    store_bytes(here + LANES, fused(load(sums + 64) * share, other_steps, lowest))


@entrance
def encode(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    merged: npt.NDArray[np.bool_],
    embedding: npt.NDArray[np.int64],
    layers: npt.NDArray[np.int64],
    zeros: npt.NDArray[np.float32],
    work: npt.NDArray[np.int64],
    room: int,
    block_rows: int,
    width: int,
    heads: int,
    wide: int,
    epsilon: float,
) -> None:
    """Compute the states of all tokens of a batch, at `work[6]`.

    Args:
        ids: (tokens,), the texts one behind the other.
        starts: (texts + 1,), where each begins, and the end; afterwards, after what was merged.
        weights: (tokens,), 1 everywhere; afterwards, how many tokens each that is left stands for.
        merged: (layers,), before which of them neighbours are merged.
        embedding: addresses of words, positions, scale and shift.
        layers: addresses (layers + 1, 20): weights, scale and bias of query, key and value in one, of the output of
            attention, and of both halves of the feed-forward part; scale and shift of both normalisations; and one over
            the steps of the inputs of these four products. Of the last row the latter alone count.
        zeros: (layers + 1, 4), which byte stands for 0 in these inputs, as `store_bytes` wants it.
        work: addresses of what is made between, as `Buffers` has them.
        room: tokens that there is room for, a multiple of `ROWS`.
        block_rows: tokens that go through the second half of a layer together, so that they stay in the cache.
    """
    states, rounded, parts, context, inner, scratch = work[6], work[7], work[8], work[9], work[10], work[5]
    tokens, size = starts[-1], width // heads
    embed(ids, starts, embedding[0], embedding[1], states, width)
    following, zero = layers[0], zeros[0]
    normalise(states, rounded, embedding[2], embedding[3], following[16], zero[0], 0, tokens, width, epsilon)
    for number in range(len(layers) - 1):
        layer, following = following, layers[number + 1]
        zero, next_zero = zeros[number], zeros[number + 1, 0]
        if merged[number]:
            merge(states, weights, starts, width)
            tokens = starts[-1]
            as_bytes(states, rounded, layer[16], zero[0], tokens, width)
        # What lies behind the last token is computed along and not looked at.
        end = (tokens + ROWS - 1) // ROWS * ROWS
        multiply(rounded, width, layer[0:3], 3 * width, 0, end, scratch, PARTS, parts, 0, ZERO, size, room)
        for text in range(len(starts) - 1):
            count = starts[text + 1] - starts[text]
            attend(parts, room, heads, size, starts[text], count, context, layer[17], zero[1], work)
        for begin in range(0, end, block_rows):
            stop = min(begin + block_rows, end)
            seen, mixed, here = min(stop, tokens), context + begin * width, rounded + begin * width
            multiply(mixed, width, layer[3:6], width, begin, stop, scratch, STATES, states, 0, ZERO, 0, 0)
            normalise(states, rounded, layer[12], layer[13], layer[18], zero[2], begin, seen, width, epsilon)
            multiply(here, width, layer[6:9], wide, begin, stop, scratch, WIDE, inner, layer[19], zero[3], 0, 0)
            multiply(inner, wide, layer[9:12], width, begin, stop, scratch, STATES, states, 0, ZERO, 0, 0)
            normalise(states, rounded, layer[14], layer[15], following[16], next_zero, begin, seen, width, epsilon)
