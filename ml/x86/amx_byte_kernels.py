"""BERT over packed texts in 8 bits within fixed ranges by AMX; attention in bfloat16.

Numbers lie as those of `ml.x86.byte_kernels`, and products are of tiles. A block of 32 x 32 of them is written while
the next is multiplied, for which other parts of the processor are there.
"""

import numpy as np
import numpy.typing as npt

from ml.x86.amx_kernels import SUMS, attend
from ml.x86.byte_kernels import as_bytes, normalise
from ml.x86.emit import LANES, compiled, entrance
from ml.x86.steps import BLOCK, PARTS, STATES, WIDE, ZERO, embed, merge
from ml.x86.tiles import BYTES_DEEP, ROWS, begin_block, end_block, enter, leave, step_bytes
from ml.x86.vectors import fused, load, load_whole, short_gelu, spread, store, store_brain, store_bytes


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
    """As `ml.x86.byte_kernels.multiply`."""
    steps, spare = inputs // BYTES_DEEP, scratch + SUMS
    share = (2 * ROWS + steps - 1) // steps
    last_column, last_target, last_token = 0, 0, -1
    for column in range(0, outputs, BLOCK):
        columns = dense[0] + column * inputs
        if goal == PARTS:
            here = target + (column // size * room * size + column % size) * 2
        elif goal == WIDE:
            here = target + column
        else:
            here = target + column * 4
        for token in range(begin, end, 2 * ROWS):
            upper = rows + (token - begin) * inputs
            lower = upper + ROWS * inputs
            begin_block(scratch, 128)
            for number in range(steps):
                four = columns + number * (BYTES_DEEP * BLOCK)
                far = number * BYTES_DEEP
                step_bytes(upper + far, lower + far, inputs, four, four + 64, 128, scratch, 128)
                if last_token >= 0:
                    for row in range(number * share, min(number * share + share, 2 * ROWS)):
                        at = last_token + row
                        write(
                            goal,
                            spare + row * 128,
                            dense,
                            last_column,
                            last_target,
                            at,
                            begin,
                            outputs,
                            given,
                            zero,
                            size,
                        )
            end_block(scratch, 128)
            last_column, last_target, last_token = column * 4, here, token
            scratch, spare = spare, scratch
    for row in range(2 * ROWS):
        sums, place = spare + row * 128, last_token + row
        write(goal, sums, dense, last_column, last_target, place, begin, outputs, given, zero, size)


@compiled
def write(
    goal: int,
    sums: int,
    dense: npt.NDArray[np.int64],
    column: int,
    target: int,
    token: int,
    begin: int,
    outputs: int,
    given: int,
    zero: np.float32,
    size: int,
) -> None:
    """Write 32 sums of a token, as `multiply` says; `target` is where they go for token 0, `column` where their
    constants begin."""
    scale, bias = dense[1] + column, dense[2] + column
    low = fused(load_whole(sums), load(scale), load(bias))
    high = fused(load_whole(sums + 64), load(scale + 64), load(bias + 64))
    if goal == PARTS:
        here = target + token * size * 2
        store_brain(here, low)
        store_brain(here + 32, high)
    elif goal == WIDE:
        here, lowest = target + (token - begin) * outputs, spread(zero)
        store_bytes(here, fused(short_gelu(low), load(given + column), lowest))
        store_bytes(here + LANES, fused(short_gelu(high), load(given + column + 64), lowest))
    elif goal == STATES:
        here = target + token * outputs * 4
        store(here, load(here) + low)
        store(here + 64, load(here + 64) + high)


@entrance
def encode(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    merged: npt.NDArray[np.bool_],
    embedding: npt.NDArray[np.int64],
    layers: npt.NDArray[np.int64],
    beside: tuple[npt.NDArray[np.float32], int],
    work: npt.NDArray[np.int64],
    room: int,
    block_rows: int,
    width: int,
    heads: int,
    wide: int,
    epsilon: float,
) -> None:
    """As `ml.x86.byte_kernels.encode`; `beside` is `zeros` there, and where the configuration of our tiles lies.
    At `work[11]` the tiles of others are remembered."""
    states, rounded, parts, context, inner, scratch = work[6], work[7], work[8], work[9], work[10], work[5]
    zeros, configuration = beside
    enter(configuration, work[11])
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
        end = (tokens + 2 * ROWS - 1) // (2 * ROWS) * 2 * ROWS
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
    leave(work[11])
