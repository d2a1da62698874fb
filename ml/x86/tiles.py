"""Products of blocks of matrices by AMX, and by loops where a processor has none.

A tile is 16 rows of 64 bytes. `TDPBF16PS` multiplies a tile of 16 x 32 numbers of bfloat16 with one of 32 x 16, whose
rows hold pairs of neighbours from the first dimension, and adds 16 x 16 numbers of float32: 16,384 operations in 16
cycles. `TDPBUSD` multiplies one of 16 x 64 unsigned bytes with one of 64 x 16 signed bytes, whose rows hold four
neighbours, and adds whole numbers of 32 bits: twice as many operations in that time (Intel 64 and IA-32 Architectures
Software Developer's Manual, volume 2).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from ml.backends import tiles_are_allowed
from ml.x86.dots import add_bytes
from ml.x86.emit import BYTE, called, compiled, features, operation
from ml.x86.vectors import brain, fused, load, load_every_second_brain, spread, store

TILE = 1024
"""Bytes of a tile."""
ROWS = 16
DEPTH = 32
"""Numbers of bfloat16 in a row of a tile."""
BYTES_DEEP = 64
"""Bytes in a row of a tile."""

_address = BYTE.as_pointer()


def _tile_operation(name: str, registers: tuple[int, ...], taken: tuple[Any, ...] = ()) -> Any:
    """Return a function for Numba's code: LLVM's operation of this name on registers that are named once and for all,
    and on an address and a stride where it has them."""

    def emit(builder: Any, *values: Any) -> None:
        operands = [ir.Constant(BYTE, register) for register in registers]
        operands += [builder.inttoptr(value, _address) if place == 0 else value for place, value in enumerate(values)]
        called(builder, f"llvm.x86.{name}", *operands, returned=ir.VoidType())

    emit.__name__ = "_".join([name, *map(str, registers)])
    return operation(types.void, *taken)(emit)


_TWO = (types.int64, types.int64)
_configure = _tile_operation("ldtilecfg", (), (types.int64,))
_remember = _tile_operation("sttilecfg", (), (types.int64,))
_zero0, _zero1, _zero2, _zero3 = (_tile_operation("tilezero", (register,)) for register in range(4))
_load4, _load5, _load6, _load7 = (_tile_operation("tileloadd64", (register,), _TWO) for register in range(4, 8))
_store0, _store1, _store2, _store3 = (_tile_operation("tilestored64", (register,), _TWO) for register in range(4))
# Upper and lower rows with left and right columns.
_PRODUCTS = ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7))
_brains0, _brains1, _brains2, _brains3 = (_tile_operation("tdpbf16ps", registers) for registers in _PRODUCTS)
_bytes0, _bytes1, _bytes2, _bytes3 = (_tile_operation("tdpbusd", registers) for registers in _PRODUCTS)

CONFIGURATION = 64
"""Bytes that say how many rows and columns the tiles have."""


def configuration() -> npt.NDArray[np.uint8]:
    """Return the one that we use: eight tiles of 16 rows of 64 bytes."""
    made = np.zeros(CONFIGURATION, dtype=np.uint8)
    made[0] = 1
    made[16:32:2] = 64
    made[48:56] = ROWS
    return made


def _native_enter(ours: int, theirs: int) -> None:
    _remember(theirs)
    _configure(ours)


def _native_leave(theirs: int) -> None:
    _configure(theirs)


def _plain_enter(_ours: int, _theirs: int) -> None:
    pass


def _plain_leave(_theirs: int) -> None:
    pass


def _native_begin(_out: int, _next_row: int) -> None:
    _zero0()
    _zero1()
    _zero2()
    _zero3()


def _native_step(upper: int, lower: int, row: int, left: int, right: int, _out: int, _next_row: int) -> None:
    _load6(left, 64)
    _load7(right, 64)
    _load4(upper, row)
    _load5(lower, row)
    _brains0()
    _brains1()
    _brains2()
    _brains3()


def _native_step_bytes(
    upper: int, lower: int, row: int, left: int, right: int, column: int, _out: int, _next_row: int
) -> None:
    _load6(left, column)
    _load7(right, column)
    _load4(upper, row)
    _load5(lower, row)
    _bytes0()
    _bytes1()
    _bytes2()
    _bytes3()


def _native_end(out: int, next_row: int) -> None:
    _store0(out, next_row)
    _store1(out + 64, next_row)
    _store2(out + ROWS * next_row, next_row)
    _store3(out + ROWS * next_row + 64, next_row)


def _plain_begin(out: int, next_row: int) -> None:
    for place in range(2 * ROWS):
        store(out + place * next_row, spread(np.float32(0)))
        store(out + place * next_row + 64, spread(np.float32(0)))


def _plain_step(upper: int, lower: int, row: int, left: int, right: int, out: int, next_row: int) -> None:
    for place in range(2 * ROWS):
        start = (upper if place < ROWS else lower) + place % ROWS * row
        for half in range(2):
            columns, here = right if half else left, out + place * next_row + half * 64
            sums = load(here)
            for number in range(DEPTH):
                given = spread(brain(start + number * 2))
                sums = fused(given, load_every_second_brain(columns + number // 2 * 64, number % 2), sums)
            store(here, sums)


def _plain_step_bytes(
    upper: int, lower: int, row: int, left: int, right: int, column: int, out: int, next_row: int
) -> None:
    for place in range(2 * ROWS):
        start = (upper if place < ROWS else lower) + place % ROWS * row
        for half in range(2):
            columns, here = right if half else left, out + place * next_row + half * 64
            for number in range(ROWS):
                add_bytes(here, start + number * 4, columns + number * column)


def _plain_end(_out: int, _next_row: int) -> None:
    pass


NATIVE = {"amx-tile", "amx-bf16"} <= features() and tiles_are_allowed()
"""Whether this process multiplies by AMX."""

NATIVE_BYTES = NATIVE and "amx-int8" in features()
"""Whether it multiplies bytes by AMX too."""

enter = compiled(_native_enter if NATIVE else _plain_enter)
"""Take the tiles of this thread, configured by what lies at `ours`; what `theirs` is to hold is how they were before. A
library that has configured them does not look again."""

leave = compiled(_native_leave if NATIVE else _plain_leave)
"""Give them back."""

begin_block = compiled(_native_begin if NATIVE else _plain_begin)
"""Begin 32 x 32 products. `out`: where they will be in the end, float32; `next_row`: bytes from one row to the next."""

step_block = compiled(_native_step if NATIVE else _plain_step)
"""Multiply 32 more numbers of each row with those of each column and add them up.

`upper`, `lower`: addresses of the first 16 rows and of the others, bfloat16, `row` bytes from one to the next; `left`,
`right`: tiles of the first 16 columns and of the others; `out`, `next_row`: as they were at the beginning."""

step_bytes = compiled(_native_step_bytes if NATIVE_BYTES else _plain_step_bytes)
"""Multiply 64 more bytes of each row with those of each column and add them up: as `step_block`, but that rows hold
unsigned bytes, columns signed ones, `column` bytes from four neighbours of the first 16 columns to the next four, and
sums are whole numbers."""

end_block = compiled(_native_end if NATIVE else _plain_end)
"""Write what has been added up."""
