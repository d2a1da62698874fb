"""A classifier as fastText's (Joulin et al. 2016, arXiv:1607.01759): hashed n-grams, their mean vector, a linear layer.

Words, pairs of words and 3 to 5 characters of a word share one table of vectors by a hash; collisions are tolerated.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]

# So many rows has the table at most; of few texts it has fewer, since they hold fewer different n-grams.
BUCKETS = 1 << 17
BUCKETS_PER_TEXT = 64
WIDTH = 32
EPOCHS = 12
BATCH = 64
RATE = 5e-3


class Hashed:
    """A fitted one; see `ml.candidates.Fitted`."""

    def __init__(self, table: torch.nn.EmbeddingBag, head: torch.nn.Linear) -> None:
        self._table, self._head = table, head

    @property
    def size(self) -> int:
        return sum(4 * one.numel() for one in (*self._table.parameters(), *self._head.parameters()))

    def scores(self, texts: Sequence[str]) -> Floats:
        """Return logits, float32 (texts, topics)."""
        bags = _bags(texts, self._table.num_embeddings)
        result = np.zeros((len(bags), self._head.out_features), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(bags), 256):
                part = slice(start, start + 256)
                result[part] = self._head(self._table(*_flat(bags[part]))).numpy()
        return result


def fit(texts: Sequence[str], labels: Floats, seed: int, single: bool) -> Hashed:
    """Fit on texts with labels (texts, topics); `single`: by softmax over the first topic of each."""
    rng = np.random.default_rng(seed)
    buckets = min(BUCKETS, 1 << (BUCKETS_PER_TEXT * len(texts)).bit_length())
    table = torch.nn.EmbeddingBag(buckets, WIDTH, mode="mean")
    head = torch.nn.Linear(WIDTH, labels.shape[1])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        table.weight.uniform_(-1 / WIDTH, 1 / WIDTH, generator=generator)
        head.weight.zero_()
        head.bias.zero_()
    # A dense Adam over so small a table costs less than sorting out which of its rows a batch has touched.
    optimiser = torch.optim.Adam([*table.parameters(), *head.parameters()], lr=RATE, fused=True)
    bags = _bags(texts, buckets)
    goals = torch.from_numpy(labels)
    first = goals.argmax(dim=1)
    # Few texts must still make enough steps to get anywhere.
    batch = min(BATCH, max(4, len(bags) // 20))
    for _ in range(EPOCHS):
        order = rng.permutation(len(bags))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            logits = head(table(*_flat([bags[row] for row in rows])))
            if single:
                loss = torch.nn.functional.cross_entropy(logits, first[rows])
            else:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, goals[rows])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return Hashed(table, head)


def _bags(texts: Sequence[str], buckets: int) -> list[npt.NDArray[np.int64]]:
    from sklearn.feature_extraction.text import HashingVectorizer

    common: dict[str, Any] = {"n_features": buckets, "norm": None, "alternate_sign": False, "binary": True}
    words = HashingVectorizer(ngram_range=(1, 2), **common).transform(texts)
    chars = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **common).transform(texts)
    return [np.concatenate([words[row].indices, chars[row].indices]).astype(np.int64) for row in range(len(texts))]


def _flat(bags: Sequence[npt.NDArray[np.int64]]) -> tuple[torch.Tensor, torch.Tensor]:
    starts = np.cumsum([0, *(len(bag) for bag in bags[:-1])])
    return torch.from_numpy(np.concatenate(bags)), torch.from_numpy(starts)
