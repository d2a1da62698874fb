"""Products of a few rows with 32 columns, by instructions that multiply and add neighbouring numbers of a vector.

`VPDPBUSD` (AVX-512 VNNI) multiplies 16 times four unsigned bytes with four signed ones and adds the products to 16
sums of 32 bits, `VDPBF16PS` (AVX-512 BF16) 16 times two pairs of bfloat16 to 16 of float32. Without VNNI
`VPMADDUBSW` multiplies bytes and adds two products in 16 bits, `VPMADDWD` two such sums in 32 (Intel 64 and IA-32
Architectures Software Developer's Manual, volume 2). Sums stay in registers until they are done.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from ml.x86.emit import BYTE, FLOATS, I32, I64, LANES, SHORT, WHOLE, BFloat, at, broadcast, called, features, operation
from ml.x86.vectors import halves_of_pairs

ROWS = 8
"""Rows of a product."""

VNNI = "avx512vnni" in features()
"""Whether the processor adds four products of bytes to a sum by one instruction, in 32 bits; else two of them must fit
into 16 bits (`ml.weights.round_rows`)."""

WORDS = "avx512bw" in features()
"""Whether it does that with 64 bytes at a time, else with 32."""

INSTRUCTIONS = "VNNI" if VNNI else "AVX-512" if WORDS else "AVX2" if {"avx2", "fma", "f16c"} <= features() else ""
"""By what bytes are multiplied; nothing where LLVM would call functions that are not there."""

PAIRS = "avx512bf16" in features()
"""Whether the processor multiplies pairs of bfloat16."""

AT_ONCE = (8, 2) if "avx512f" in features() else (4, 1)
"""Rows and halves of the columns whose sums are in hand: more of them than an instruction takes cycles, and with what
is multiplied no more than there are registers, 32, or 16 of half the size."""

_bytes = ir.VectorType(BYTE, 4 * LANES)
_shorts = ir.VectorType(SHORT, 2 * LANES)
_half_shorts = ir.VectorType(SHORT, LANES)
_half_whole = ir.VectorType(I32, LANES // 2)

Step = Callable[[Any, Any, Any, Any], Any]
"""From `builder, sums, row, column` to sums."""


def _four_bytes(builder: Any, sums: Any, row: Any, column: Any) -> Any:
    row, column = (builder.bitcast(one, _bytes) for one in (row, column))
    if VNNI:
        return called(builder, "llvm.x86.avx512.vpdpbusd.512", sums, row, column)
    if WORDS:
        two = called(builder, "llvm.x86.avx512.pmaddubs.w.512", row, column, returned=_shorts)
        four = called(
            builder, "llvm.x86.avx512.pmaddw.d.512", two, ir.Constant(_shorts, [1] * 2 * LANES), returned=WHOLE
        )
        return builder.add(sums, four)
    ones, halves = ir.Constant(_half_shorts, [1] * LANES), []
    for start in (0, 2 * LANES):
        chosen = ir.Constant(ir.VectorType(I32, 2 * LANES), list(range(start, start + 2 * LANES)))
        left, right = (builder.shuffle_vector(one, one, chosen) for one in (row, column))
        two = called(builder, "llvm.x86.avx2.pmadd.ub.sw", left, right, returned=_half_shorts)
        halves.append(called(builder, "llvm.x86.avx2.pmadd.wd", two, ones, returned=_half_whole))
    return builder.add(sums, builder.shuffle_vector(*halves, ir.Constant(WHOLE, list(range(LANES)))))


def _two_brains(builder: Any, sums: Any, row: Any, column: Any) -> Any:
    if PAIRS:
        kind = ir.VectorType(BFloat(), 2 * LANES)
        row, column = (builder.bitcast(one, kind) for one in (row, column))
        return called(builder, "llvm.x86.avx512bf16.dpbf16ps.512", sums, row, column)
    for left, right in zip(halves_of_pairs(builder, row), halves_of_pairs(builder, column), strict=True):
        sums = called(builder, "llvm.fma.v16f32", left, right, sums)
    return sums


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
        starts = [builder.add(rows, builder.mul(next_row, I64(row))) for row in range(ROWS)]
        targets = [builder.add(out, builder.mul(next_out, I64(row))) for row in range(ROWS)]
        count, halves = AT_ONCE
        for row in range(0, ROWS, count):
            for half in range(0, 2, halves):
                found = _summed(
                    builder,
                    kind,
                    step,
                    starts[row : row + count],
                    (left, right)[half : half + halves],
                    next_step,
                    steps,
                )
                for target, sums in zip(targets[row:], found, strict=False):
                    for place, one in enumerate(sums, half):
                        builder.store(one, at(builder, builder.add(target, I64(64 * place)), kind), align=4)

    emit.__name__, emit.__doc__ = f"product_{step.__name__.lstrip('_')}", doc
    return operation(types.void, *[types.int64] * 8)(emit)


def _summed(
    builder: Any, kind: Any, step: Step, rows: Sequence[Any], columns: Sequence[Any], next_step: Any, steps: Any
) -> list[list[Any]]:
    """Write the loop over all steps of some rows and columns; return the sums of each row."""
    before = builder.block
    body, after = (builder.function.append_basic_block(name) for name in ("product", "product.done"))
    builder.branch(body)
    builder.position_at_end(body)
    number = builder.phi(I64)
    sums = [[builder.phi(kind) for _ in columns] for _ in rows]
    here, place = builder.mul(number, next_step), builder.mul(number, I64(4))
    loaded = [builder.load(at(builder, builder.add(one, here), WHOLE), align=4) for one in columns]
    found = []
    for row, beside in zip(rows, sums, strict=True):
        four = broadcast(builder, builder.load(at(builder, builder.add(row, place), I32), align=1), WHOLE)
        found.append([step(builder, one, four, column) for one, column in zip(beside, loaded, strict=True)])
    following = builder.add(number, I64(1))
    for one, first, later in [
        (number, I64(0), following),
        *(
            (one, ir.Constant(kind, [0] * LANES), new)
            for beside, added in zip(sums, found, strict=True)
            for one, new in zip(beside, added, strict=True)
        ),
    ]:
        one.add_incoming(first, before)
        one.add_incoming(later, body)
    builder.cbranch(builder.icmp_signed("<", following, steps), body, after)
    builder.position_at_end(after)
    return found


multiply_bytes = _product(WHOLE, _four_bytes, "Of unsigned bytes with signed ones, into whole numbers of 32 bits.")
multiply_brains = _product(FLOATS, _two_brains, "Of numbers of bfloat16, into float32.")


@operation(types.void, types.int64, types.int64, types.int64)
def add_bytes(builder: Any, sums: Any, row: Any, column: Any) -> None:
    """Add to 16 sums of 32 bits, at `sums`, the products of four unsigned bytes at `row` with 16 times four signed ones
    at `column`."""
    place = at(builder, sums, WHOLE)
    four = broadcast(builder, builder.load(at(builder, row, I32), align=1), WHOLE)
    found = _four_bytes(builder, builder.load(place, align=4), four, builder.load(at(builder, column, WHOLE), align=4))
    builder.store(found, place, align=4)
