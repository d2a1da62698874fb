"""A network whose products AMX computes."""

import numpy as np
import numpy.typing as npt

from ml.artifact import ModelFolder
from ml.x86 import amx_kernels
from ml.x86.network import INNER_BYTES, Array, Buffers, Network
from ml.x86.tiles import CONFIGURATION, DEPTH, ROWS, configuration

BLOCK = 2 * ROWS
"""Tokens that are computed together."""


class AmxNetwork(Network):
    """As `Network`, with weights in bfloat16."""

    def __init__(self, folder: ModelFolder) -> None:
        super().__init__(folder)
        self._configuration = self._keep(configuration())

    @property
    def _block_rows(self) -> int:
        return max(1, INNER_BYTES // (2 * self._wide * BLOCK)) * BLOCK

    def buffers(self) -> Buffers:
        """Return memory to compute in."""
        return Buffers(self._sizes, BLOCK, self._block_rows)

    def _sizes(self, room: int, line: int) -> list[int]:
        width, size = self._width, self._width // self._heads
        one_head = [line * size * 2, line * size * 2, BLOCK * line * 4, BLOCK * line * 2, BLOCK * 64]
        all_tokens = [room * width * 4, room * width * 2, 3 * room * width * 2, room * width * 2]
        inner = self._block_rows * self._wide * 2
        return [*one_head, 2 * amx_kernels.SUMS, *all_tokens, inner, CONFIGURATION]

    def _encode(
        self,
        ids: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float32],
        buffers: Buffers,
    ) -> None:
        amx_kernels.encode(
            ids,
            starts,
            weights,
            self._merged,
            self._embedding,
            self._layers,
            buffers.addresses,
            self._configuration,
            buffers.room,
            buffers.block_rows,
            self._width,
            self._heads,
            self._wide,
            self._epsilon,
        )

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
