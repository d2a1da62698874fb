"""Figures of merit for multi-label probabilities, by their textbook definitions, in NumPy alone.

All arrays are float32 (n, topics); thresholds are (topics,) or (n, topics). A division by nothing counts as 0.
`tests/unit/test_ml_metrics_peers.py` holds them to scikit-learn's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

ECE_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Posts of neighbouring probabilities: how many, their mean probability, and the share that has the topic."""

    posts: int
    believed: float
    true: float


def f1_scores(probabilities: Floats, labels: Floats, thresholds: Floats) -> tuple[float, float]:
    """Return micro-F1 and macro-F1 of what is assigned at these thresholds."""
    assigned = probabilities >= thresholds
    both = (assigned * labels).sum(axis=0)
    either = assigned.sum(axis=0) + labels.sum(axis=0)
    per_topic = 2 * both / np.maximum(either, 1)
    return float(2 * both.sum() / max(either.sum(), 1)), float(per_topic.mean())


def precision_recall_f1(probabilities: Floats, labels: Floats, thresholds: Floats) -> npt.NDArray[np.float64]:
    """Return float64 (topics, 3): precision, recall and F1 of each topic."""
    assigned = probabilities >= thresholds
    both = (assigned * labels).sum(axis=0, dtype=np.float64)
    precision = both / np.maximum(assigned.sum(axis=0), 1)
    recall = both / np.maximum(labels.sum(axis=0), 1)
    f1 = 2 * both / np.maximum(assigned.sum(axis=0) + labels.sum(axis=0), 1)
    return np.stack([precision, recall, f1], axis=1)


def weighted_f1(probabilities: Floats, labels: Floats, thresholds: Floats) -> float:
    """Return the mean F1 of the topics, each weighted with the number of its posts."""
    per_topic = precision_recall_f1(probabilities, labels, thresholds)[:, 2]
    posts = labels.sum(axis=0, dtype=np.float64)
    return float((per_topic * posts).sum() / max(posts.sum(), 1.0))


def precision_recall_curve(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return precision and recall of one topic, (steps,) each, as its threshold falls over the distinct scores."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order], dtype=np.float64)
    # Equal scores form one step, as in scikit-learn: no threshold can part them.
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, dtype=np.int64)
    return hits[ends] / (ends + 1), hits[ends] / max(float(labels.sum()), 1.0)


def roc_curve(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the shares of posts without and with one topic that get it, as its threshold falls; both begin at 0."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order], dtype=np.float64)
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, dtype=np.int64)
    true = np.concatenate([[0.0], hits[ends]])
    false = np.concatenate([[0.0], ends + 1]) - true
    return false / max(len(labels) - float(labels.sum()), 1.0), true / max(float(labels.sum()), 1.0)


def average_precision(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]) -> float:
    """Return the area under the precision-recall curve of one topic, (n,) each: mean precision at each recall step."""
    if not labels.any():
        return 0.0
    precision, recall = precision_recall_curve(scores, labels)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc_auc(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]) -> float:
    """Return the chance that a post with the topic has a higher score than one without; equal scores count half.

    That is the area under the ROC curve (Hanley and McNeil 1982), from the mean ranks of Mann and Whitney's U. Where
    all labels are alike there is nothing to tell apart: 0.5.
    """
    positive = float(labels.sum())
    negative = len(labels) - positive
    if positive == 0 or negative == 0:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    return float((ranks[labels > 0.5].sum() - positive * (positive + 1) / 2) / (positive * negative))


def first_choice_right(probabilities: Floats, labels: Floats) -> float:
    """Return the share of posts with a topic whose most probable topic is one of theirs."""
    with_topic = labels.any(axis=1)
    if not with_topic.any():
        return 0.0
    best = probabilities[with_topic].argmax(axis=1)
    return float(labels[with_topic][np.arange(len(best)), best].mean())


def subset_accuracy(probabilities: Floats, labels: Floats, thresholds: Floats) -> float:
    """Return the share of posts whose assigned topics are exactly theirs."""
    return float(((probabilities >= thresholds) == (labels > 0.5)).all(axis=1).mean())


def hamming_loss(probabilities: Floats, labels: Floats, thresholds: Floats) -> float:
    """Return the share of decisions, a post and a topic each, that are wrong."""
    return float(((probabilities >= thresholds) != (labels > 0.5)).mean())


