"""The network on a CPU by OpenVINO: in float32, in bfloat16 where the processor multiplies it natively, or in int8.

In int8 the weights of the layers have 8 bits, and what they are multiplied with is rounded to 8 bits as it comes, with
a scale for each token and stretch of `GROUP` numbers (dynamic quantisation: Zafrir et al. 2019, arXiv:1910.06188).
Nothing has to be calibrated on posts, and an unusual text cannot leave a range that was measured on usual ones.
`int8-static` rounds within fixed ranges, which the model folder has (`ml.ranges`), and is faster.
"""

import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ml import graph
from ml.artifact import ModelFolder
from ml.backends import AHEAD, Arithmetic, Logits, Pending, told_of_memory, usable_cores
from ml.batches import Batching, Ids
from ml.encoding import pad
from ml.errors import BackendError, DeviceLostError, MemoryShortError

GROUP = 128
"""Numbers that share a scale. On the shipped network as exact as 32 and a fifth faster; 384 are as fast, less exact."""


PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
EIGHT_BITS = {"int8": "int8", "int8-static": "int8 in fixed ranges"}


class OpenVinoBackend:
    """A compiled OpenVINO model with an inference request for each stream, and for what waits ahead of them.

    Args:
        folder: the model.
        cache_dir: where the graph and OpenVINO's compiled form of it are kept between starts.
        threads: cores to use; 0: all that the process may use.
        arithmetic: `int8`, `int8-static`, `float32`, `bfloat16`, or `float`: OpenVINO's choice of the last two. What
            the 8 bits leave is in OpenVINO's choice as well.
        streams: batches that are computed side by side, each by its share of the threads.

    Raises:
        BackendError: OpenVINO is not installed or refuses the graph.
        ModelError: as `graph.build`.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache_dir: Path,
        threads: int = 0,
        arithmetic: Arithmetic = "float",
        streams: int = 1,
    ) -> None:
        core = core_of_openvino()
        path = graph.cached(folder, cache_dir, graph.weights_for(arithmetic))
        options: dict[str, Any] = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            # Each process would take the first cores of the machine, whatever others have taken: of several workers all
            # would compute on the cores of the first.
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if arithmetic == "int8" else 0,
        }
        if arithmetic in PRECISIONS:
            options["INFERENCE_PRECISION_HINT"] = PRECISIONS[arithmetic]
        try:
            self.compiled = compiled = _compile(core, path, options, cache_dir)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot load the network {path}: {error}") from error
        self._pad_id = folder.pad_id
        was_short = threading.Event()
        self._slots = deque(_Slot(compiled.create_infer_request(), was_short) for _ in range(streams + AHEAD))
        self._lock = threading.Lock()
        self.batching = Batching(tokens=1024, multiple=16, in_flight=streams + AHEAD)
        rest = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        precision = f"{EIGHT_BITS[arithmetic]} and {rest}" if arithmetic in EIGHT_BITS else rest
        version = core.get_versions("CPU")["CPU"].build_number.split("-")[0]
        self.description = f"OpenVINO {version} on CPU, {precision}"

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Begin to compute, as `Backend.start`; waits for the oldest batch where every request is taken."""
        input_ids, mask = pad(texts, self._pad_id, self.batching.multiple)
        with self._lock:
            slot = self._slots[0]
            self._slots.rotate(-1)
        return slot.start({"input_ids": input_ids, "attention_mask": mask})

    def warm_up(self) -> None:
        """Nothing is made on first use: plans are made for each shape that comes."""


class _Slot:
    """A request and the result of the batch that it computes. All requests know when one of them got no memory."""

    def __init__(self, request: Any, was_short: threading.Event) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._inputs: dict[str, Any] = {}
        self._result: Future[Logits] | None = None
        self._was_short = was_short

    def start(self, inputs: dict[str, Any]) -> Pending:
        with self._lock:
            self._settle()
            # The request reads these arrays where they are, so they stay.
            self._inputs = inputs
            told_of_memory(lambda: self._request.start_async(inputs, share_inputs=True))
            result = self._result = Future()

        def pending() -> Logits:
            with self._lock:
                if not result.done():
                    self._settle()
            return result.result()

        return pending

    def _settle(self) -> None:
        """Wait for the batch that is being computed, and copy what the request owns and will overwrite."""
        if self._result is None:
            return
        result, self._result = self._result, None
        try:
            told_of_memory(self._request.wait)
            result.set_result(np.array(self._request.get_output_tensor(0).data, dtype=np.float32))
        except MemoryShortError as error:
            self._was_short.set()
            result.set_exception(error)
        except Exception as error:
            if self._was_short.is_set():
                # What it had begun when memory ended stays half done, and whatever is asked of it fails.
                error = DeviceLostError(f"OpenVINO did not get its memory, and this process must start anew: {error}")
            result.set_exception(error)


@cache
def core_of_openvino() -> Any:
    """OpenVINO's core: one for the whole process, for ever.

    The CPU plugin of each gives the thread that makes it a stack for signals, and takes it back when it goes. Of two
    that go in the order in which they came, the second leaves the stack of the first behind, which is no longer there:
    the next signal ends the process.

    Raises:
        BackendError: OpenVINO is not installed.
    """
    # OpenVINO reports its use to its makers when it is imported, unless the package that does so is not to be had.
    # Nothing of ours calls anywhere; this is the switch that its own code looks at.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BackendError("OpenVINO is not installed: `pip install openvino`, or choose another backend.") from error
    return openvino.Core()


def _compile(core: Any, path: Path, options: dict[str, Any], cache_dir: Path) -> Any:
    try:
        return core.compile_model(str(path), "CPU", options | {"CACHE_DIR": str(cache_dir / "openvino")})
    except RuntimeError:
        # Another process may be writing the very cache entry that this one reads, or the disk is full.
        return core.compile_model(str(path), "CPU", options)
