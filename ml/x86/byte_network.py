"""A network whose products are of bytes, within the ranges of its folder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import weights as weights_file
from ml.artifact import ModelFolder
from ml.ranges import Range, Ranges
from ml.x86 import amx_byte_kernels, byte_kernels, tiles
from ml.x86.amx_kernels import SUMS
from ml.x86.dots import ROWS, VNNI
from ml.x86.emit import LANES
from ml.x86.network import Array, Network
from ml.x86.steps import BLOCK
from ml.x86.vectors import TO_BYTES

INPUTS = ("attention.self", "attention.output.dense", "intermediate.dense", "output.dense")
"""Of a layer's products, as `ml.ranges` names them."""


class ByteNetwork(Network):
    """As `Network`, with weights and their inputs in 8 bits, but for embeddings, attention and the head.

    Args:
        folder: the model.
        ranges: those of the folder.

    Raises:
        ModelError: besides, the ranges do not fit the network.
    """

    kernel: Callable[..., None] = staticmethod(byte_kernels.encode)
    rows = ROWS
    item = 1
    sums = byte_kernels.SUMS

    def __init__(self, folder: ModelFolder, ranges: Ranges) -> None:
        self._ranges = ranges
        self._zeros: list[list[float]] = []
        super().__init__(folder)
        # The last normalisation rounds as well, for a layer that is not there.
        self._layers = np.concatenate([self._layers, self._layers[:1]])
        self._beside: Any = np.array([*self._zeros, self._zeros[0]], dtype=np.float32)

    def _layer(self, name: str) -> list[int]:
        width, wide = self._width, self._wide
        inputs = [self._ranges.of(f"{name}.{place}", wide if place == "output.dense" else width) for place in INPUTS]
        dense = [
            self._together(f"{name}.attention.self"),
            self._dense(f"{name}.attention.output.dense", width, width),
            self._dense(f"{name}.intermediate.dense", wide, width),
            self._dense(f"{name}.output.dense", width, wide),
        ]
        self._zeros.append([TO_BYTES + one.zero for one in inputs])
        return [
            *(address for one, given in zip(dense, inputs, strict=True) for address in self._laid_out(one, given)),
            *self._norm(f"{name}.attention.output.LayerNorm"),
            *self._norm(f"{name}.output.LayerNorm"),
            *(
                self._keep(1 / (np.float32(given.step) * given.divisors(len(matrix))))
                for (matrix, _), given in zip(dense, inputs, strict=True)
            ),
        ]

    def _laid_out(self, dense: tuple[Array, Array], given: Range) -> list[int]:
        """The addresses of weights, scale and bias of a product."""
        matrix, bias = dense
        whole, scale = weights_file.round_rows((matrix * given.divisors(len(matrix))[:, None]).T, in_pairs=not VNNI)
        scale = scale * np.float32(given.step)
        # What stands for 0 has been added up with every weight.
        bias = bias - scale * (given.zero * whole.astype(np.int64).sum(axis=1))
        return [self._keep(as_columns(whole.T)), self._keep(scale), self._keep(bias.astype(np.float32))]


def as_columns(matrix: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return weights (inputs, outputs) as the products want them: (outputs / 32, inputs / 4, 2, 16, 4), the last axis
    with four neighbouring inputs."""
    inputs, outputs = matrix.shape
    split = matrix.reshape(inputs // 4, 4, outputs // BLOCK, 2, LANES)
    return np.ascontiguousarray(split.transpose(2, 0, 3, 4, 1))


class AmxByteNetwork(ByteNetwork):
    """As `ByteNetwork`, whose products AMX computes."""

    kernel = staticmethod(amx_byte_kernels.encode)
    rows = 2 * tiles.ROWS
    sums = 2 * SUMS
    more = (tiles.CONFIGURATION,)

    def __init__(self, folder: ModelFolder, ranges: Ranges) -> None:
        super().__init__(folder, ranges)
        self._beside = self._beside, self._keep(tiles.configuration())
