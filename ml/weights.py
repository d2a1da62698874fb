"""The weights file of a model: safetensors, with the large matrices of the encoder in 8 bits.

A matrix `name` of the encoder is stored as int8 `name` (rows, columns) and float32 `name.scale` (rows,): each row has
a scale of its own, so that its largest number is 127 (symmetric rounding to nearest: Wu et al. 2020,
arXiv:2004.09602). A row of a layer is one output, a row of the table of words one token. The product, in float16, is
the weight: every backend has the same. Whatever else there is is small, or summed up over many tokens, and is stored in
float16, or in int32 where it numbers something.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ml.errors import ModelError

Array = npt.NDArray[Any]

SCALE = ".scale"
_HIGHEST = 127
_HIGHEST_PAIR = 127.5
"""Two numbers with this sum are rounded to 128 together at most, and 255 times that is less than 2**15."""


def is_rounded(name: str, shape: tuple[int, ...]) -> bool:
    """Say whether this array is stored in 8 bits: a matrix of the encoder, except positions, which are added up."""
    added = "position_embeddings" in name or "token_type_embeddings" in name
    return name.startswith("encoder.") and len(shape) == 2 and not added


def round_rows(matrix: Array, in_pairs: bool = False) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 (rows, columns) and the scale, float32 (rows,), whose product is next to `matrix`.

    Rounding that product once more, in float16 too, gives the same numbers, unless `in_pairs`: then rows are scaled so
    that whatever two neighbouring columns (2k, 2k + 1) are multiplied with, 0 to 255, the sum of both products fits
    into 16 bits. Processors without VNNI add them there, and cut off what does not fit.
    """
    whole = matrix.astype(np.float32)
    # A row of zeros has no scale of its own; any will do.
    scale = np.maximum(np.abs(whole).max(axis=1), np.finfo(np.float32).tiny * _HIGHEST) / _HIGHEST
    if in_pairs:
        scale = np.maximum(scale, _largest_pair(whole) / _HIGHEST_PAIR)
    return np.rint(whole / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _largest_pair(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what two neighbouring columns of a row reach together on one side of 0, the largest of each row."""
    even, odd = matrix[:, 0::2], matrix[:, 1::2]
    if odd.shape[1] < even.shape[1]:
        odd = np.pad(odd, ((0, 0), (0, 1)))
    above = np.maximum(even, 0) + np.maximum(odd, 0)
    below = np.maximum(-even, 0) + np.maximum(-odd, 0)
    largest: npt.NDArray[np.float32] = np.maximum(above, below).max(axis=1)
    return largest


def rounded(matrix: Array) -> npt.NDArray[np.float16]:
    """Return what is left of a matrix after it was stored in 8 bits, float16 (rows, columns)."""
    return _product(*round_rows(matrix))


def write(path: Path, values: Mapping[str, Array]) -> None:
    """Write named arrays: matrices of the encoder in 8 bits, other numbers in float16, whole numbers as they are."""
    stored: dict[str, Array] = {}
    for name, array in values.items():
        if is_rounded(name, array.shape):
            stored[name], stored[name + SCALE] = round_rows(array)
        else:
            stored[name] = np.ascontiguousarray(
                array.astype(np.float16) if np.issubdtype(array.dtype, np.floating) else array
            )
    save_file(stored, path, metadata={"format": "pt"})
    # safetensors makes files that only their owner may read; a service may run as another user.
    path.chmod(0o644)


def read(path: Path) -> dict[str, Array]:
    """Return the arrays of a weights file, those in 8 bits in float16 and others as they are stored.

    Raises:
        ModelError: it is no safetensors file, or holds a matrix in 8 bits without a fitting scale.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}.") from error
    values: dict[str, Array] = {}
    for name, array in stored.items():
        if array.dtype == np.int8:
            scale = stored.get(name + SCALE)
            if scale is None or scale.shape != array.shape[:1]:
                raise ModelError(f"{path} holds {name} in 8 bits without a scale for each row: damaged model.")
            values[name] = _product(array, scale)
        elif not (name.endswith(SCALE) and name.removesuffix(SCALE) in stored):
            values[name] = array
    return values


def _product(whole: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    return (whole.astype(np.float32) * scale[:, None]).astype(np.float16)
