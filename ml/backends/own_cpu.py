"""The network on a CPU by kernels of our own: texts without padding, a batch for each core."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ml import x86
from ml.artifact import ModelFolder
from ml.backends import AHEAD, Logits, Pending, usable_cores
from ml.batches import Batching, Ids
from ml.errors import BackendError, DeviceLostError

if TYPE_CHECKING:
    from ml.x86.network import Buffers, Network

MULTIPLE = 32
"""Of which the sizes of a network must be multiples."""

TRIALS = 4
"""One more than there are functions that are kept."""

NUMBERS = 1024 * 768
"""Of the states of a batch: more of them would wait in the third cache."""

log = logging.getLogger(__name__)


class OwnBackend(ABC):
    """Our own kernels, compiled when they are loaded.

    Args:
        folder: the model.
        threads: batches that are computed side by side, each by one core; 0: as many as the process may use.
        cache_dir: where what is compiled is kept between starts; None: nowhere. The first in a process counts.
        emulated: compute without AMX, slowly, where there is none; bytes are not emulated.

    Raises:
        BackendError: the instructions or Numba are not there, or the kernels do not know such a network (`why_not`).
        ModelError: weights are missing or of another shape than the configuration says.
    """

    arithmetic: ClassVar[str]
    """What is multiplied."""

    needs: ClassVar[str]
    """The instructions that multiply it."""

    loops: ClassVar[bool] = False
    """Whether loops may do what they do."""

    multiple: ClassVar[int] = MULTIPLE
    """Of which the sizes of its products must be multiples."""

    tokens: ClassVar[int]
    """Of a batch, at most: the weights are read once for all of them, and a single text waits until they are done."""

    def __init__(
        self, folder: ModelFolder, threads: int = 0, cache_dir: Path | None = None, emulated: bool = False
    ) -> None:
        if reason := why_not(folder, self.multiple):
            raise BackendError(
                f"Our own kernels do not know the network of {folder.path}: {reason}. Choose another backend "
                "(RUBRIKA_BACKEND=auto)."
            )
        # Numba tells what it does at the level DEBUG, in thousands of lines.
        logging.getLogger("numba").setLevel(logging.WARNING)
        try:
            from numba.core.errors import NumbaError

            if cache_dir is not None:
                x86.keep_in(cache_dir)
            found = self._instructions()
        except ImportError as error:
            raise BackendError(
                f"Numba is not there ({error}): `pip install numba`, or choose another backend."
            ) from error
        if not found and not (emulated and self.loops):
            raise BackendError(
                f"There is no {self.needs}, or this process may not use it. Choose another backend "
                "(RUBRIKA_BACKEND=auto)."
            )
        self._network = self._load(folder)
        for left in reversed(range(TRIALS)):
            try:
                self._network.logits([np.zeros(1, dtype=np.int32)], self._network.buffers())
                break
            except Exception as error:
                if isinstance(error, NumbaError) or not left:
                    raise BackendError(
                        f"Our own kernels cannot be compiled: {error}. Choose another backend."
                    ) from error
                # What is kept may be damaged, or the disk full; what was compiled is there all the same.
                log.warning("what was compiled cannot be kept or read: %s: %s", type(error).__name__, error)
                x86.forget()
        streams = threads or usable_cores()
        self._buffers: SimpleQueue[Buffers] = SimpleQueue()
        for _ in range(streams):
            self._buffers.put(self._network.buffers())
        self._pool = ThreadPoolExecutor(streams, thread_name_prefix="network")
        tokens = min(self.tokens, NUMBERS // int(folder.config["hidden_size"]))
        self.batching = Batching(tokens=tokens, in_flight=streams + AHEAD)
        self.description = f"own kernels on CPU, {self.arithmetic} by {found or 'loops'}"

    @abstractmethod
    def _instructions(self) -> str:
        """Return which of those that multiply this process may use; nothing where it may use none."""

    @abstractmethod
    def _load(self, folder: ModelFolder) -> "Network":
        """Lay out the weights."""

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Begin to compute, as `Backend.start`; batches wait for one another where every core is busy."""
        try:
            return self._pool.submit(self._computed, texts).result
        except RuntimeError as error:
            raise DeviceLostError("The process is about to end, or has no threads left.") from error

    def _computed(self, texts: Sequence[Ids]) -> Logits:
        buffers = self._buffers.get()
        try:
            return self._network.logits(texts, buffers)
        finally:
            self._buffers.put(buffers)

    def warm_up(self) -> None:  # noqa: B027  (as nothing, in all)
        """Nothing is made on first use but more memory."""


class AmxBackend(OwnBackend):
    """In bfloat16, by AMX."""

    arithmetic = "bf16"
    needs = "AMX with bfloat16"
    loops = True
    tokens = 1536

    def _instructions(self) -> str:
        from ml.x86 import tiles

        return "AMX" if tiles.NATIVE else ""

    def _load(self, folder: ModelFolder) -> "Network":
        from ml.x86.amx_network import AmxNetwork

        return AmxNetwork(folder)


class AmxByteBackend(OwnBackend):
    """In 8 bits within the ranges of the folder, by AMX.

    Raises:
        ModelError: besides, the folder has no ranges, or such as do not fit the network.
    """

    arithmetic = "int8 in fixed ranges"
    needs = "AMX with 8 bits and bfloat16"
    loops = True
    multiple = 64
    tokens = 1536

    def _instructions(self) -> str:
        from ml.x86 import tiles

        return "AMX" if tiles.NATIVE_BYTES else ""

    def _load(self, folder: ModelFolder) -> "Network":
        from ml.x86.byte_network import AmxByteNetwork

        return AmxByteNetwork(folder, folder.fixed_ranges())


class ByteBackend(OwnBackend):
    """In 8 bits within the ranges of the folder, by AVX-512 VNNI or AVX2.

    Raises:
        ModelError: besides, the folder has no ranges, or such as do not fit the network.
    """

    arithmetic = "int8 in fixed ranges"
    needs = "AVX-512 VNNI or AVX2"
    tokens = 1024

    def _instructions(self) -> str:
        from ml.x86 import dots

        return dots.INSTRUCTIONS

    def _load(self, folder: ModelFolder) -> "Network":
        from ml.x86.byte_network import ByteNetwork

        return ByteNetwork(folder, folder.fixed_ranges())


def why_not(folder: ModelFolder, multiple: int = MULTIPLE) -> str:
    """Return why kernels whose products have sizes of this multiple do not know a network; nothing where they do."""
    config = folder.config
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        return f"it is an encoder of type {config.get('model_type')!r}"
    if config.get("hidden_act", "gelu") != "gelu":
        return f"its activation is {config['hidden_act']!r}"
    width, wide, heads = (int(config[name]) for name in ("hidden_size", "intermediate_size", "num_attention_heads"))
    if width % multiple or wide % multiple or width // heads % MULTIPLE:
        return (
            f"its sizes {width} and {wide} are no multiples of {multiple}, or {width // heads} (of a head) none of "
            f"{MULTIPLE}"
        )
    return ""
