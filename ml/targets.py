"""Soft targets: labels blended with what a plain model, which has not seen the post, thinks of it.

Labels of posts are noisy. A linear model on TF-IDF features makes other mistakes than a network, and its out-of-fold
probabilities tell the network how far a label deserves belief: distillation (Hinton et al. 2015, arXiv:1503.02531)
from a teacher that costs a minute.
"""

import warnings

import numpy as np
import numpy.typing as npt

from ml.data import Dataset, folds
from ml.posts import compose

FOLDS = 5


def out_of_fold(data: Dataset, seed: int) -> npt.NDArray[np.float32]:
    """Return float32 (posts, topics): probabilities by TF-IDF models, each trained without the post's own fold."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [compose(post) for post in data.posts]
    parts = folds(data, FOLDS, seed)
    result = np.zeros(data.labels.shape, dtype=np.float32)
    for part in range(FOLDS):
        inside, outside = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        if not len(outside):
            continue
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
        learn, ask = [texts[row] for row in inside], [texts[row] for row in outside]
        seen = hstack([words.fit_transform(learn), chars.fit_transform(learn)]).tocsr()
        unseen = hstack([words.transform(ask), chars.transform(ask)]).tocsr()
        for topic in range(data.labels.shape[1]):
            labels = data.labels[inside, topic]
            if labels.min() == labels.max():
                # A topic with no example on one side teaches nothing: its own share is the best guess.
                result[outside, topic] = labels.mean()
                continue
            model = LogisticRegression(solver="liblinear", C=4.0, random_state=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                model.fit(seen, labels)
            result[outside, topic] = model.predict_proba(unseen)[:, 1]
    return result


def out_of_fold_of_vectors(data: Dataset, vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Return float32 (posts, topics): probabilities by logistic regression on vectors (posts, numbers) of the posts."""
    from sklearn.linear_model import LogisticRegression

    parts = folds(data, FOLDS, seed)
    spread = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    result = np.zeros(data.labels.shape, dtype=np.float32)
    for part in range(FOLDS):
        inside, outside = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        for topic in range(data.labels.shape[1] if len(outside) else 0):
            labels = data.labels[inside, topic]
            if labels.min() == labels.max():
                result[outside, topic] = labels.mean()
                continue
            # Hundreds of numbers of unit spread, a few thousand posts: without shrinking they are learnt by heart.
            model = LogisticRegression(C=0.003, max_iter=300)
            result[outside, topic] = model.fit(spread[inside], labels).predict_proba(spread[outside])[:, 1]
    return result


def blend(labels: npt.NDArray[np.float32], teacher: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float32]:
    """Return `(1 - weight) * labels + weight * teacher`, float32 of the same shape (posts, topics)."""
    return ((1.0 - weight) * labels + weight * teacher).astype(np.float32)
