"""Candidates made of a pretrained encoder: its vectors with a linear head, and the encoder fine-tuned."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from ml import candidates, train
from ml.data import Dataset, TopicName, group_key
from ml.embedding import encoder_vectors
from ml.posts import Post

Floats = npt.NDArray[np.float32]


class _Vectors:
    """What an encoder makes of texts, as features."""

    def __init__(self, base: str, prefix: str) -> None:
        self._base, self._prefix = base, prefix

    def __call__(self, texts: Sequence[str]) -> Floats:
        return encoder_vectors(self._base, texts, self._prefix)

    @property
    def size(self) -> int:
        from ml import network

        encoder = network.from_base(self._base, "mean", 1, 0.0).encoder
        return sum(one.numel() * one.element_size() for one in encoder.parameters())


class _Tuned:
    def __init__(self, fitted: train.Fitted) -> None:
        self._fitted = fitted

    @property
    def size(self) -> int:
        return sum(one.numel() * one.element_size() for one in self._fitted.net.parameters())

    def scores(self, texts: Sequence[str]) -> Floats:
        return self._fitted.logits(texts)


def fit_frozen(
    base: str, prefix: str, variant: candidates.Variant, texts: Sequence[str], labels: Floats, seed: int
) -> candidates.Fitted:
    """Fit logistic regression on the mean vectors of an encoder that is left as it is."""
    from sklearn.linear_model import LogisticRegression

    vectors = _Vectors(base, prefix)
    # Vectors of length 1 with hundreds of numbers need little shrinking.
    make = partial(LogisticRegression, C=30.0, max_iter=1000, random_state=seed)
    return candidates.linear_head(vectors, vectors(texts), labels, make, variant)


def fit_tuned(
    base: str, prefix: str, single: bool, epochs: int, texts: Sequence[str], labels: Floats, seed: int
) -> candidates.Fitted:
    """Fine-tune an encoder by the defaults of `rubrika train`; `single`: the first topic of a post is its only one."""
    if single:
        labels = np.eye(labels.shape[1], dtype=np.float32)[candidates.first_topics(labels)]
    # Texts are put together already; as the words of a post they stay as they are.
    posts = tuple(Post(text) for text in texts)
    topics = tuple(TopicName(str(number), str(number), str(number)) for number in range(labels.shape[1]))
    learn = Dataset(topics, posts, labels, tuple(group_key(post) for post in posts))
    options = train.TrainOptions(base, prefix=prefix, epochs=epochs, seed=seed, ngram_share=0.0)
    # What training looks at once an epoch changes nothing that it does: some posts that it knows will do.
    return _Tuned(train.fit_fold(learn, learn.take(range(min(len(posts), 64))), options))
