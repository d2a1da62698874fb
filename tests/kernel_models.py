"""Small networks that our own kernels know, with ranges; importable where there is Numba."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import artifact, ranging
from ml.artifact import ModelFolder
from ml.backends.openvino_cpu import OpenVinoBackend
from ml.backends.own_cpu import AmxBackend, AmxByteBackend, ByteBackend, OwnBackend
from ml.batches import Ids
from ml.ranges import Agreement
from ml.x86 import network
from ml.x86.amx_network import AmxNetwork
from ml.x86.byte_network import AmxByteNetwork, ByteNetwork
from ml.x86.dots import VNNI
from tests.tiny_model import POSITIONS, make_tiny_model

SIZES = (64, 2, 192)
LENGTHS = (33, 1, 2, 15, 16, 17, 31, 32, 47, 48, 63, 64, 5)
BYTES = (0.3, 0.1) if VNNI else (0.45, 0.12)
"""Without VNNI weights have seven bits (`ml.weights.round_rows`)."""
LIMITS = {"amx": (0.15, 0.035), "bytes": BYTES, "amx bytes": BYTES}
"""How far logits may be from the exact ones at most and in the mean, of what texts differ by."""
KINDS: dict[str, type[OwnBackend]] = {"amx": AmxBackend, "bytes": ByteBackend, "amx bytes": AmxByteBackend}
Floats = npt.NDArray[np.float32]


def model(folder: Path, **changes: Any) -> ModelFolder:
    """A network with ranges that hold for `texts_of`."""
    shape: dict[str, Any] = {"sizes": SIZES, "layers": 3, "ngrams": True, "max_tokens": POSITIONS} | changes
    made = artifact.read(make_tiny_model(folder, **shape))
    found = replace(ranging.over(made, texts_of(LENGTHS, made), 1), agreement=Agreement(100, 1.0, 0.0))
    artifact.put(folder, artifact.RANGES, found.content())
    return artifact.read(folder)


def texts_of(lengths: Sequence[int], folder: ModelFolder, seed: int = 0) -> list[Ids]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, folder.config["vocab_size"], length).astype(np.int32) for length in lengths]


def network_of(folder: ModelFolder, kind: str) -> network.Network:
    if kind == "amx":
        return AmxNetwork(folder)
    return (ByteNetwork if kind == "bytes" else AmxByteNetwork)(folder, folder.fixed_ranges())


def float32(folder: ModelFolder, texts: Sequence[Ids], cache: Path) -> Floats:
    """What the network says exactly."""
    reference = OpenVinoBackend(folder, cache, 1, "float32")
    return np.concatenate([reference.start([text])() for text in texts])
