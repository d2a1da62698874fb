"""Vectors of 16 float32 numbers in Numba's code: what is written here becomes a handful of instructions.

Only LLVM's general operations are used, so that the same code runs on any processor; one with AVX-512 has a vector in
one register. Addresses are int64.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, overload, register_model

from ml.x86.emit import (
    BYTE,
    F32,
    FLOATS,
    I32,
    I64,
    LANES,
    SHORT,
    WHOLE,
    BFloat,
    at,
    broadcast,
    called,
    everywhere,
    features,
    operation,
)

ROUNDS = "avx512bf16" in features()
"""Whether the processor rounds to bfloat16 by itself."""

SCALES = {"avx512f", "avx512dq"} <= features()
"""Whether the processor splits numbers into whole ones and the rest, and multiplies by powers of two, by itself."""

EXP2 = [0.99992520, 0.69583356, 0.22606716, 0.07802452]
"""`2 ** x` between 0 and 1: the polynomial of the third degree that errs least of what it is, by 8e-5. bfloat16 rounds
twenty times more than that."""

NORMAL = [
    0.3986733940378391,
    -0.0658878430551964,
    0.009505398367341478,
    -0.001006490420191574,
    7.48550489714404e-05,
    -3.6571331184460587e-06,
    1.0419605648011162e-07,
    -1.3012946920746535e-09,
]
"""`(Phi(x) - 1 / 2) / x` as a polynomial of `x ** 2`, between -4 and 4: by Lawson's weighted least squares, so that
`x * Phi(x)` errs least, by 4e-5. bfloat16 rounds more than that."""

NORMAL_EDGE = 4.0

SHORT_NORMAL = [0.397785319, -0.0643044988, 0.00856208551, -0.000744745558, 3.70692554e-05, -7.90353694e-07]
"""The same between -3.4 and 3.4, so that `x * Phi(x)` errs by 2e-4, and beyond it by 4e-4 of `x`: a byte stands for a
hundred times more, and in the narrowest range for ten times."""

SHORT_NORMAL_EDGE = 3.4

_DOWN = I32(1)
"""What `VREDUCEPS` is to subtract: the next whole number below."""

TO_BYTES = float(2**23)
"""What `store_bytes` wants numbers to be raised by."""
_TO_BYTES_BITS = 0x4B000000


class Floats(types.Type):  # type: ignore[misc]
    """The type of such a vector."""

    def __init__(self) -> None:
        super().__init__(name="floats16")


floats = Floats()
_short_lanes = ir.VectorType(SHORT, LANES)
_shorts = ir.VectorType(SHORT, 2 * LANES)
_halves = ir.VectorType(ir.HalfType(), LANES)
_brains = ir.VectorType(BFloat(), LANES)


@register_model(Floats)
class _FloatsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


@operation(floats, types.int64)
def load(builder: Any, address: Any) -> Any:
    """16 numbers of float32."""
    return builder.load(at(builder, address, FLOATS), align=4)


@operation(types.void, types.int64, floats)
def store(builder: Any, address: Any, values: Any) -> None:
    """16 numbers of float32."""
    builder.store(values, at(builder, address, FLOATS), align=4)


@operation(floats, types.int64)
def load_half(builder: Any, address: Any) -> Any:
    """16 numbers of float16."""
    return builder.fpext(builder.load(at(builder, address, _halves), align=2), FLOATS)


@operation(types.void, types.int64, floats)
def store_brain(builder: Any, address: Any, values: Any) -> None:
    """16 numbers, rounded to bfloat16: to the nearest, to the even of two that are as near."""
    if ROUNDS:
        builder.store(builder.fptrunc(values, _brains), at(builder, address, _brains), align=2)
        return
    # Without an instruction for it LLVM calls a function that Python's process does not have.
    bits = builder.bitcast(values, WHOLE)
    odd = builder.and_(builder.lshr(bits, everywhere(16, WHOLE)), everywhere(1, WHOLE))
    raised = builder.add(builder.add(bits, everywhere(0x7FFF, WHOLE)), odd)
    upper = builder.trunc(builder.lshr(raised, everywhere(16, WHOLE)), _short_lanes)
    builder.store(upper, at(builder, address, _short_lanes), align=2)


@operation(floats, types.int64)
def load_whole(builder: Any, address: Any) -> Any:
    """16 whole numbers of 32 bits, as float32."""
    return builder.sitofp(builder.load(at(builder, address, WHOLE), align=4), FLOATS)


@operation(types.void, types.int64, floats)
def store_bytes(builder: Any, address: Any, values: Any) -> None:
    """16 numbers `TO_BYTES + x` as bytes: `x` to the nearest whole number, what is below 0 or above 255 as these."""
    # From 2**23 on the lowest bit of a float32 is worth 1, so that adding has rounded; as whole numbers their bits are
    # in the same order.
    bits = builder.bitcast(values, WHOLE)
    low, high = everywhere(_TO_BYTES_BITS, WHOLE), everywhere(_TO_BYTES_BITS + 255, WHOLE)
    bits = builder.select(builder.icmp_signed(">", bits, low), bits, low)
    bits = builder.select(builder.icmp_signed("<", bits, high), bits, high)
    kind = ir.VectorType(BYTE, LANES)
    builder.store(builder.trunc(bits, kind), at(builder, address, kind), align=1)


@operation(types.float32, types.int64)
def brain(builder: Any, address: Any) -> Any:
    """One number of bfloat16."""
    bits = builder.zext(builder.load(at(builder, address, SHORT), align=2), I32)
    return builder.bitcast(builder.shl(bits, I32(16)), F32)


@operation(floats, types.int64, types.int64)
def load_every_second_brain(builder: Any, address: Any, odd: Any) -> Any:
    """Of 16 pairs of bfloat16 the first numbers, or the second where `odd` is 1."""
    bits = builder.load(at(builder, address, WHOLE), align=2)
    low, high = halves_of_pairs(builder, bits)
    return builder.select(builder.trunc(odd, ir.IntType(1)), high, low)


def halves_of_pairs(builder: Any, bits: Any) -> tuple[Any, Any]:
    """The first and the second numbers of 16 pairs of bfloat16, in float32, of which each is the upper half."""
    lower = builder.shl(bits, everywhere(16, WHOLE))
    upper = builder.and_(bits, everywhere(0xFFFF0000, WHOLE))
    return builder.bitcast(lower, FLOATS), builder.bitcast(upper, FLOATS)


@operation(floats, types.float32)
def spread(builder: Any, number: Any) -> Any:
    """16 times the same number."""
    return broadcast(builder, number, FLOATS)


@operation(types.void, types.int64, types.int64, types.int64)
def transpose(builder: Any, source: Any, row: Any, target: Any) -> None:
    """Write a square of 16 x 16 words of 32 bits, `row` bytes from one row to the next, transposed into a tile."""
    rows = [
        builder.load(at(builder, builder.add(source, builder.mul(row, I64(place))), WHOLE), align=2)
        for place in range(LANES)
    ]
    # In each round two rows change the halves, quarters, ... that are not on the diagonal (Eklundh 1972).
    for width in (8, 4, 2, 1):
        taken = [place for place in range(LANES) if not place & width]
        stay = [lane if not lane & width else LANES + lane - width for lane in range(LANES)]
        swap = [lane + width if not lane & width else LANES + lane for lane in range(LANES)]
        for place in taken:
            upper, lower = rows[place], rows[place + width]
            rows[place] = builder.shuffle_vector(upper, lower, ir.Constant(WHOLE, stay))
            rows[place + width] = builder.shuffle_vector(upper, lower, ir.Constant(WHOLE, swap))
    for place, values in enumerate(rows):
        address = builder.add(target, I64(place * 4 * LANES))
        builder.store(values, at(builder, address, WHOLE), align=4)


@operation(types.void, types.int64, types.int64, types.int64, types.int64, types.int64)
def pair_up(builder: Any, source: Any, row: Any, left: Any, right: Any, count: Any) -> None:
    """Write 32 numbers of bfloat16 from each of two rows as pairs, into a row of the tile at `left` and one of that at
    `right`; rows from `count` on, 1 or 0, count as zeros."""
    rows = []
    for place in range(2):
        address = builder.add(source, builder.mul(row, I64(place)))
        values = builder.load(at(builder, address, _shorts), align=2)
        there = builder.icmp_signed("<", I64(place), count)
        rows.append(builder.select(there, values, ir.Constant(_shorts, [0] * (2 * LANES))))
    for half, target in ((0, left), (LANES, right)):
        order = [half + lane // 2 + (2 * LANES if lane % 2 else 0) for lane in range(2 * LANES)]
        mask = ir.Constant(ir.VectorType(I32, 2 * LANES), order)
        builder.store(builder.shuffle_vector(rows[0], rows[1], mask), at(builder, target, _shorts), align=4)


@operation(floats, floats, floats)
def _added(builder: Any, left: Any, right: Any) -> Any:
    return builder.fadd(left, right)


@operation(floats, floats, floats)
def _less(builder: Any, left: Any, right: Any) -> Any:
    return builder.fsub(left, right)


@operation(floats, floats, floats)
def _times(builder: Any, left: Any, right: Any) -> Any:
    return builder.fmul(left, right)


@operation(floats, floats, floats, floats)
def fused(builder: Any, left: Any, right: Any, added: Any) -> Any:
    """`left * right + added`, rounded once."""
    return called(builder, "llvm.fma.v16f32", left, right, added)


@operation(floats, floats, floats)
def larger(builder: Any, left: Any, right: Any) -> Any:
    """Of each pair the larger number."""
    return _chosen(builder, ">", left, right)


def _chosen(builder: Any, comparison: str, left: Any, right: Any) -> Any:
    """Of each pair the left number where the comparison holds; the right one where the left is none."""
    return builder.select(builder.fcmp_ordered(comparison, left, right), left, right)


@operation(types.float32, floats)
def largest(builder: Any, values: Any) -> Any:
    """The largest of 16 numbers."""
    return _reduced(builder, "llvm.vector.reduce.fmax.v16f32", [values])


@operation(types.float32, floats)
def total(builder: Any, values: Any) -> Any:
    """The sum of 16 numbers, in whichever order is quickest."""
    return _reduced(builder, "llvm.vector.reduce.fadd.v16f32", [F32(-0.0), values])


def _reduced(builder: Any, name: str, values: list[Any]) -> Any:
    return called(builder, name, *values, returned=F32, fastmath=("reassoc", "nnan"))


@operation(floats, floats, types.int64, types.float32)
def first(builder: Any, values: Any, count: Any, other: Any) -> Any:
    """The first `count` numbers, and `other` in the place of those after them."""
    places = ir.Constant(WHOLE, list(range(LANES)))
    counts = broadcast(builder, builder.trunc(count, I32), WHOLE)
    return builder.select(builder.icmp_signed("<", places, counts), values, broadcast(builder, other, FLOATS))


@operation(floats, floats)
def power_of_two(builder: Any, values: Any) -> Any:
    """`2 ** x` of numbers that are not above 0, to four digits; below -126 it is next to 0."""
    if SCALES:
        everything, as_usual = ir.Constant(SHORT, -1), I32(4)
        rest = called(builder, "llvm.x86.avx512.mask.reduce.ps.512", values, _DOWN, values, everything, as_usual)
        found = _polynomial(builder, rest, EXP2)
        return called(builder, "llvm.x86.avx512.mask.scalef.ps.512", found, values, values, everything, as_usual)
    values = _chosen(builder, ">", values, everywhere(-126.0))
    # Towards 0, so that one less is what floor says but of whole numbers.
    whole = builder.sub(builder.fptosi(values, WHOLE), everywhere(1, WHOLE))
    rest = builder.fsub(values, builder.sitofp(whole, FLOATS))
    found = _polynomial(builder, rest, EXP2)
    shifted = builder.shl(whole, everywhere(23, WHOLE))
    return builder.bitcast(builder.add(builder.bitcast(found, WHOLE), shifted), FLOATS)


@operation(floats, floats)
def gelu(builder: Any, values: Any) -> Any:
    """`x * Phi(x)`, Phi the distribution function of the normal distribution, to four digits."""
    return _gelu(builder, values, NORMAL, NORMAL_EDGE)


@operation(floats, floats)
def short_gelu(builder: Any, values: Any) -> Any:
    """As `gelu`, to three digits, for what is rounded to bytes."""
    return _gelu(builder, values, SHORT_NORMAL, SHORT_NORMAL_EDGE)


def _gelu(builder: Any, values: Any, coefficients: list[float], edge: float) -> Any:
    if SCALES:
        # What is nearer to 0, with the sign of the first.
        edges, everything, as_usual = everywhere(edge), ir.Constant(SHORT, -1), I32(4)
        near = called(builder, "llvm.x86.avx512.mask.range.ps.512", values, edges, I32(2), values, everything, as_usual)
    else:
        near = _chosen(builder, "<", values, everywhere(edge))
        near = _chosen(builder, ">", near, everywhere(-edge))
    odd = _polynomial(builder, builder.fmul(near, near), coefficients)
    share = called(builder, "llvm.fma.v16f32", near, odd, everywhere(0.5))
    return builder.fmul(values, share)


def _polynomial(builder: Any, values: Any, coefficients: list[float]) -> Any:
    """Horner's scheme; the coefficient of the lowest power first."""
    found = everywhere(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = called(builder, "llvm.fma.v16f32", found, values, everywhere(coefficient))
    return found


def _operator(kind: Any, made: Any) -> None:
    def of_vectors(left: Any, right: Any) -> Any:
        if isinstance(left, Floats) and isinstance(right, Floats):
            return lambda left, right: made(left, right)
        return None

    # Annotations would make the two differ, which Numba otherwise refuses.
    overload(kind, strict=False)(of_vectors)


_operator(operator.add, _added)
_operator(operator.sub, _less)
_operator(operator.mul, _times)
