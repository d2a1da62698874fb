"""Vectors of texts by a pretrained encoder, without any training."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ml import network
from ml.errors import ModelError

BATCH, MAX_TOKENS = 32, 256


def encoder_vectors(base: str, texts: Sequence[str], prefix: str = "", middle: bool = False) -> npt.NDArray[np.float32]:
    """Return float32 (texts, hidden), rows of length 1: the mean over the tokens of what `base` makes of each text.

    With `middle` the mean of its middle layer stands beside it, (texts, 2 * hidden): what the last layer no longer
    needs for its own task is still there.

    Raises:
        ModelError: transformers cannot load `base`.
    """
    from transformers import AutoTokenizer

    encoder = network.from_base(base, "mean", 1, 0.0).encoder.eval()
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
    except Exception as error:
        # The library of tokenizers has no exception of its own for a file that is damaged.
        raise ModelError(f"transformers cannot load the tokenizer of {base!r}: {error}") from error
    longest = min(MAX_TOKENS, network.longest_input(encoder.config))
    # Texts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    halves = 1 + middle
    result = np.zeros((len(texts), halves * int(encoder.config.hidden_size)), dtype=np.float32)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        inputs = tokenizer(
            [prefix + texts[row] for row in rows],
            truncation=True, max_length=longest, padding=True, return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            every = encoder(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True
            ).hidden_states
            mask = inputs["attention_mask"].unsqueeze(-1).to(every[-1].dtype)
            chosen = (every[-1], every[len(every) // 2])[:halves]
            means = [(states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0) for states in chosen]
            result[rows] = torch.cat([torch.nn.functional.normalize(one, dim=1) for one in means], dim=1).numpy()
    return result
