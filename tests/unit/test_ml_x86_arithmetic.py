"""What our own kernels are made of computes as NumPy does, by the processor's instructions and without."""

import math

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml.x86.emit import compiled, features

if not {"fma", "f16c", "avx2"} <= features():
    pytest.skip("this processor lacks instructions that LLVM would call functions for", allow_module_level=True)

from ml.x86 import amx_kernels, dots, network, tiles, vectors
from ml.x86.amx_network import as_tiles, bfloat16
from ml.x86.byte_network import as_columns

Floats = npt.NDArray[np.float32]
NATIVE_ALONE = pytest.mark.skipif(
    not tiles.NATIVE, reason="this processor has no AMX, or the system does not let us use it"
)


@compiled
def apply_gelu(given: int, found: int, count: int, short: bool) -> None:
    for place in range(0, count * 4, 64):
        one = vectors.load(given + place)
        vectors.store(found + place, vectors.short_gelu(one) if short else vectors.gelu(one))


@compiled
def apply_power(given: int, found: int, count: int) -> None:
    for place in range(0, count * 4, 64):
        vectors.store(found + place, vectors.power_of_two(vectors.load(given + place)))


def test_gelu_and_powers_are_nearer_than_bfloat16_can_tell() -> None:
    given = np.linspace(-12, 12, 4096, dtype=np.float32)
    found = np.empty_like(given)
    apply_gelu(given.ctypes.data, found.ctypes.data, len(given), False)
    exact = np.array([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in given.tolist()])
    assert np.abs(found - exact).max() < 6e-4
    assert np.abs(found - exact)[np.abs(given) < 4].max() < 5e-5
    apply_gelu(given.ctypes.data, found.ctypes.data, len(given), True)
    assert np.abs(found - exact)[np.abs(given) < 3.4].max() < 2.5e-4
    assert (np.abs(found - exact) / np.maximum(np.abs(given), 1)).max() < 4.5e-4
    below = np.linspace(-140, 0, 4096, dtype=np.float32)
    apply_power(below.ctypes.data, found.ctypes.data, len(below))
    assert np.abs(found / 2.0**below - 1)[below > -125].max() < 1e-4
    assert 0 <= found[below < -127].min() <= found[below < -127].max() < 1e-37


def test_numbers_are_rounded_to_the_nearest_and_then_to_the_even() -> None:
    given = np.array([1.0, 1.00390625, 1.01171875, -1.0058594, 3.1415927], dtype=np.float32)
    upper = (bfloat16(given).astype(np.uint32) << 16).view(np.float32)
    assert upper.tolist() == [1.0, 1.0, 1.015625, -1.0078125, 3.140625]


@compiled
def blocks(given: int, columns: int, steps: int, out: int, ours: int, theirs: int) -> None:
    tiles.enter(ours, theirs)
    amx_kernels.block(given, given + steps * 1024, 64, 1024, columns, columns + steps * 1024, 1024, steps, out, 128)
    tiles.leave(theirs)


@compiled
def between(theirs: int, ours: int, seen: int, spare: int) -> None:
    tiles.enter(theirs, spare)
    tiles.enter(ours, seen)
    tiles.leave(seen)
    tiles.enter(ours, seen)
    tiles.leave(spare)


@NATIVE_ALONE
def test_tiles_that_others_have_configured_are_as_before() -> None:
    """Two of 8 rows of 32 bytes, as nobody here has them."""
    theirs = np.zeros(tiles.CONFIGURATION, dtype=np.uint8)
    theirs[0], theirs[16:20:2], theirs[48:50] = 1, 32, 8
    ours, seen, spare = tiles.configuration(), np.zeros_like(theirs), np.zeros_like(theirs)
    between(*(one.ctypes.data for one in (theirs, ours, seen, spare)))
    assert np.array_equal(seen, theirs)


def seen(values: Floats) -> Floats:
    return (bfloat16(values).astype(np.uint32) << 16).view(np.float32)


