"""Products by the kernel for AMX alone, for `bench.ceiling`: Numba compiles this file where it is used."""

import numpy as np

from ml.amx import kernels, tiles
from ml.amx.network import aligned, as_tiles, copied
from ml.amx.vectors import compiled


@compiled
def multiplied(
    given: int, inputs: int, weights: int, outputs: int, tokens: int, scratch: int, ours: int, theirs: int
) -> None:
    """The products of `tokens` tokens, a multiple of 32."""
    tiles.enter(ours, theirs)
    kernels.multiply(given, inputs, weights, weights, outputs, 0, tokens, scratch, kernels.NOWHERE, 0, 1, 0)
    tiles.leave(theirs)


class Product:
    """Multiplies random numbers (tokens, inputs) with others (inputs, outputs), in memory of its own."""

    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        rng = np.random.default_rng(0)
        given = as_tiles(rng.standard_normal((inputs, tokens), dtype=np.float32))
        weights = as_tiles(rng.standard_normal((inputs, outputs), dtype=np.float32))
        self._kept = [copied(given), copied(weights), aligned(2 * kernels.BLOCK), tiles.configuration()]
        self._kept.append(aligned(tiles.CONFIGURATION))
        self._sizes = inputs, outputs, tokens

    def __call__(self) -> None:
        """Multiply."""
        inputs, outputs, tokens = self._sizes
        rows, columns, scratch, ours, theirs = (kept.ctypes.data for kept in self._kept)
        multiplied(rows, inputs, columns, outputs, tokens, scratch, ours, theirs)
