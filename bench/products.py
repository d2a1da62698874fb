"""Products by our own kernels alone, for `bench.ceiling`: Numba compiles this file where it is used."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ml.x86 import amx_byte_kernels, amx_kernels, byte_kernels, tiles
from ml.x86.amx_network import AmxNetwork, as_tiles
from ml.x86.byte_network import AmxByteNetwork, ByteNetwork, as_columns
from ml.x86.emit import compiled
from ml.x86.network import Array, aligned, copied, rounded_up
from ml.x86.steps import NOWHERE, ZERO


@compiled
def by_amx(
    given: int, weights: int, scratch: int, ours: int, theirs: int, inputs: int, outputs: int, tokens: int
) -> None:
    """The products of `tokens` tokens, a multiple of 32."""
    tiles.enter(ours, theirs)
    amx_kernels.multiply(given, inputs, weights, weights, outputs, 0, tokens, scratch, NOWHERE, 0, 1, 0)
    tiles.leave(theirs)


@compiled
def by_bytes(given: int, scratch: int, dense: npt.NDArray[np.int64], inputs: int, outputs: int, tokens: int) -> None:
    """The products of `tokens` tokens, a multiple of `ROWS`."""
    byte_kernels.multiply(given, inputs, dense, outputs, 0, tokens, scratch, NOWHERE, 0, 0, ZERO, 1, 0)


@compiled
def by_tiles(
    given: int,
    scratch: int,
    dense: npt.NDArray[np.int64],
    ours: int,
    theirs: int,
    inputs: int,
    outputs: int,
    tokens: int,
) -> None:
    """The products of `tokens` tokens, a multiple of 32."""
    tiles.enter(ours, theirs)
    amx_byte_kernels.multiply(given, inputs, dense, outputs, 0, tokens, scratch, NOWHERE, 0, 0, ZERO, 1, 0)
    tiles.leave(theirs)


class Product(ABC):
    """Multiplies random numbers (tokens, inputs) with others (inputs, outputs), in memory of its own."""

    kept: list[Array]

    @abstractmethod
    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        """Lay the numbers out."""

    @abstractmethod
    def __call__(self) -> None:
        """Multiply."""


class AmxProduct(Product):
    """In bfloat16."""

    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        rng, tokens = np.random.default_rng(0), rounded_up(tokens, AmxNetwork.rows)
        given = as_tiles(rng.standard_normal((inputs, tokens), dtype=np.float32))
        weights = as_tiles(rng.standard_normal((inputs, outputs), dtype=np.float32))
        self.kept = [copied(given), copied(weights), aligned(2 * amx_kernels.SUMS), tiles.configuration()]
        self.kept.append(aligned(tiles.CONFIGURATION))
        self._sizes = inputs, outputs, tokens

    def __call__(self) -> None:
        given, weights, scratch, ours, theirs = (kept.ctypes.data for kept in self.kept)
        by_amx(given, weights, scratch, ours, theirs, *self._sizes)


class ByteProduct(Product):
    """Bytes."""

    network: ClassVar[type[ByteNetwork]] = ByteNetwork

    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        rng, tokens = np.random.default_rng(0), rounded_up(tokens, self.network.rows)
        given = rng.integers(0, 256, (tokens, inputs)).astype(np.uint8)
        weights = as_columns(rng.integers(-127, 128, (inputs, outputs)).astype(np.int8))
        self.kept = [copied(given), aligned(self.network.sums), copied(weights), aligned(outputs * 4)]
        self._dense = np.array([kept.ctypes.data for kept in (*self.kept[2:], self.kept[3])], dtype=np.int64)
        self._sizes = inputs, outputs, tokens

    def __call__(self) -> None:
        by_bytes(self.kept[0].ctypes.data, self.kept[1].ctypes.data, self._dense, *self._sizes)


class AmxByteProduct(ByteProduct):
    """Bytes, by AMX."""

    network = AmxByteNetwork

    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        super().__init__(tokens, inputs, outputs)
        self._configurations = tiles.configuration(), aligned(tiles.CONFIGURATION)

    def __call__(self) -> None:
        ours, theirs = (kept.ctypes.data for kept in self._configurations)
        given, scratch = (kept.ctypes.data for kept in self.kept[:2])
        by_tiles(given, scratch, self._dense, ours, theirs, *self._sizes)
