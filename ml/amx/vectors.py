"""Vectors of 16 float32 numbers in Numba's code: what is written here becomes a handful of instructions.

Only LLVM's general operations are used, so that the same code runs on any processor; one with AVX-512 has a vector in
one register. Addresses are int64.
"""

import logging
import operator
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, TypeVar

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, models, overload, register_model

from ml import amx

log = logging.getLogger(__name__)

LANES = 16


def features() -> frozenset[str]:
    """Return the instructions that Numba compiles for, as LLVM spells them."""
    told = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return frozenset(one[1:] for one in told.split(",") if one.startswith("+"))


ROUNDS = "avx512bf16" in features()
"""Whether the processor rounds to bfloat16 by itself."""

EXP2 = [0.99999815, 0.69305237, 0.23944775, 0.05324051, 0.00684883]
"""`2 ** x` between -1 and 0: the polynomial of the fourth degree that errs least, by 2e-6."""

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


F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Return a function that Numba compiles when it is first called, and that lets other threads run meanwhile."""
    made: F = njit(nogil=True)(function)
    return made


def entrance(function: F) -> F:
    """As `compiled`, for what is called from Python: with all that it calls it is kept between starts, where
    `ml.amx.keep_in` was told a folder that can be written to."""
    if amx.kept is not None:
        try:
            made: F = njit(nogil=True, cache=True)(function)
        except RuntimeError:
            log.warning("what is compiled cannot be kept in %s, and is compiled anew at each start", amx.kept)
        else:
            return made
    return compiled(function)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type of this name, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


class Floats(types.Type):  # type: ignore[misc]
    """The type of such a vector."""

    def __init__(self) -> None:
        super().__init__(name="floats16")


floats = Floats()
_f32 = ir.FloatType()
_i32 = ir.IntType(32)
_short = ir.IntType(16)
_i64 = ir.IntType(64)
_short_lanes = ir.VectorType(_short, LANES)
_shorts = ir.VectorType(_short, 2 * LANES)
_vector = ir.VectorType(_f32, LANES)
_whole = ir.VectorType(_i32, LANES)
_halves = ir.VectorType(ir.HalfType(), LANES)
_brains = ir.VectorType(_BFloat(), LANES)


@register_model(Floats)
class _FloatsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _vector)


Emit = Callable[..., Any]


def operation(returned: Any, *taken: Any) -> Callable[[Emit], Any]:
    """Make of `emit(builder, *values)`, which writes instructions of LLVM, a function for Numba's code.

    `returned` and `taken` are types of Numba.
    """

    def made(emit: Emit) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            found = emit(builder, *values)
            return context.get_dummy_value() if returned is types.void else found

        def typed(*_arguments: Any) -> Any:
            return returned(*taken), generate

        typed.__name__, typed.__doc__ = emit.__name__, emit.__doc__
        # Numba asks for a name for each argument.
        names = ["context", *(f"value_{place}" for place in range(len(taken)))]
        signature = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])
        typed.__signature__ = signature  # type: ignore[attr-defined]
        return intrinsic(typed)

    return made


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _called(builder: Any, name: str, *values: Any) -> Any:
    kind = ir.FunctionType(values[0].type, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _all(value: float, kind: Any = _vector) -> Any:
    return ir.Constant(kind, [value] * LANES)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, _i32(0))
    return builder.shuffle_vector(first, first, ir.Constant(_whole, [0] * LANES))


@operation(floats, types.int64)
def load(builder: Any, address: Any) -> Any:
    """16 numbers of float32."""
    return builder.load(_at(builder, address, _vector), align=4)


@operation(types.void, types.int64, floats)
def store(builder: Any, address: Any, values: Any) -> None:
    """16 numbers of float32."""
    builder.store(values, _at(builder, address, _vector), align=4)


@operation(floats, types.int64)
def load_half(builder: Any, address: Any) -> Any:
    """16 numbers of float16."""
    return builder.fpext(builder.load(_at(builder, address, _halves), align=2), _vector)


@operation(types.void, types.int64, floats)
def store_brain(builder: Any, address: Any, values: Any) -> None:
    """16 numbers, rounded to bfloat16: to the nearest, to the even of two that are as near."""
    if ROUNDS:
        builder.store(builder.fptrunc(values, _brains), _at(builder, address, _brains), align=2)
        return
    # Without an instruction for it LLVM calls a function that Python's process does not have.
    bits = builder.bitcast(values, _whole)
    odd = builder.and_(builder.lshr(bits, _all(16, _whole)), _all(1, _whole))
    raised = builder.add(builder.add(bits, _all(0x7FFF, _whole)), odd)
    upper = builder.trunc(builder.lshr(raised, _all(16, _whole)), _short_lanes)
    builder.store(upper, _at(builder, address, _short_lanes), align=2)


@operation(types.float32, types.int64)
def brain(builder: Any, address: Any) -> Any:
    """One number of bfloat16."""
    bits = builder.zext(builder.load(_at(builder, address, _short), align=2), _i32)
    return builder.bitcast(builder.shl(bits, _i32(16)), _f32)


@operation(floats, types.int64, types.int64)
def load_every_second_brain(builder: Any, address: Any, odd: Any) -> Any:
    """Of 16 pairs of bfloat16 the first numbers, or the second where `odd` is 1."""
    bits = builder.load(_at(builder, address, _whole), align=2)
    low = builder.shl(bits, _all(16, _whole))
    high = builder.and_(bits, _all(0xFFFF0000, _whole))
    return builder.bitcast(builder.select(builder.trunc(odd, ir.IntType(1)), high, low), _vector)


@operation(floats, types.float32)
def spread(builder: Any, number: Any) -> Any:
    """16 times the same number."""
    return _spread(builder, number, _vector)


@operation(types.void, types.int64, types.int64, types.int64)
def transpose(builder: Any, source: Any, row: Any, target: Any) -> None:
    """Write a square of 16 x 16 words of 32 bits, `row` bytes from one row to the next, transposed into a tile."""
    rows = [
        builder.load(_at(builder, builder.add(source, builder.mul(row, _i64(place))), _whole), align=2)
        for place in range(LANES)
    ]
    # In each round two rows change the halves, quarters, ... that are not on the diagonal (Eklundh 1972).
    for width in (8, 4, 2, 1):
        taken = [place for place in range(LANES) if not place & width]
        stay = [lane if not lane & width else LANES + lane - width for lane in range(LANES)]
        swap = [lane + width if not lane & width else LANES + lane for lane in range(LANES)]
        for place in taken:
            upper, lower = rows[place], rows[place + width]
            rows[place] = builder.shuffle_vector(upper, lower, ir.Constant(_whole, stay))
            rows[place + width] = builder.shuffle_vector(upper, lower, ir.Constant(_whole, swap))
    for place, values in enumerate(rows):
        address = builder.add(target, _i64(place * 4 * LANES))
        builder.store(values, _at(builder, address, _whole), align=4)


@operation(types.void, types.int64, types.int64, types.int64, types.int64, types.int64)
def pair_up(builder: Any, source: Any, row: Any, left: Any, right: Any, count: Any) -> None:
    """Write 32 numbers of bfloat16 from each of two rows as pairs, into a row of the tile at `left` and one of that at
    `right`; rows from `count` on, 1 or 0, count as zeros."""
    rows = []
    for place in range(2):
        address = builder.add(source, builder.mul(row, _i64(place)))
        values = builder.load(_at(builder, address, _shorts), align=2)
        there = builder.icmp_signed("<", _i64(place), count)
        rows.append(builder.select(there, values, ir.Constant(_shorts, [0] * (2 * LANES))))
    for half, target in ((0, left), (LANES, right)):
        order = [half + lane // 2 + (2 * LANES if lane % 2 else 0) for lane in range(2 * LANES)]
        mask = ir.Constant(ir.VectorType(_i32, 2 * LANES), order)
        builder.store(builder.shuffle_vector(rows[0], rows[1], mask), _at(builder, target, _shorts), align=4)


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
    return _called(builder, "llvm.fma.v16f32", left, right, added)


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
    return _reduced(builder, "llvm.vector.reduce.fadd.v16f32", [_f32(-0.0), values])


def _reduced(builder: Any, name: str, values: list[Any]) -> Any:
    kind = ir.FunctionType(_f32, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, values, fastmath=["reassoc", "nnan"])


@operation(floats, floats, types.int64, types.float32)
def first(builder: Any, values: Any, count: Any, other: Any) -> Any:
    """The first `count` numbers, and `other` in the place of those after them."""
    places = ir.Constant(_whole, list(range(LANES)))
    counts = _spread(builder, builder.trunc(count, _i32), _whole)
    return builder.select(builder.icmp_signed("<", places, counts), values, _spread(builder, other, _vector))


@operation(floats, floats)
def power_of_two(builder: Any, values: Any) -> Any:
    """`2 ** x` of numbers that are not above 0, to five digits; below -126 it is next to 0."""
    values = _chosen(builder, ">", values, _all(-126.0))
    whole = builder.fptosi(values, _whole)
    rest = builder.fsub(values, builder.sitofp(whole, _vector))
    found = _polynomial(builder, rest, EXP2)
    shifted = builder.shl(whole, _all(23, _whole))
    return builder.bitcast(builder.add(builder.bitcast(found, _whole), shifted), _vector)


@operation(floats, floats)
def gelu(builder: Any, values: Any) -> Any:
    """`x * Phi(x)`, Phi the distribution function of the normal distribution, to four digits."""
    near = _chosen(builder, "<", values, _all(NORMAL_EDGE))
    near = _chosen(builder, ">", near, _all(-NORMAL_EDGE))
    square = builder.fmul(near, near)
    above = builder.fmul(near, _polynomial(builder, square, NORMAL))
    return builder.fmul(values, builder.fadd(above, _all(0.5)))


def _polynomial(builder: Any, values: Any, coefficients: list[float]) -> Any:
    """Horner's scheme; the coefficient of the lowest power first."""
    found = _all(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = _called(builder, "llvm.fma.v16f32", found, values, _all(coefficient))
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
