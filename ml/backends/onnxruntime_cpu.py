"""The network on a CPU by ONNX Runtime, in float32 or in 8 bits with fixed ranges."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import graph
from ml.artifact import ModelFolder
from ml.backends import AHEAD, Arithmetic, Logits, Pending, told_of_memory, usable_cores
from ml.batches import Batching, Ids
from ml.encoding import pad
from ml.errors import BackendError


class OnnxRuntimeBackend:
    """An inference session of ONNX Runtime.

    Args:
        folder: the model.
        cache_dir: where the graph is kept between starts.
        threads: cores to use; 0: all that the process may use.
        arithmetic: `int8-static`, or anything else for float32.
        streams: batches that are computed side by side, each by its share of the threads.
        network: the graph to run; None: the folder's own.

    Raises:
        BackendError: ONNX Runtime is not installed.
        ModelError: as `graph.build`.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache_dir: Path,
        threads: int = 0,
        arithmetic: Arithmetic = "float32",
        streams: int = 1,
        network: Path | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "ONNX Runtime is not installed: `pip install onnxruntime`, or choose another backend."
            ) from error
        options = onnxruntime.SessionOptions()
        # Of one: whoever runs the session computes, and no other thread waits for work by spinning.
        options.intra_op_num_threads = max(1, (threads or usable_cores()) // streams)
        options.inter_op_num_threads = 1
        # Lengths differ from batch to batch: plans made for one shape are of no use to the next.
        options.enable_mem_pattern = False
        own = network or graph.cached(folder, cache_dir, graph.weights_for(arithmetic))
        self._session = onnxruntime.InferenceSession(str(own), options, providers=["CPUExecutionProvider"])
        self._pad_id = folder.pad_id
        self._pool = ThreadPoolExecutor(streams, thread_name_prefix="network")
        self.batching = Batching(tokens=1024, multiple=8, in_flight=streams + AHEAD)
        precision = "int8 in fixed ranges and f32" if arithmetic == "int8-static" else "f32"
        self.description = f"ONNX Runtime {onnxruntime.__version__} on CPU, {precision}"

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Begin to compute, as `Backend.start`; batches wait for one another where every stream is busy."""
        input_ids, mask = pad(texts, self._pad_id, self.batching.multiple)
        return self._pool.submit(self._computed, {"input_ids": input_ids, "attention_mask": mask}).result

    def _computed(self, inputs: dict[str, npt.NDArray[np.int64]]) -> Logits:
        found = told_of_memory(lambda: self._session.run(["logits"], inputs))
        return np.asarray(found[0], dtype=np.float32)

    def warm_up(self) -> None:
        """Nothing is made on first use."""
