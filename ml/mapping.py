"""Texts as points: do posts of a topic lie together, and do clusters that know no labels find the topics?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DIMENSIONS = 50
MOST_POINTS = 6000
LEAST_POINTS = 10


@dataclass(frozen=True)
class Agreement:
    """How clusters and labels agree, over posts of a single topic.

    Attributes:
        ari: adjusted Rand index; 0 is chance, 1 the same partition (Hubert and Arabie 1985).
        nmi: normalised mutual information, 0 to 1.
        silhouette_labels: mean silhouette of the topics, -1 to 1 (Rousseeuw 1987); near 0 they overlap.
        silhouette_clusters: the same of the clusters.
        posts: how many posts these figures are of.
    """

    ari: float
    nmi: float
    silhouette_labels: float
    silhouette_clusters: float
    posts: int


def tfidf_vectors(texts: Sequence[str], seed: int) -> Floats:
    """Return float32 (texts, at most `DIMENSIONS`), rows of length 1: TF-IDF of words, reduced by truncated SVD."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    # Words in nearly all texts or in one alone say nothing about which texts are near each other.
    few = len(texts) < 200
    counted = TfidfVectorizer(sublinear_tf=True, min_df=1 if few else 3, max_df=1.0 if few else 0.3)
    matrix = counted.fit_transform(texts)
    size = min(DIMENSIONS, matrix.shape[1] - 1, len(texts) - 1)
    reduced = TruncatedSVD(max(size, 1), random_state=seed).fit_transform(matrix)
    return np.asarray(normalize(reduced), dtype=np.float32)


def place(vectors: Floats, seed: int) -> Floats:
    """Return float32 (texts, 2): t-SNE (van der Maaten and Hinton 2008), each axis scaled to 0 to 1."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    # Threads would add up in another order each time, and t-SNE makes much of small differences.
    with threadpool_limits(limits=1):
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
    low, high = found.min(axis=0), found.max(axis=0)
    return np.asarray((found - low) / np.maximum(high - low, 1e-9), dtype=np.float32)


def cluster(vectors: Floats, count: int, seed: int) -> Ints:
    """Return for each text the number of its cluster, by k-means."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        return np.asarray(KMeans(count, n_init=10, random_state=seed).fit_predict(vectors), dtype=np.int64)


def agreement(vectors: Floats, labels: Floats, clusters: Ints) -> Agreement | None:
    """Compare clusters with labels, float32 (texts, topics); None where there is too little to compare."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

    single = np.flatnonzero(labels.sum(axis=1) == 1)
    topics = labels[single].argmax(axis=1)
    if min(len(set(topics.tolist())), len(set(clusters[single].tolist()))) < 2 or len(single) < LEAST_POINTS:
        return None
    return Agreement(
        float(adjusted_rand_score(topics, clusters[single])),
        float(normalized_mutual_info_score(topics, clusters[single])),
        float(silhouette_score(vectors[single], topics, metric="cosine")),
        float(silhouette_score(vectors[single], clusters[single], metric="cosine")),
        len(single),
    )
