"""A network whose products AMX computes."""

import numpy as np
import numpy.typing as npt

from ml.artifact import ModelFolder
from ml.x86 import amx_kernels
from ml.x86.network import Array, Network
from ml.x86.tiles import CONFIGURATION, DEPTH, ROWS, configuration


class AmxNetwork(Network):
    """As `Network`, with weights in bfloat16."""

    kernel = staticmethod(amx_kernels.encode)
    rows = 2 * ROWS
    item = 2
    sums = 2 * amx_kernels.SUMS
    more = (CONFIGURATION,)

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder)
        self._beside = self._keep(configuration())

    def _layer(self, name: str) -> list[int]:
        width, wide, attention = self._width, self._wide, f"{name}.attention"
        return [
            *self._laid_out(self._together(f"{attention}.self")),
            *self._laid_out(self._dense(f"{attention}.output.dense", width, width)),
            *self._norm(f"{attention}.output.LayerNorm"),
            *self._laid_out(self._dense(f"{name}.intermediate.dense", wide, width)),
            *self._laid_out(self._dense(f"{name}.output.dense", width, wide)),
            *self._norm(f"{name}.output.LayerNorm"),
        ]

    def _laid_out(self, dense: tuple[Array, Array]) -> list[int]:
        return [self._keep(as_tiles(dense[0])), self._keep(dense[1])]


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return the upper halves of numbers, rounded to the nearest, to the even of two that are as near."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def as_tiles(matrix: Array) -> npt.NDArray[np.uint16]:
    """Return weights (inputs, outputs) as tiles: (outputs / 16, inputs / 32, 16, 16, 2), the last axis with two
    neighbouring inputs."""
    inputs, outputs = matrix.shape
    split = bfloat16(matrix.astype(np.float32)).reshape(inputs // DEPTH, ROWS, 2, outputs // ROWS, ROWS)
    return np.ascontiguousarray(split.transpose(3, 0, 1, 4, 2))
