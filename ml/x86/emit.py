"""What turns Python functions into machine code: Numba, and LLVM's operations where Numba has none."""

import logging
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any, TypeVar

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from ml import x86

log = logging.getLogger(__name__)

LANES = 16
"""Numbers of 32 bits in a vector."""


def features() -> frozenset[str]:
    """Return the instructions that Numba compiles for, as LLVM spells them."""
    told = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return frozenset(one[1:] for one in told.split(",") if one.startswith("+"))


F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Return a function that Numba compiles when it is first called, and that lets other threads run meanwhile."""
    made: F = njit(nogil=True)(function)
    return made


def entrance(function: F) -> F:
    """As `compiled`, for what is called from Python: with all that it calls it is kept between starts, where
    `ml.x86.keep_in` was told a folder that can be written to."""
    if x86.kept is not None:
        try:
            made: F = njit(nogil=True, cache=True)(function)
        except RuntimeError:
            log.warning("what is compiled cannot be kept in %s, and is compiled anew at each start", x86.kept)
        else:
            return made
    return compiled(function)


class BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type of this name, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


BYTE = ir.IntType(8)
SHORT = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F32 = ir.FloatType()
FLOATS = ir.VectorType(F32, LANES)
WHOLE = ir.VectorType(I32, LANES)


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


def at(builder: Any, address: Any, kind: Any) -> Any:
    """A pointer to a `kind`."""
    return builder.inttoptr(address, kind.as_pointer())


def called(builder: Any, name: str, *values: Any, returned: Any = None, fastmath: Sequence[str] = ()) -> Any:
    """What LLVM's function of this name returns: of the type of its first value where none is given."""
    kind = ir.FunctionType(returned or values[0].type, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values, fastmath=fastmath)


def everywhere(number: float, kind: Any = FLOATS) -> Any:
    """A constant vector of `LANES` times the same number."""
    return ir.Constant(kind, [number] * LANES)


def broadcast(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of `LANES` times the same number."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(WHOLE, [0] * LANES))
