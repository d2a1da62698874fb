"""The network behind LitServe: `python -m bench.peer_litserve PORT`, with the folder in PEER_FOLDER.

It runs in the environment that `bench.peers` makes.
"""

import os
import sys
from pathlib import Path
from typing import Any

import litserve
import torch

from bench.networks import reference_model, reference_tokenizer
from ml import artifact


class Topics(litserve.LitAPI):  # type: ignore[misc]
    """As its documentation shows: decode, predict a batch, encode."""

    def setup(self, device: str) -> None:
        folder = artifact.read(Path(os.environ["PEER_FOLDER"]))
        self.model, self.tokenizer = reference_model(folder).to(device), reference_tokenizer(folder)

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        return list(inputs)

    def predict(self, x: list[str]) -> Any:
        fed = self.tokenizer(x, return_tensors="pt", truncation=True, padding=True)
        with torch.inference_mode():
            return torch.sigmoid(self.model(fed["input_ids"], fed["attention_mask"]).logits).tolist()

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"probabilities": output}


if __name__ == "__main__":
    api = Topics(max_batch_size=32, batch_timeout=0.02)
    litserve.LitServer(api, accelerator="cpu", timeout=600).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False
    )