@NATIVE_ALONE
def test_tiles_multiply_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    steps = 3
    given = rng.standard_normal((32, 32 * steps), dtype=np.float32)
    matrix = rng.standard_normal((32 * steps, 32), dtype=np.float32)
    rows = network.aligned(given.size * 2).view(np.uint16)
    rows[:] = bfloat16(given).reshape(2, 16, steps, 32).transpose(0, 2, 1, 3).reshape(-1)
    columns, out = as_tiles(matrix), np.zeros((32, 32), dtype=np.float32)
    ours, theirs = tiles.configuration(), np.zeros(tiles.CONFIGURATION, dtype=np.uint8)
    blocks(*(one.ctypes.data for one in (rows, columns)), steps, *(one.ctypes.data for one in (out, ours, theirs)))
    assert np.allclose(out, seen(given) @ seen(matrix), atol=1e-5)


@compiled
def apply_bytes(given: int, found: int, count: int) -> None:
    raised = vectors.spread(np.float32(vectors.TO_BYTES))
    for place in range(0, count, 16):
        vectors.store_bytes(found + place, vectors.load(given + place * 4) + raised)


def test_bytes_are_the_nearest_that_there_are() -> None:
    given = np.array([-1e6, -0.6, -0.4, 0.4, 0.5, 0.6, 1.5, 2.5, 127.4, 254.6, 255.4, 256, 300, 1e6, 0, 3], np.float32)
    found = np.zeros(16, dtype=np.uint8)
    apply_bytes(given.ctypes.data, found.ctypes.data, 16)
    assert np.array_equal(found, np.clip(np.rint(given), 0, 255))


@compiled
def tiles_of_bytes(rows: int, steps: int, columns: int, out: int, ours: int, theirs: int) -> None:
    row = steps * tiles.BYTES_DEEP
    tiles.enter(ours, theirs)
    tiles.begin_block(out, 128)
    for number in range(steps):
        upper, left = rows + number * tiles.BYTES_DEEP, columns + number * tiles.BYTES_DEEP * 32
        tiles.step_bytes(upper, upper + tiles.ROWS * row, row, left, left + 64, 128, out, 128)
    tiles.end_block(out, 128)
    tiles.leave(theirs)


@compiled
def bytes_and_brains(rows: int, columns: int, steps: int, out: int, brains: bool) -> None:
    if brains:
        dots.multiply_brains(rows, steps * 4, columns, columns + 64, 128, steps, out, 128)
    else:
        dots.multiply_bytes(rows, steps * 4, columns, columns + 64, 128, steps, out, 128)


@pytest.mark.parametrize("by_tiles", [False, True])
def test_bytes_multiply_as_numpy_does(by_tiles: bool) -> None:
    """The largest there are as well: without VNNI the sum of two products is cut off beyond 16 bits."""
    rng, largest = np.random.default_rng(0), 127 if dots.VNNI else 64
    rows, inputs = 2 * tiles.ROWS if by_tiles else dots.ROWS, 192
    given = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
    matrix = rng.integers(-largest, largest + 1, (inputs, 32)).astype(np.int8)
    given[0], matrix[:, :2] = 255, (largest, -largest)
    columns, out = as_columns(matrix), np.zeros((rows, 32), dtype=np.int32)
    addresses = given.ctypes.data, columns.ctypes.data, out.ctypes.data
    if by_tiles:
        ours, theirs = tiles.configuration(), np.zeros(tiles.CONFIGURATION, dtype=np.uint8)
        tiles_of_bytes(addresses[0], inputs // tiles.BYTES_DEEP, *addresses[1:], ours.ctypes.data, theirs.ctypes.data)
    else:
        bytes_and_brains(addresses[0], addresses[1], inputs // 4, addresses[2], False)
    assert np.array_equal(out, given.astype(np.int32) @ matrix.astype(np.int32))


def test_brains_multiply_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((dots.ROWS, 48), dtype=np.float32)
    matrix = rng.standard_normal((48, 32), dtype=np.float32)
    rows, out = bfloat16(given), np.zeros((dots.ROWS, 32), dtype=np.float32)
    columns = np.ascontiguousarray(bfloat16(matrix).reshape(24, 2, 32).transpose(0, 2, 1))
    bytes_and_brains(rows.ctypes.data, columns.ctypes.data, 24, out.ctypes.data, True)
    assert np.allclose(out, seen(given) @ seen(matrix), atol=1e-5)
