"""From posts to calibrated probabilities: prepare, compute, and both in one.

    classifier = Classifier.load(folder)
    predictions = classifier.predict([Post(doc_text="...")])

`prepare` needs no network and may run in another thread while `compute` works on the chunk before.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from ml import artifact
from ml.artifact import ModelFolder, ModelInfo
from ml.backends import (
    Arithmetic,
    Backend,
    fastest_arithmetic,
    processor_flags,
    suits_amx,
    suits_bytes,
    suits_onnxruntime,
    usable_cores,
)
from ml.backends.own_cpu import AmxBackend, AmxByteBackend, ByteBackend, OwnBackend
from ml.encoding import TextEncoder
from ml.errors import BackendError
from ml.posts import Post
from ml.running import NO_EFFORT, Effort, Runner, reason

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "amx", "bytes", "openvino", "onnxruntime", "torch")
NVIDIA_DEVICE = Path("/dev/nvidiactl")
ARITHMETICS: Sequence[Arithmetic] = get_args(Arithmetic)
IN_BFLOAT16: Sequence[Arithmetic] = ("auto", "float", "bfloat16")
"""Of these, what may be computed in bfloat16."""
OWN: Mapping[str, Sequence[Arithmetic]] = {"amx": IN_BFLOAT16, "bytes": ("auto", "int8-static")}
"""Backends of our own kernels, and what each may be asked for."""


@dataclass(frozen=True)
class Prepared:
    """Tokenised posts.

    Attributes:
        rows: number of posts, n.
        ids: token ids of each distinct text, int32 (length,).
        text_of: int64 (n,), which of them stands for each post; -1 where the post could not be read.
        truncated: bool (n,), whether the end of the post is left out.
        failures: for posts that could not be read, the row and the reason.
    """

    rows: int
    ids: tuple[npt.NDArray[np.int32], ...]
    text_of: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]
    failures: Mapping[int, str]

    @property
    def tokens(self) -> int:
        """Number of tokens that the network will read, padding not counted."""
        return sum(len(ids) for ids in self.ids)


@dataclass(frozen=True)
class Predictions:
    """What a model says of n posts, in their order.

    Attributes:
        probabilities: float32 (n, topics), calibrated; NaN in the rows of `failures`.
        truncated: bool (n,), whether the end of the post was left out.
        failures: for posts that failed alone, the row and the reason.
        logits: float32 (n, topics), what the network said before it was calibrated; NaN in the rows of `failures`.
        effort: what it cost.
    """

    probabilities: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]
    failures: Mapping[int, str]
    logits: npt.NDArray[np.float32]
    effort: Effort = NO_EFFORT


class Classifier:
    """A model that is loaded and ready.

    `prepare` may be called from any thread. `compute` keeps nothing between batches, so `between_batches` may call
    `predict` of the same classifier.

    Args:
        folder: the model folder, as `artifact.read` returns it.
        backend: what runs its network.
        batch_tokens: most tokens in a batch, unless one text alone has more; None: what suits the backend.
    """

    def __init__(self, folder: ModelFolder, backend: Backend, batch_tokens: int | None = None) -> None:
        self.info: ModelInfo = folder.info
        self._calibration = folder.calibration
        self._backend = backend
        self._runner = Runner(backend, len(folder.info.topics), batch_tokens)
        self._pad_id = folder.pad_id
        self._encoder = TextEncoder(
            folder.tokenizer(),
            folder.prefix,
            folder.max_tokens,
            folder.cleaning,
            folder.fields,
            compiled=isinstance(backend, OwnBackend),
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        backend: str = "auto",
        arithmetic: str = "auto",
        threads: int = 0,
        cache_dir: Path | None = None,
    ) -> "Classifier":
        """Read and verify a model folder and load its network.

        Args:
            folder: the model folder.
            device: `auto`, `cpu` or `cuda`.
            backend: `auto`, `amx`, `bytes`, `openvino`, `onnxruntime` or `torch`.
            arithmetic: `float32`, `bfloat16`, `int8` (OpenVINO alone), `int8-static` (on a CPU, not torch; for folders
                with ranges), `float` (the backend's choice of the first two), or `auto`: 8 bits where the processor
                gains by it, in fixed ranges where the folder says that they agree with float32.
            threads: cores to use on a CPU; 0: all that the process may use.
            cache_dir: where graphs are kept between starts; None: `rubrika` in the user's cache folder.

        Raises:
            ModelError: the folder is missing, incomplete, damaged, or cannot be run this way.
            BackendError: the device or the backend is not there.
        """
        model = artifact.read(folder)
        cache_dir = cache_dir or default_cache_dir()
        return cls(model, load_backend(model, device, backend, threads, cache_dir, arithmetic))

    @property
    def backend(self) -> str:
        """What runs the network, in a few words."""
        return self._backend.description

    def prepare(self, posts: Sequence[Post]) -> Prepared:
        """Compose and tokenise `posts`; equal texts are tokenised, and later computed, once."""
        index: dict[str, int] = {}
        failures: dict[int, str] = {}
        text_of = np.full(len(posts), -1, dtype=np.int64)
        for row, post in enumerate(posts):
            try:
                text_of[row] = index.setdefault(self._encoder.compose(post), len(index))
            except Exception as error:
                failures[row] = reason(error)
        texts = list(index)
        try:
            encoded = self._encoder.encode(texts)
            ids, cut = encoded.ids, encoded.truncated
        except Exception:
            # One text that the tokenizer refuses must not take the others with it.
            ids, cut, refused = self._encode_singly(texts)
            failures |= {row: refused[text] for row, text in enumerate(text_of.tolist()) if text in refused}
            text_of[list(failures)] = -1
        truncated = np.zeros(len(posts), dtype=np.bool_)
        readable = text_of >= 0
        truncated[readable] = cut[text_of[readable]]
        return Prepared(len(posts), ids, text_of, truncated, failures)

    def compute(self, prepared: Prepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        """Run the network.

        Args:
            prepared: from `prepare`.
            between_batches: called between two batches; it may call `predict`, and what it raises ends the call.

        Raises:
            DeviceLostError: nothing can be computed any more in this process.
        """
        logits, failed, effort = self._runner.run(prepared.ids, between_batches)
        of_rows = np.full((prepared.rows, len(self.info.topics)), np.nan, dtype=np.float32)
        readable = prepared.text_of >= 0
        of_rows[readable] = logits[prepared.text_of[readable]]
        failures = dict(prepared.failures)
        failures |= {row: failed[text] for row, text in enumerate(prepared.text_of.tolist()) if text in failed}
        return Predictions(self._calibration.probabilities(of_rows), prepared.truncated, failures, of_rows, effort)

    def predict(self, posts: Sequence[Post]) -> Predictions:
        """Prepare and compute."""
        return self.compute(self.prepare(posts))

    def warm_up(self) -> None:
        """Run a short and a long text, so that the first real one does not pay for what is made on first use.

        Raises:
            BackendError: the network fails on them, and would on others.
        """
        self._backend.warm_up()
        posts = [Post(doc_text="Привет"), Post(doc_text="Сегодня хороший день, и мы идём гулять. " * 10)]
        failures = self.predict(posts).failures
        if failures:
            raise BackendError(f"The network fails on a text that it is tried with: {next(iter(failures.values()))}")

    def _encode_singly(
        self, texts: Sequence[str]
    ) -> tuple[tuple[npt.NDArray[np.int32], ...], npt.NDArray[np.bool_], dict[int, str]]:
        ids: list[npt.NDArray[np.int32]] = []
        cut = np.zeros(len(texts), dtype=np.bool_)
        refused: dict[int, str] = {}
        for index, text in enumerate(texts):
            try:
                encoded = self._encoder.encode([text])
                ids.append(encoded.ids[0])
                cut[index] = encoded.truncated[0]
            except Exception as error:
                ids.append(np.array([self._pad_id], dtype=np.int32))
                refused[index] = reason(error)
        return tuple(ids), cut, refused


def load_backend(
    model: ModelFolder, device: str, backend: str, threads: int, cache_dir: Path, arithmetic: str = "auto"
) -> Backend:
    """Load the network of `model` with the chosen backend; the choices are those of `Classifier.load`."""
    if device not in DEVICES or backend not in BACKENDS:
        raise BackendError(f"Device {device!r} must be one of {DEVICES} and backend {backend!r} one of {BACKENDS}.")
    chosen = next((one for one in ARITHMETICS if one == arithmetic), None)
    if chosen is None:
        raise BackendError(f"Arithmetic {arithmetic!r} must be one of {ARITHMETICS}.")
    if device == "cuda" and backend not in ("auto", "torch"):
        raise BackendError(f"On a CUDA device the network runs in torch, not in {backend}.")
    if device == "auto":
        device = "cuda" if backend in ("auto", "torch") and _cuda_is_there() else "cpu"
    if backend == "auto" and (device == "cuda" or model.config.get("model_type") != "bert"):
        backend = "torch"
    flags, agree = processor_flags(), model.ranges is not None and model.ranges.agree
    fixed = chosen == "int8-static" or (chosen == "auto" and agree)
    own = _own_kernels(backend, chosen, fixed)
    for number, kernels in enumerate(own, 1):
        try:
            return kernels(model, threads, cache_dir)
        except BackendError as error:
            if backend != "auto" and number == len(own):
                raise
            log.info("the network runs elsewhere: %s", error)
    if backend == "auto":
        backend = "openvino"
        if fixed and suits_onnxruntime(flags) and importlib.util.find_spec("onnxruntime"):
            backend = "onnxruntime"
    if backend == "openvino":
        from ml.backends.openvino_cpu import OpenVinoBackend

        if chosen == "auto":
            chosen = fastest_arithmetic(flags, agree)
        return OpenVinoBackend(model, cache_dir, threads, chosen, _streams(chosen, threads))
    if arithmetic == "int8":
        raise BackendError(f"int8 runs on OpenVINO alone, and the backend is {backend}.")
    if backend == "onnxruntime":
        from ml.backends.onnxruntime_cpu import OnnxRuntimeBackend

        if chosen == "bfloat16":
            raise BackendError("ONNX Runtime has no bfloat16 on a CPU: choose another arithmetic or another backend.")
        if chosen == "auto" and agree and "avx2" in flags:
            chosen = "int8-static"
        streams = _streams(chosen, threads) if chosen == "int8-static" else 1
        return OnnxRuntimeBackend(model, cache_dir, threads, chosen, streams)
    if chosen == "int8-static":
        raise BackendError("Fixed ranges run on our own kernels, OpenVINO and ONNX Runtime, and the backend is torch.")
    from ml.backends.torch_any import TorchBackend

    return TorchBackend(model, device, threads, chosen)


def _own_kernels(backend: str, arithmetic: Arithmetic, fixed: bool) -> list[type[OwnBackend]]:
    """Return what of our own may compute, the fastest first. `fixed`: whether fixed ranges will do."""
    flags = processor_flags()
    amx, in_bytes = suits_amx(flags), fixed and suits_bytes(flags)
    if backend in OWN:
        if arithmetic not in OWN[backend]:
            raise BackendError(
                f"The kernels of the backend {backend} compute in {OWN[backend][-1]}, not in {arithmetic}."
            )
        if backend == "amx":
            return [AmxBackend]
        return [AmxByteBackend, ByteBackend] if amx and suits_bytes(flags) else [ByteBackend]
    if backend != "auto":
        return []
    choices: list[tuple[type[OwnBackend], bool]] = [
        (AmxByteBackend, amx and in_bytes),
        (AmxBackend, amx and arithmetic in IN_BFLOAT16),
        (ByteBackend, in_bytes),
    ]
    return [kernels for kernels, suits in choices if suits]


def _streams(arithmetic: Arithmetic, threads: int) -> int:
    # Where products are fast, two cores wait for each other at each: a batch for each of them is a tenth faster.
    fast = arithmetic in ("int8", "int8-static")
    fast = fast or (arithmetic in IN_BFLOAT16 and suits_amx(processor_flags()))
    return (threads or usable_cores()) if fast else 1


def default_cache_dir() -> Path:
    """Return `rubrika` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rubrika"


def _cuda_is_there() -> bool:
    # Asking torch imports it, which takes seconds and memory that a machine without a GPU has no use for.
    if not NVIDIA_DEVICE.exists() or importlib.util.find_spec("torch") is None:
        return False
    from ml.backends.torch_any import why_not_cuda

    reason = why_not_cuda()
    if reason:
        log.warning("there is a GPU, but torch cannot use it (%s): the network runs on the CPU", reason)
    return not reason
