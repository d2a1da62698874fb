"""The network on a CPU by OpenVINO: in float32, in bfloat16 where the processor multiplies it natively, or in int8.

In int8 the weights of the layers have 8 bits, and what they are multiplied with is rounded to 8 bits as it comes, with
a scale for each token and stretch of `GROUP` numbers (dynamic quantisation: Zafrir et al. 2019, arXiv:1910.06188).
Nothing has to be calibrated on posts, and an unusual text cannot leave a range that was measured on usual ones.
"""

import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import graph
from ml.artifact import ModelFolder
from ml.backends import Arithmetic, usable_cores
from ml.errors import BackendError

GROUP = 128
"""Numbers that share a scale. On the shipped network as exact as 32 and a fifth faster; 384 are as fast, less exact."""


class OpenVinoBackend:
    """A compiled OpenVINO model with one inference request.

    Args:
        folder: the model.
        cache_dir: where the graph and OpenVINO's compiled form of it are kept between starts.
        threads: cores to use; 0: all that the process may use.
        arithmetic: `int8`; or `float`: OpenVINO's choice of float32 and bfloat16.

    Raises:
        BackendError: OpenVINO is not installed or refuses the graph.
        ModelError: as `graph.build`.
    """

    def __init__(
        self, folder: ModelFolder, cache_dir: Path, threads: int = 0, arithmetic: Arithmetic = "float"
    ) -> None:
        # OpenVINO reports its use to its makers when it is imported, unless the package that does so is not to be had.
        # Nothing of ours calls anywhere; this is the switch that its own code looks at.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError as error:
            raise BackendError(
                "OpenVINO is not installed: `pip install openvino`, or choose another backend."
            ) from error
        path = graph.cached(folder, cache_dir, "int8" if arithmetic == "int8" else "float16")
        core = _core()
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if arithmetic == "int8" else 0,
        }
        try:
            compiled = _compile(core, path, options, cache_dir)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot load the network {path}: {error}") from error
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()
        rest = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        precision = f"int8 and {rest}" if arithmetic == "int8" else rest
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]} on CPU, {precision}"

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits, as `Backend.run`."""
        with self._lock:
            outputs = self._request.infer(
                {"input_ids": input_ids, "attention_mask": attention_mask}, share_inputs=True, share_outputs=True
            )
            # The request owns its output and overwrites it at the next call.
            return np.array(outputs[0], dtype=np.float32)


@cache
def _core() -> Any:
    """One for the whole process, for ever.

    The CPU plugin of each gives the thread that makes it a stack for signals, and takes it back when it goes. Of two
    that go in the order in which they came, the second leaves the stack of the first behind, which is no longer there:
    the next signal ends the process.
    """
    import openvino

    return openvino.Core()


def _compile(core: Any, path: Path, options: dict[str, Any], cache_dir: Path) -> Any:
    try:
        return core.compile_model(str(path), "CPU", options | {"CACHE_DIR": str(cache_dir / "openvino")})
    except RuntimeError:
        # Another process may be writing the very cache entry that this one reads, or the disk is full.
        return core.compile_model(str(path), "CPU", options)