def calibration_error(probabilities: Floats, labels: Floats, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: mean over topics, with bins that hold equally many posts each."""
    return float(np.mean([topic_error(probabilities[:, t], labels[:, t], bins) for t in range(labels.shape[1])]))


def topic_error(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], bins: int = ECE_BINS) -> float:
    """Return the expected calibration error of one topic, (n,) each (Naeini, Cooper, Hauskrecht 2015)."""
    found = reliability(probabilities, labels, bins)
    return sum(abs(one.believed - one.true) * one.posts for one in found) / len(labels)


def reliability(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], bins: int = ECE_BINS
) -> list[Bin]:
    """Return the bins of one topic, (n,) each, that hold equally many posts, from the least probable on."""
    order = np.argsort(probabilities, kind="stable")
    return [
        Bin(len(part), float(probabilities[part].mean()), float(labels[part].mean()))
        for part in np.array_split(order, min(bins, len(order)))
    ]


def brier(probabilities: Floats, labels: Floats) -> float:
    """Return the mean squared difference between probability and label, over posts and topics."""
    return float(np.mean((probabilities - labels) ** 2))


def off_topic_share(probabilities: Floats, thresholds: Floats) -> float:
    """Return the share of posts that get any topic at all; right is 0 for posts that belong to none."""
    return float((probabilities >= thresholds).any(axis=1).mean())


def summary(probabilities: Floats, labels: Floats, thresholds: Floats) -> dict[str, float]:
    """Return the figures that stand for a whole set of posts, by name."""
    micro, macro = f1_scores(probabilities, labels, thresholds)
    ap = [average_precision(probabilities[:, topic], labels[:, topic]) for topic in range(labels.shape[1])]
    return {
        "micro_f1": micro,
        "macro_f1": macro,
        "mean_average_precision": float(np.mean(ap)),
        "first_choice_right": first_choice_right(probabilities, labels),
        "subset_accuracy": subset_accuracy(probabilities, labels, thresholds),
        "calibration_error": calibration_error(probabilities, labels),
        "brier": brier(probabilities, labels),
    }


def full_summary(probabilities: Floats, labels: Floats, thresholds: Floats) -> dict[str, float]:
    """Return `summary` and what else a report on a model tells of a whole set of posts, by name."""
    auc = [roc_auc(probabilities[:, topic], labels[:, topic]) for topic in range(labels.shape[1])]
    return {
        **summary(probabilities, labels, thresholds),
        "weighted_f1": weighted_f1(probabilities, labels, thresholds),
        "mean_roc_auc": float(np.mean(auc)),
        "hamming_loss": hamming_loss(probabilities, labels, thresholds),
    }


def assigned_where_labelled(probabilities: Floats, labels: Floats, thresholds: Floats) -> npt.NDArray[np.float64]:
    """Return float64 (topics, topics + 1): of the posts labelled with the row, the share that gets the column.

    The last column is the share that gets no topic at all.
    """
    assigned = probabilities >= thresholds
    columns = np.concatenate([assigned, ~assigned.any(axis=1, keepdims=True)], axis=1).astype(np.float64)
    shares: npt.NDArray[np.float64] = labels.T.astype(np.float64) @ columns
    return np.asarray(shares / np.maximum(labels.sum(axis=0, dtype=np.float64), 1)[:, None])


def bootstrap(
    probabilities: Floats,
    labels: Floats,
    thresholds: Floats,
    groups: Sequence[str],
    measure: Callable[[Floats, Floats, Floats], dict[str, float]],
    repeats: int = 200,
    seed: int = 1,
) -> dict[str, tuple[float, float]]:
    """Return for each figure the 2.5th and 97.5th percentile over samples drawn with replacement (Efron 1979).

    Groups of near-equal posts, a name for each post, are drawn whole: a post and its copy are one observation.
    """
    rng = np.random.default_rng(seed)
    names, group_of = np.unique(np.array(groups), return_inverse=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
    found = []
    for _ in range(repeats):
        rows = np.concatenate([members[one] for one in rng.integers(len(names), size=len(names))])
        found.append(measure(probabilities[rows], labels[rows], thresholds))
    return {
        name: (float(low), float(high))
        for name in found[0]
        for low, high in [np.percentile([one[name] for one in found], [2.5, 97.5])]
    }
