"""The network on a CPU by ONNX Runtime, in float32 or in 8 bits with fixed ranges."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ml import graph
from ml.artifact import ModelFolder
from ml.backends import Arithmetic, Pending, at_once, usable_cores
from ml.batches import Batching, Ids
from ml.encoding import pad
from ml.errors import BackendError


class OnnxRuntimeBackend:
    """An inference session of ONNX Runtime.

    Args:
        folder: the model.
        cache_dir: where the graph is kept between starts.
        threads: cores to use; 0: all that the process may use.
        network: the graph to run; None: the folder's own.
        arithmetic: `int8-static`, or anything else for float32.

    Raises:
        BackendError: ONNX Runtime is not installed.
        ModelError: as `graph.build`.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache_dir: Path,
        threads: int = 0,
        network: Path | None = None,
        arithmetic: Arithmetic = "float32",
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendError(
                "ONNX Runtime is not installed: `pip install onnxruntime`, or choose another backend."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        # Lengths differ from batch to batch: plans made for one shape are of no use to the next.
        options.enable_mem_pattern = False
        static = arithmetic == "int8-static"
        own = network or graph.cached(folder, cache_dir, "int8-static" if static else "float16")
        self._session = onnxruntime.InferenceSession(str(own), options, providers=["CPUExecutionProvider"])
        self._pad_id = folder.pad_id
        self._lock = threading.Lock()
        self.batching = Batching(tokens=1024, multiple=16)
        self.description = (
            f"ONNX Runtime {onnxruntime.__version__} on CPU, {'int8 in fixed ranges and f32' if static else 'f32'}"
        )

    def start(self, texts: Sequence[Ids]) -> Pending:
        """Compute at once, as `Backend.start`."""
        input_ids, mask = pad(texts, self._pad_id, self.batching.multiple)
        with self._lock:
            logits = self._session.run(["logits"], {"input_ids": input_ids, "attention_mask": mask})[0]
        return at_once(np.asarray(logits, dtype=np.float32))

    def warm_up(self) -> None:
        """Nothing is made on first use."""
