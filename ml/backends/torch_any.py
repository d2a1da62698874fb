"""The network in torch, on a CUDA device or a CPU: for GPUs, and for every architecture that transformers knows."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ml import weights as weights_file
from ml.artifact import ModelFolder
from ml.backends import Arithmetic, Logits, Pending, at_once, told_of_memory
from ml.batches import Batching, Ids
from ml.encoding import pad
from ml.errors import BackendError, DeviceLostError, MemoryShortError, ModelError

log = logging.getLogger(__name__)
T = TypeVar("T")

# On a GPU a batch must be so large that launching its kernels takes less time than computing them. On a CPU it should
# stay in the caches.
CUDA_TOKENS = 32_768
CPU_TOKENS = 1024

SMALLEST_SIZE = 512
"""Compiled code is made for this many tokens, twice as many, and so on up to a whole batch: seven sizes. Within a
chunk all batches but the last are nearly full, so that little is filled up. Merged by pairs, a full batch has a little
more than half of its tokens left, for texts of odd length: a network that merges has sizes an eighth larger as well,
but for the whole batch, which nothing exceeds."""


class TorchBackend:
    """A torch module in evaluation mode: packed for BERT and its kin, padded for others.

    Args:
        folder: the model.
        device: `cuda` or `cpu`.
        threads: cores to use on a CPU; 0: torch's own choice.
        arithmetic: `float32`, `bfloat16`, or `auto` and `float`: bfloat16 where the device multiplies it natively.
        tokens: of a batch; 0: what suits the device.
        compiler: what compiles the packed network (a backend of `torch.compile`); `auto`: inductor on CUDA, and none
            on a CPU, where it would need a C++ compiler; an empty one: none.
        packed: False: padded whatever the architecture.

    Raises:
        BackendError: torch or transformers is not installed, or torch cannot compute on the device.
        MemoryShortError: the device has no memory for the network.
        ModelError: the weights are not those of the configuration.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: str,
        threads: int = 0,
        arithmetic: Arithmetic = "auto",
        *,
        tokens: int = 0,
        compiler: str = "auto",
        packed: bool = True,
    ) -> None:
        try:
            import torch

            from ml import network
            from ml import packed as packed_form
            from ml.staging import Staging
        except ImportError as error:
            raise BackendError("torch is not installed: run `make train-deps`, or choose another backend.") from error
        if device == "cuda" and (reason := why_not_cuda()):
            raise BackendError(f"There is no CUDA device that torch can use ({reason}): set RUBRIKA_DEVICE=cpu.")
        if threads and device == "cpu":
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        self._pad_id = folder.pad_id
        halves = arithmetic == "bfloat16" or (arithmetic != "float32" and network.has_fast_bfloat16(self._device))
        dtype = torch.bfloat16 if halves else torch.float32
        net = load_network(folder)
        # Before Ampere there is no kernel for packed attention, and on any device none for float32.
        fits = device == "cpu" or (halves and torch.cuda.get_device_capability(self._device) >= (8, 0))
        self._packed = packed and fits and packed_form.can_pack(folder.config)
        self._merges = len(folder.merge_after)
        self._after_pad = folder.config.get("model_type") in packed_form.AFTER_PAD
        if self._packed:
            net = packed_form.PackedNetwork(net, dtype).eval()
        else:
            # Pooled states are few: the last layer and the linear part stay in float32.
            net.encoder.to(dtype)
        self._net: Any = self._translated(lambda: net.to(self._device))
        if compiler == "auto":
            compiler = "inductor" if device == "cuda" else ""
        compiled = self._packed and bool(compiler)
        if compiled:
            self._net.compile(compiler)
        tokens = tokens or (CUDA_TOKENS if device == "cuda" else CPU_TOKENS)
        self.batching = Batching(
            tokens,
            0 if self._packed else 8,
            in_flight=2 if device == "cuda" else 1,
            sizes=_sizes(tokens, merges=self._merges > 0) if compiled else (),
        )
        self._staging = Staging(self._device)
        self._lock = threading.Lock()
        form = "packed" if self._packed else "padded"
        self.description = f"torch {torch.__version__} on {device}, {'bf16' if halves else 'f32'}, {form}"

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Begin to compute, as `Backend.start`; on a CPU it is over when this returns."""
        fetched = self._translated(lambda: self._begun(texts))
        if self._device.type == "cpu":
            return at_once(fetched())
        return lambda: self._translated(fetched)

    def warm_up(self) -> None:
        """Compile for every size of a batch, with a line in the log for each.

        Where memory ends before the largest, batches are no larger than the last that it has held. Where nothing can be
        compiled, all works without, and the log says why.

        Raises:
            MemoryShortError: there is no memory for the smallest batch either.
            DeviceLostError: the device failed.
        """
        text = np.full(32, self._pad_id, dtype=np.int32)
        held = 0
        for size in self.batching.sizes:
            try:
                self.start([text] * (size // len(text)))()
            except DeviceLostError:
                raise
            except MemoryShortError:
                if not held:
                    raise
                log.warning("memory is short: %d tokens a batch", held)
                self.batching = replace(self.batching, tokens=held, sizes=_sizes(held, merges=self._merges > 0))
                return
            except Exception as error:
                log.warning("the network runs without being compiled: %s", _first_line(error))
                self._net.run_eagerly()
                self.batching = replace(self.batching, sizes=())
                return
            log.info("compiled for batches of %d tokens", size)
            held = size

    def _begun(self, texts: Sequence[Ids]) -> Callable[[], Logits]:
        with self._lock, self._torch.inference_mode():
            return self._staging.fetch(self._forward_packed(texts) if self._packed else self._forward_padded(texts))

    def _forward_packed(self, texts: Sequence[Ids]) -> Any:
        from ml.packing import pack

        batch = pack(texts, self._pad_id, self.batching.size_of, self._after_pad, self._merges)
        return self._net(self._staging.send(batch.numbers), batch)

    def _forward_padded(self, texts: Sequence[Ids]) -> Any:
        input_ids, mask = pad(texts, self._pad_id, self.batching.multiple)
        both = np.concatenate([input_ids.ravel(), mask.ravel()]).astype(np.int32)
        return self._net(*self._staging.send(both).view(2, *input_ids.shape).long().unbind())

    def _translated(self, step: Callable[[], T]) -> T:
        """Return what `step` returns, and raise what keeps it from that as one of our own errors."""
        torch = self._torch
        try:
            # Of a processor's memory torch speaks in words alone.
            return step() if self._device.type == "cuda" else told_of_memory(step)
        except torch.OutOfMemoryError as error:
            short = str(error)
        except torch.AcceleratorError as error:
            raise DeviceLostError(f"The device failed and this process must start anew: {error}") from error
        # Not sooner: until the error is forgotten, what it has interrupted holds its memory. So would the error below,
        # if it were raised while that one is handled.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise MemoryShortError(f"The memory of the device does not suffice: {short}")


def _sizes(tokens: int, *, merges: bool) -> tuple[int, ...]:
    """Return the sizes to compile for, of batches of so many tokens at most."""
    sizes: list[int] = []
    size = SMALLEST_SIZE
    while not sizes or sizes[-1] < tokens:
        sizes.append(size)
        if merges and size < tokens:
            sizes.append(size * 9 // 8)
        size *= 2
    return tuple(sizes)


def why_not_cuda() -> str:
    """Say in a few words why torch cannot compute on a CUDA device here; empty where it can."""
    import torch

    if not torch.cuda.is_available():
        return "there is none, or an old driver, a build of torch without CUDA, or CUDA_VISIBLE_DEVICES"
    try:
        # A card may be found and be too old for every kernel of this build.
        torch.ones(1, device="cuda").sum().item()
    except Exception as error:
        # Not all that torch raises here is of one kind, and each is a reason not to begin: but for a card that is full.
        # That passes, and whoever loads a network on it is told, and starts anew.
        return "" if "out of memory" in str(error) else _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".:")


def load_network(folder: ModelFolder) -> Any:
    """Return the `TopicNetwork` of a folder, in float32 on the CPU.

    Raises:
        ModelError: the weights are not those of the configuration.
    """
    import torch

    from ml import network

    pooling = network.pooling_named(folder.pooling)
    weights = {name: torch.from_numpy(array) for name, array in weights_file.read(folder.weights).items()}
    linear = (len(weights["ngrams.hashes"]), len(weights["ngrams.table"])) if "ngrams.table" in weights else None
    net = network.from_config(folder.path, pooling, len(folder.info.topics), linear, folder.merge_after)
    missing, unexpected = net.load_state_dict(weights, strict=False)
    # Buffers such as position numbers are not parameters and are made anew.
    lacking = [name for name in missing if name in dict(net.named_parameters()) or name.startswith("ngrams.")]
    if lacking or unexpected:
        raise ModelError(f"{folder.weights} does not fit its configuration: {', '.join([*lacking, *unexpected])}.")
    return net.eval()
