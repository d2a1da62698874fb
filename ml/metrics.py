"""Figures of merit for multi-label probabilities, by their textbook definitions, in NumPy alone.

All arrays are float32 (n, topics); thresholds are (topics,) or (n, topics). A division by nothing counts as 0.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

ECE_BINS = 15


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


def average_precision(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]) -> float:
    """Return the area under the precision-recall curve of one topic, (n,) each: mean precision at each recall step.

    Equal scores form one step, as in scikit-learn's `average_precision_score`.
    """
    if not labels.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order], dtype=np.float64)
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


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


def calibration_error(probabilities: Floats, labels: Floats, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: mean over topics, with bins that hold equally many posts each."""
    return float(np.mean([_one_error(probabilities[:, t], labels[:, t], bins) for t in range(labels.shape[1])]))


def _one_error(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], bins: int) -> float:
    order = np.argsort(probabilities, kind="stable")
    gaps = [
        abs(float(probabilities[part].mean() - labels[part].mean())) * len(part)
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return sum(gaps) / len(order)


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
