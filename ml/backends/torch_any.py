"""The network in torch, on a CUDA device or a CPU: for GPUs, and for every architecture that transformers knows."""

import threading

import numpy as np
import numpy.typing as npt

from ml import weights as weights_file
from ml.artifact import ModelFolder
from ml.errors import BackendError, ModelError


class TorchBackend:
    """A torch module in evaluation mode: bfloat16 on CUDA, float32 on a CPU.

    Args:
        folder: the model.
        device: `cuda` or `cpu`.
        threads: cores to use on a CPU; 0: torch's own choice.

    Raises:
        BackendError: torch or transformers is not installed, or there is no CUDA device.
        ModelError: the weights are not those of the configuration.
    """

    def __init__(self, folder: ModelFolder, device: str, threads: int = 0) -> None:
        try:
            import torch

            from ml import network
        except ImportError as error:
            raise BackendError(
                "torch is not installed: `make train-deps`, or `pip install -e '.[train]'`, or choose another backend."
            ) from error
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("There is no CUDA device that torch can use: set RUBRIKA_DEVICE=cpu.")
        if threads and device == "cpu":
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        pooling = network.pooling_named(folder.pooling)
        weights = {name: torch.from_numpy(array) for name, array in weights_file.read(folder.weights).items()}
        linear = (len(weights["ngrams.hashes"]), len(weights["ngrams.table"])) if "ngrams.table" in weights else None
        net = network.from_config(folder.path, pooling, len(folder.info.topics), linear)
        missing, unexpected = net.load_state_dict(weights, strict=False)
        # Buffers such as position numbers are not parameters and are made anew.
        lacking = [name for name in missing if name in dict(net.named_parameters()) or name.startswith("ngrams.")]
        if lacking or unexpected:
            raise ModelError(f"{folder.weights} does not fit its configuration: {', '.join([*lacking, *unexpected])}.")
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self._net = net.eval().to(self._device, dtype)
        self._lock = threading.Lock()
        self.description = f"torch {torch.__version__} on {device}, {'bf16' if device == 'cuda' else 'f32'}"

    def run(self, input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return logits, as `Backend.run`."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            logits = self._net(
                torch.from_numpy(input_ids).to(self._device), torch.from_numpy(attention_mask).to(self._device)
            )
            return np.asarray(logits.float().cpu().numpy())
