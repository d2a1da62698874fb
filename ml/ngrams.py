"""The linear part of a model: logistic regression on n-grams of tokens, beside the network and inside the same graph.

A fine-tuned encoder and a linear model on n-grams make different mistakes; the mean of their logits is better than
either (wide and deep: Cheng et al. 2016, arXiv:1606.07792). The n-grams are those of the ids that the network reads
anyway: one, two and three neighbouring tokens, upper and lower case alike. A row of one table stands for each, found by
tabulation hashing (Zobrist 1970; Patrascu and Thorup 2012, doi:10.1145/2220357.2220361): the sum of a random number for
each token and its place, modulo the number of rows. No sum reaches 2**24, so a runtime may add in float32.

Of a text with n-grams g (as often as they occur) the logits are

    bias + sum_g idf_g * w_g / sqrt(sum_g idf_g ** 2)

which is TF-IDF with the length of the vector taken as if no n-gram occurred twice: it needs sums alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

LONGEST = 3

# A prime: 4 MB of float16 for six topics. Half as many rows cost 0.005 of micro-F1 in five grouped folds.
ROWS = 262_139

# N-grams of fewer posts say nothing that holds for others.
FEWEST_POSTS = 2
INVERSE_REGULARISATION = 4.0


@dataclass(frozen=True)
class Ngrams:
    """A fitted linear part.

    Attributes:
        hashes: int32 (vocabulary, LONGEST), below the number of rows: what a token adds at each place of an n-gram.
        table: float32 (rows, topics + 1): `idf * w` for each topic, and `idf ** 2`.
        bias: float32 (topics,).
    """

    hashes: npt.NDArray[np.int32]
    table: Floats
    bias: Floats

    def logits(self, ids: Sequence[Ids]) -> Floats:
        """Return logits, float32 (texts, topics), of token ids, special ones included."""
        result = np.zeros((len(ids), len(self.bias)), dtype=np.float32)
        for row, one in enumerate(ids):
            sums = self.table[rows_of(one, self.hashes, len(self.table))].astype(np.float64).sum(axis=0)
            result[row] = self.bias + sums[:-1] / np.sqrt(max(sums[-1], 1.0))
        return result

    def scaled(self, share: float) -> "Ngrams":
        """Return the part whose logits are `share` times those of this one."""
        table = self.table.copy()
        table[:, :-1] *= share
        return Ngrams(self.hashes, table, self.bias * np.float32(share))


def token_hashes(tokenizer: str, rows: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Return int32 (vocabulary, LONGEST) for the content of a `tokenizer.json`; upper and lower case are alike."""
    vocabulary = Tokenizer.from_str(tokenizer).get_vocab(with_added_tokens=True)
    size = max(vocabulary.values()) + 1
    random = np.random.default_rng(seed).integers(0, rows, size=(size, LONGEST), dtype=np.int32)
    first: dict[str, int] = {}
    same = np.arange(size)
    for piece, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        same[number] = first.setdefault(piece.lower(), number)
    return random[same]


def rows_of(ids: Ids, hashes: npt.NDArray[np.int32], rows: int) -> npt.NDArray[np.int64]:
    """Return the rows of all n-grams of a text, int64 (n-grams,), as often as they occur."""
    found, sums = [], np.zeros(len(ids), dtype=np.int64)
    for place in range(LONGEST):
        if len(ids) <= place:
            break
        sums = sums[: len(ids) - place] + hashes[ids[place:], place]
        found.append(sums % rows)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def fit(ids: Sequence[Ids], labels: Floats, tokenizer: str, seed: int, rows: int = ROWS) -> Ngrams:
    """Fit logistic regression for each topic.

    Args:
        ids: token ids of n texts, special ones included.
        labels: (n, topics), 0 or 1.
        tokenizer: content of the `tokenizer.json` that made the ids.
        seed: of the solver.
        rows: of the table.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.linear_model import LogisticRegression

    hashes = token_hashes(tokenizer, rows)
    columns = [rows_of(one, hashes, rows) for one in ids]
    ends = np.cumsum([0, *(len(one) for one in columns)])
    ones = np.ones(ends[-1], dtype=np.float32)
    counts = csr_matrix((ones, np.concatenate(columns), ends), shape=(len(ids), rows))
    counts.sum_duplicates()
    posts = np.bincount(counts.indices, minlength=rows)
    idf = np.where(posts >= FEWEST_POSTS, np.log((1 + len(ids)) / (1 + posts)) + 1, 0.0)
    lengths = np.sqrt(np.maximum(counts @ idf**2, 1.0))
    features = (diags(1 / lengths) @ counts @ diags(idf)).tocsr()
    table = np.zeros((rows, labels.shape[1] + 1), dtype=np.float32)
    table[:, -1] = idf**2
    bias = np.zeros(labels.shape[1], dtype=np.float32)
    for topic in range(labels.shape[1]):
        column = labels[:, topic] > 0.5
        if column.all() or not column.any():
            # Nothing to tell apart: the share of the topic, drawn to the middle, is all there is to say.
            bias[topic] = np.log((column.sum() + 1) / ((~column).sum() + 1))
            continue
        model = LogisticRegression(solver="liblinear", C=INVERSE_REGULARISATION, random_state=seed)
        model.fit(features, column)
        table[:, topic] = idf * model.coef_[0]
        bias[topic] = model.intercept_[0]
    return Ngrams(hashes, table, bias)
