"""The network behind mosec: `python -m bench.peer_mosec PORT`, with the folder in PEER_FOLDER.

It runs in the environment that `bench.peers` makes.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from mosec import Server, Worker

from bench.networks import reference_model, reference_tokenizer
from ml import artifact


class Topics(Worker):  # type: ignore[misc]
    """As its documentation shows: `forward` takes a batch."""

    def __init__(self) -> None:
        super().__init__()
        folder = artifact.read(Path(os.environ["PEER_FOLDER"]))
        self.model, self.tokenizer = reference_model(folder), reference_tokenizer(folder)

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fed = self.tokenizer([one["text"] for one in data], return_tensors="pt", truncation=True, padding=True)
        with torch.inference_mode():
            found = torch.sigmoid(self.model(fed["input_ids"], fed["attention_mask"]).logits).tolist()
        return [{"probabilities": one} for one in found]


if __name__ == "__main__":
    # It reads its own options from the command line.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[1], "--timeout", "600000"]
    server = Server()
    server.append_worker(Topics, num=1, max_batch_size=32, max_wait_time=20, timeout=600)
    server.run()
