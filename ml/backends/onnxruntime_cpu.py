"""The network on a CPU by ONNX Runtime, in float32."""

import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import graph
from ml.artifact import ModelFolder
from ml.backends import usable_cores
from ml.errors import BackendError


class OnnxRuntimeBackend:
    """An inference session of ONNX Runtime.

    Args:
        folder: the model.
        cache_dir: where the graph is kept between starts.
        threads: cores to use; 0: all that the process may use.

    Raises:
        BackendError: ONNX Runtime is not installed.
        ModelError: as `graph.build`.
    """

    def __init__(self, folder: ModelFolder, cache_dir: Path, threads: int = 0) -> None:
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
        self._session = onnxruntime.InferenceSession(
            str(graph.cached(folder, cache_dir)), options, providers=["CPUExecutionProvider"]
        )
        self._lock = threading.Lock()
        self.description = f"ONNX Runtime {onnxruntime.__version__} on CPU, f32"

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits, as `Backend.run`."""
        with self._lock:
            logits = self._session.run(["logits"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
        return np.asarray(logits, dtype=np.float32)
