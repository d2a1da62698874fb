"""BERT over packed texts by AMX, in bfloat16.

All numbers lie at addresses, which `ml.x86.amx_network` gives out. States are float32 (tokens, width), and once more in
bfloat16 as tiles: 16 tokens x 32 numbers each, all of the first 16 tokens, then those of the next. What a product is
given is in bfloat16, sums and everything between them in float32. One thread computes one batch.
"""

import numpy as np
import numpy.typing as npt

from ml.x86.emit import LANES, compiled, entrance
from ml.x86.steps import PARTS, STATES, WIDE, ZERO, embed, merge, moments, softmax
from ml.x86.tiles import DEPTH, ROWS, TILE, begin_block, end_block, enter, leave, step_block
from ml.x86.vectors import (
    fused,
    gelu,
    load,
    pair_up,
    spread,
    store,
    store_brain,
    store_bytes,
    transpose,
)

SUMS = 4 * ROWS * ROWS * 4
"""Bytes of a block of sums."""


@compiled
def tile_row(tiles: int, token: int, width: int) -> int:
    """Where the row of a token begins in its first tile, of matrices with `width` columns."""
    return tiles + token // ROWS * (width // DEPTH) * TILE + token % ROWS * 64


@compiled
def normalise(
    states: int, tiles: int, scale: int, shift: int, begin: int, end: int, width: int, epsilon: float
) -> None:
    """Layer normalisation of the states of tokens, in place and into tiles."""
    for token in range(begin, end):
        row = states + token * width * 4
        steep, level = moments(row, width, epsilon)
        steepness, off = spread(steep), spread(level)
        target = tile_row(tiles, token, width)
        for place in range(0, width * 4, 128):
            for half in range(0, 128, 64):
                here = place + half
                one = fused(fused(load(row + here), steepness, off), load(scale + here), load(shift + here))
                store(row + here, one)
                store_brain(target + half // 2, one)
            target += TILE


@compiled
def multiply(
    given: int,
    inputs: int,
    weights: int,
    bias: int,
    outputs: int,
    begin: int,
    end: int,
    scratch: int,
    goal: int,
    target: int,
    size: int,
    room: int,
) -> None:
    """Multiply tiles, the first of them for the token `begin`, with weights, and add a bias.

    What comes out goes to `target`:

    - `PARTS`: for each `size` outputs bfloat16 (room, size);
    - `WIDE`: GELU of it (Hendrycks and Gimpel 2016, arXiv:1606.08415) as tiles, the first for the token `begin`;
    - `STATES`: it is added to the states;
    - `NOWHERE`: it is dropped.

    A block of 32 x 32 is written while the next is multiplied, for which other parts of the processor are there.
    """
    steps, spare = inputs // DEPTH, scratch + SUMS
    share = (2 * ROWS + steps - 1) // steps
    last_bias, last_target, last_token = 0, 0, -1
    for column in range(0, outputs, 2 * ROWS):
        left = weights + column // ROWS * steps * TILE
        right = left + steps * TILE
        if goal == PARTS:
            here = target + (column // size * room * size + column % size) * 2
        elif goal == WIDE:
            here = target + column // DEPTH * TILE
        else:
            here = target + column * 4
        for token in range(begin, end, 2 * ROWS):
            upper = given + (token - begin) // ROWS * steps * TILE
            lower = upper + steps * TILE
            begin_block(scratch, 128)
            for number in range(steps):
                far = number * TILE
                step_block(upper + far, lower + far, 64, left + far, right + far, scratch, 128)
                if last_token >= 0:
                    for row in range(number * share, min(number * share + share, 2 * ROWS)):
                        write(goal, spare + row * 128, last_bias, last_target, last_token + row, begin, outputs, size)
            end_block(scratch, 128)
            last_bias, last_target, last_token = bias + column * 4, here, token
            scratch, spare = spare, scratch
    for row in range(2 * ROWS):
        write(goal, spare + row * 128, last_bias, last_target, last_token + row, begin, outputs, size)


@compiled
def write(goal: int, sums: int, bias: int, target: int, token: int, begin: int, outputs: int, size: int) -> None:
    """Write 32 sums of a token, as `multiply` says; `target` is where they go for token 0."""
    low, high = load(sums) + load(bias), load(sums + 64) + load(bias + 64)
    if goal == PARTS:
        here = target + token * size * 2
        store_brain(here, low)
        store_brain(here + 32, high)
    elif goal == WIDE:
        here = tile_row(target, token - begin, outputs)
        store_brain(here, gelu(low))
        store_brain(here + 32, gelu(high))
    elif goal == STATES:
        here = target + token * outputs * 4
        store(here, load(here) + low)
        store(here + 64, load(here + 64) + high)


@compiled
def block(
    upper: int, lower: int, row: int, step: int, left: int, right: int, depth: int, steps: int, out: int, next_row: int
) -> None:
    """Multiply 32 rows with 32 columns: `step` and `depth` bytes from 32 numbers of them to the next 32."""
    begin_block(out, next_row)
    for number in range(steps):
        given, columns = number * step, number * depth
        step_block(upper + given, lower + given, row, left + columns, right + columns, out, next_row)
    end_block(out, next_row)


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
        context: where the result goes: in bytes, `given` and `zero` as for `ml.x86.byte_kernels.normalise`, or, where
            `given` is 0, into tiles.
        work: addresses of what is made between.
    """
    keys, values, scores, shares, over, scratch = work[0], work[1], work[2], work[3], work[4], work[5]
    blocks, chunks, row = (count + DEPTH - 1) // DEPTH, size // DEPTH, size * 2
    # Of an odd number of lines of the cache, so that rows do not all lie in the same places of it.
    line = blocks * 128 + 64
    for head in range(heads):
        asked = parts + (head * room + begin) * row
        known = asked + heads * room * row
        told = known + heads * room * row
        for number in range(2 * blocks):
            for chunk in range(chunks):
                transpose(known + number * ROWS * row + chunk * 64, row, keys + (number * chunks + chunk) * TILE)
        for token in range(0, blocks * DEPTH, 2):
            for chunk in range(chunks):
                here = values + (2 * chunk * blocks + token // DEPTH) * TILE + token % DEPTH // 2 * 64
                pair_up(told + token * row + chunk * 64, row, here, here + blocks * TILE, count - token)
        for token in range(0, count, 2 * ROWS):
            upper = asked + token * row
            for number in range(blocks):
                left = keys + 2 * number * chunks * TILE
                block(
                    upper,
                    upper + ROWS * row,
                    row,
                    64,
                    left,
                    left + chunks * TILE,
                    TILE,
                    chunks,
                    scores + number * 128,
                    line,
                )
            rows = min(2 * ROWS, count - token)
            for place in range(rows):
                target = shares + place // ROWS * blocks * TILE + place % ROWS * 64
                store(over + place * 64, spread(softmax(scores + place * line, count, target, blocks, TILE)))
            for chunk in range(chunks):
                left = values + 2 * chunk * blocks * TILE
                block(shares, shares + blocks * TILE, 64, TILE, left, left + blocks * TILE, TILE, blocks, scratch, 128)
                if given:
                    column = head * size + chunk * DEPTH
                    here, steps = context + (begin + token) * heads * size + column, given + column * 4
                    write_bytes(scratch, over, steps, zero, rows, here, heads * size)
                    continue
                for place in range(rows):
                    here = tile_row(context, begin + token + place, heads * size) + (head * chunks + chunk) * TILE
                    share = load(over + place * 64)
                    store_brain(here, load(scratch + place * 128) * share)
                    store_brain(here + 32, load(scratch + place * 128 + 64) * share)


@compiled
def write_bytes(sums: int, shares: int, given: int, zero: np.float32, rows: int, target: int, apart: int) -> None:
    """Write 32 sums of each of `rows` tokens, times their shares, in bytes, `apart` of them from token to token."""
    lowest, low, high = spread(zero), load(given), load(given + 64)
    for place in range(rows):
        here, row, share = target + place * apart, sums + place * 128, load(shares + place * 64)
        store_bytes(here, fused(load(row) * share, low, lowest))
        store_bytes(here + LANES, fused(load(row + 64) * share, high, lowest))


@compiled
def as_tiles(states: int, tiles: int, begin: int, end: int, width: int) -> None:
    """Write the states of tokens into tiles."""
    for token in range(begin, end):
        target = tile_row(tiles, token, width)
        for column in range(0, width, DEPTH):
            for half in range(2):
                store_brain(target + half * 32, load(states + (token * width + column + half * LANES) * 4))
            target += TILE


@entrance
def encode(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    merged: npt.NDArray[np.bool_],
    embedding: npt.NDArray[np.int64],
    layers: npt.NDArray[np.int64],
    configuration: int,
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
        layers: addresses (layers, 12): weights and bias of query, key and value in one and of the output of attention,
            scale and shift of its normalisation, weights and bias of both halves of the feed-forward part, scale and
            shift of its normalisation.
        configuration: where that of our tiles lies.
        work: addresses of what is made between, as `Buffers` has them, and where the tiles of others are remembered.
        room: tokens that there is room for, a multiple of 32.
        block_rows: tokens that go through the second half of a layer together, so that they stay in the cache.
    """
    states, tiles, parts, context, inner, scratch = work[6], work[7], work[8], work[9], work[10], work[5]
    enter(configuration, work[11])
    tokens = starts[-1]
    embed(ids, starts, embedding[0], embedding[1], states, width)
    normalise(states, tiles, embedding[2], embedding[3], 0, tokens, width, epsilon)
    for number in range(len(layers)):
        if merged[number]:
            merge(states, weights, starts, width)
            tokens = starts[-1]
            as_tiles(states, tiles, 0, tokens, width)
        layer = layers[number]
        # What lies behind the last token is computed along and not looked at.
        end = (tokens + 2 * ROWS - 1) // (2 * ROWS) * 2 * ROWS
        size = width // heads
        multiply(tiles, width, layer[0], layer[1], 3 * width, 0, end, scratch, PARTS, parts, size, room)
        for text in range(len(starts) - 1):
            count = starts[text + 1] - starts[text]
            attend(parts, room, heads, size, starts[text], count, context, 0, ZERO, work)
        for begin in range(0, end, block_rows):
            stop = min(begin + block_rows, end)
            here, seen = begin // ROWS * (width // DEPTH) * TILE, min(stop, tokens)
            mixed, given = context + here, tiles + here
            multiply(mixed, width, layer[2], layer[3], width, begin, stop, scratch, STATES, states, size, room)
            normalise(states, tiles, layer[4], layer[5], begin, seen, width, epsilon)
            multiply(given, width, layer[6], layer[7], wide, begin, stop, scratch, WIDE, inner, size, room)
            multiply(inner, wide, layer[8], layer[9], width, begin, stop, scratch, STATES, states, size, room)
            normalise(states, tiles, layer[10], layer[11], begin, seen, width, epsilon)
    leave(work[11])
