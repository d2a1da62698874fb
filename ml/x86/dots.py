"""Products of a few rows with 32 columns, by instructions that multiply and add neighbouring numbers of a vector.

`VPDPBUSD` (AVX-512 VNNI) multiplies 16 times four unsigned bytes with four signed ones and adds the products to 16
sums of 32 bits, `VDPBF16PS` (AVX-512 BF16) 16 times two pairs of bfloat16 to 16 of float32 (Intel 64 and IA-32
Architectures Software Developer's Manual, volume 2). Both sums of all rows stay in registers until they are done. On a
processor without these instructions others do the same in more steps.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from ml.x86.emit import BYTE, FLOATS, I32, I64, LANES, WHOLE, BFloat, at, broadcast, called, features, operation

ROWS = 8
"""Rows of a product: twice as many sums are in hand, more than an instruction takes cycles and fewer than registers."""

_bytes = ir.VectorType(BYTE, 4 * LANES)

NATIVE = "avx512vnni" in features()
"""Whether the processor multiplies bytes by itself."""

PAIRS = "avx512bf16" in features()
"""Whether it does so with bfloat16."""

Step = Callable[[Any, Any, Any, Any], Any]
"""From `builder, sums, row, column` to sums."""


def _four_bytes(builder: Any, sums: Any, row: Any, column: Any) -> Any:
    row, column = (builder.bitcast(one, _bytes) for one in (row, column))
    if NATIVE:
        return called(builder, "llvm.x86.avx512.vpdpbusd.512", sums, row, column)
    wide = ir.VectorType(I32, 4 * LANES)
    products = builder.mul(builder.zext(row, wide), builder.sext(column, wide))
    for place in range(4):
        chosen = ir.Constant(WHOLE, [4 * lane + place for lane in range(LANES)])
        sums = builder.add(sums, builder.shuffle_vector(products, products, chosen))
    return sums


def _two_brains(builder: Any, sums: Any, row: Any, column: Any) -> Any:
    if PAIRS:
        kind = ir.VectorType(BFloat(), 2 * LANES)
        row, column = (builder.bitcast(one, kind) for one in (row, column))
        return called(builder, "llvm.x86.avx512bf16.dpbf16ps.512", sums, row, column)
    # The upper half of a float32 is a bfloat16.
    for shifted in (True, False):
        left, right = (
            builder.bitcast(builder.shl(one, _all(16)) if shifted else builder.and_(one, _all(0xFFFF0000)), FLOATS)
            for one in (row, column)
        )
        sums = called(builder, "llvm.fma.v16f32", left, right, sums)
    return sums


def _all(number: int) -> Any:
    return ir.Constant(WHOLE, [number] * LANES)


def _product(kind: Any, step: Step, doc: str) -> Any:
    """Return `product(rows, next_row, left, right, next_step, steps, out, next_out)` for Numba's code.

    It multiplies `ROWS` rows with 32 columns, and writes 128 bytes for each row, `next_out` bytes from one to the next.
    In each step a row has 4 bytes, and each half of the columns 64: at `left` and `right`, `next_step` bytes on.
    """

    def emit(
        builder: Any,
        rows: Any,
        next_row: Any,
        left: Any,
        right: Any,
        next_step: Any,
        steps: Any,
        out: Any,
        next_out: Any,
    ) -> None:
        before, function = builder.block, builder.function
        body, after = (function.append_basic_block(name) for name in ("product", "product.done"))
        starts = [builder.add(rows, builder.mul(next_row, I64(row))) for row in range(ROWS)]
        builder.branch(body)
        builder.position_at_end(body)
        number = builder.phi(I64)
        sums = [[builder.phi(kind) for _ in range(2)] for _ in range(ROWS)]
        here = builder.mul(number, next_step)
        columns = [builder.load(at(builder, builder.add(half, here), WHOLE), align=4) for half in (left, right)]
        place, found = builder.mul(number, I64(4)), []
        for start, pair in zip(starts, sums, strict=True):
            four = builder.load(at(builder, builder.add(start, place), I32), align=1)
            row = broadcast(builder, four, WHOLE)
            found.append([step(builder, one, row, column) for one, column in zip(pair, columns, strict=True)])
        following = builder.add(number, I64(1))
        number.add_incoming(I64(0), before)
        number.add_incoming(following, body)
        for pair, new in zip(sums, found, strict=True):
            for one, added in zip(pair, new, strict=True):
                one.add_incoming(ir.Constant(kind, [0] * LANES), before)
                one.add_incoming(added, body)
        builder.cbranch(builder.icmp_signed("<", following, steps), body, after)
        builder.position_at_end(after)
        for row, new in enumerate(found):
            target = builder.add(out, builder.mul(next_out, I64(row)))
            for half, values in enumerate(new):
                builder.store(values, at(builder, builder.add(target, I64(64 * half)), kind), align=4)

    emit.__name__, emit.__doc__ = f"product_{step.__name__.lstrip('_')}", doc
    return operation(types.void, *[types.int64] * 8)(emit)


multiply_bytes = _product(WHOLE, _four_bytes, "Of unsigned bytes with signed ones, into whole numbers of 32 bits.")
multiply_brains = _product(FLOATS, _two_brains, "Of numbers of bfloat16, into float32.")
