"""From logits to probabilities that mean what they say, and a threshold per topic.

Calibration is Platt's (1999) with one more term: `sigmoid(slope * logit + rivalry * rivals + intercept)`, fitted by
Newton's method with his smoothed targets. `rivals` is how strong the other topics and "none" are together, the
logarithm of the sum of their exponentials. Most posts have one topic at most, so what speaks for another speaks against
this one; sigmoids that know nothing of each other cannot say so, and a softmax could not say that a post has two
topics. How much the others count is learnt for each topic. The threshold of a topic is the one with the best F1.
Crops of the posts, which stand for short texts, are learnt from beside the posts and count as much in all. Everything
is chosen on validation posts, so figures measured on the same posts flatter; `cross_fit` gives honest ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Beyond these a fit on few posts has run away: no threshold or slope outside is of use to anybody.
SLOPE_RANGE = (0.05, 20.0)
THRESHOLD_RANGE = (0.02, 0.98)

# Of the ridge that draws the rivalry to 0: a few posts must not invent one.
RIDGE = 1.0

F1_SLACK = 0.005

# So many posts of a topic give its own threshold the same weight as the common one. Cross-fitted on the 562 validation
# posts of the shipped model, own thresholds reached a micro-F1 of 0.732, these 0.744, the common one alone 0.746.
COMMON_WEIGHT = 200.0


@dataclass(frozen=True)
class Calibration:
    """Parameters and threshold of each topic; four float32 arrays (topics,)."""

    slope: Floats
    intercept: Floats
    rivalry: Floats
    threshold: Floats

    def probabilities(self, logits: Floats) -> Floats:
        """Return calibrated probabilities, float32 (n, topics), for logits of that shape."""
        return sigmoid(logits * self.slope + rivals(logits) * self.rivalry + self.intercept)


def sigmoid(values: Floats) -> Floats:
    """Return the logistic function of `values`, float32, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values.astype(np.float64))), dtype=np.float32)


def rivals(logits: Floats) -> Floats:
    """Return for each topic the logarithm of 1 plus the summed exponentials of the others, float32 (n, topics)."""
    result = np.zeros(logits.shape, dtype=np.float32)
    # The 1 stands for "none of the topics", whose logit is 0.
    everything = np.concatenate([logits, np.zeros((len(logits), 1))], axis=1)
    for topic in range(logits.shape[1]):
        others = np.delete(everything, topic, axis=1)
        strongest = others.max(axis=1)
        result[:, topic] = strongest + np.log(np.exp(others - strongest[:, None]).sum(axis=1))
    return result


def platt(logits: Floats, others: Floats, labels: Floats) -> tuple[float, float, float]:
    """Return (slope, rivalry, intercept) of one topic for float arrays (n,); (1, 0, 0) where all labels are alike."""
    positive = float(labels.sum())
    negative = len(labels) - positive
    if positive == 0 or negative == 0:
        return 1.0, 0.0, 0.0
    targets = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    columns = np.stack([logits, others, np.ones(len(logits))], axis=1).astype(np.float64)
    slope, rivalry, intercept = _newton(columns, np.zeros(len(logits)), targets, [1.0, 0.0, 0.0], [0.0, RIDGE, 0.0])
    kept = float(np.clip(slope, *SLOPE_RANGE))
    if kept != slope:
        # The others were fitted to a slope that is not taken.
        rivalry, intercept = _newton(columns[:, 1:], kept * columns[:, 0], targets, [0.0, 0.0], [RIDGE, 0.0])
    return kept, rivalry, intercept


def _newton(
    design: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
    start: Sequence[float],
    ridge: Sequence[float],
    steps: int = 50,
) -> list[float]:
    """Return the parameters (k,) with which `sigmoid(design @ parameters + offset)` fits targets (n,) best."""
    parameters, penalty = np.array(start), np.array(ridge)

    def loss_of(some: npt.NDArray[np.float64]) -> float:
        return _cross_entropy(design @ some + offset, targets) + float((penalty * some**2).sum()) / 2

    loss = loss_of(parameters)
    for _ in range(steps):
        guess = 1 / (1 + np.exp(-np.clip(design @ parameters + offset, -60, 60)))
        gradient = design.T @ (guess - targets) + penalty * parameters
        curvature = (design * (guess * (1 - guess))[:, None]).T @ design + np.diag(penalty + 1e-6)
        step = np.linalg.solve(curvature, gradient)
        # Newton's step is halved until it helps: far from the optimum it can overshoot.
        scale = 1.0
        while scale > 1e-6 and (after := loss_of(parameters - scale * step)) > loss:
            scale /= 2
        if scale <= 1e-6:
            break
        parameters, gain, loss = parameters - scale * step, loss - after, after
        if gain < 1e-12:
            break
    return [float(one) for one in parameters]


def best_threshold(probabilities: Floats, labels: Floats) -> float:
    """Return a threshold with the best F1 of one topic, or nearly so, half-way between two neighbouring probabilities.

    A post has the topic when its probability is at least the threshold. On a few hundred posts the curve is flat and
    jagged, and its very peak is luck: of all thresholds within `F1_SLACK` of it, the middle one is taken. Without a
    positive label: the highest allowed.
    """
    if not labels.any():
        return THRESHOLD_RANGE[1]
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order].astype(np.float64)
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + labels.sum())
    following = np.append(ranked[1:], 0.0)
    # Posts of equal probability are taken together or not at all.
    f1[ranked == following] = -1.0
    near = np.flatnonzero(f1 >= f1.max() - F1_SLACK)
    best = int(near[len(near) // 2])
    return float(np.clip((ranked[best] + following[best]) / 2, *THRESHOLD_RANGE))


def fit(logits: Floats, labels: Floats, pieces: Floats | None = None) -> Calibration:
    """Fit calibration and thresholds.

    Args:
        logits, labels: of posts, float32 (n, topics).
        pieces: logits of as many rounds of crops of these posts, float32 (rounds, n, topics); None: posts alone.
    """
    if pieces is not None and len(pieces):
        logits, labels = np.concatenate([logits] * len(pieces) + [*pieces]), np.tile(labels, (2 * len(pieces), 1))
    topics, others = range(labels.shape[1]), rivals(logits)
    found = [platt(logits[:, topic], others[:, topic], labels[:, topic]) for topic in topics]
    slope, rivalry, intercept = np.array(found, dtype=np.float32).T
    fitted = Calibration(slope, intercept, rivalry, np.zeros_like(slope))
    return replace(fitted, threshold=thresholds(fitted.probabilities(logits), labels))


def thresholds(probabilities: Floats, labels: Floats) -> Floats:
    """Choose a threshold per topic, float32 (topics,), for calibrated probabilities (n, topics).

    Each topic's own best one is drawn towards the one that is best for all topics together, the more so the fewer
    posts of the topic there are: own thresholds from some fifty posts were worse on other posts than a common one.
    """
    common = best_threshold(probabilities.ravel(), labels.ravel())
    own = np.array([best_threshold(probabilities[:, topic], labels[:, topic]) for topic in range(labels.shape[1])])
    positives = labels.sum(axis=0, dtype=np.float64)
    return np.asarray((positives * own + COMMON_WEIGHT * common) / (positives + COMMON_WEIGHT), dtype=np.float32)


def cross_fit(
    logits: Floats,
    labels: Floats,
    measure: Callable[[Floats, Floats, Floats], dict[str, float]],
    repeats: int,
    seed: int,
    pieces: Floats | None = None,
    asked: Floats | None = None,
) -> dict[str, tuple[float, float]]:
    """Measure honestly with one set of posts: fit on a random half, measure on the other, then the other way round.

    Args:
        logits, labels: float32 (n, topics).
        measure: called with probabilities, labels and thresholds; returns named figures.
        repeats: number of random halvings.
        seed: of the halvings.
        pieces: as for `fit`.
        asked: what to measure instead of the posts, logits of as many rounds of crops of them, float32
            (rounds, n, topics); a crop is measured with what was fitted to the half that its post is not in.

    Returns:
        For each figure its mean and its standard deviation over the halvings.
    """
    rng = np.random.default_rng(seed)
    wanted = logits[None] if asked is None else asked
    repeated = np.broadcast_to(labels, wanted.shape)
    rounds: list[dict[str, float]] = []
    for _ in range(repeats):
        order = rng.permutation(len(labels))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        probabilities = np.zeros_like(wanted)
        thresholds = np.zeros_like(wanted)
        for fitted, measured in (halves, halves[::-1]):
            calibration = fit(logits[fitted], labels[fitted], None if pieces is None else pieces[:, fitted])
            for turn, some in enumerate(wanted):
                probabilities[turn, measured] = calibration.probabilities(some[measured])
            thresholds[:, measured] = calibration.threshold
        rounds.append(measure(*(one.reshape(-1, one.shape[-1]) for one in (probabilities, repeated, thresholds))))
    return {
        name: (float(np.mean([one[name] for one in rounds])), float(np.std([one[name] for one in rounds])))
        for name in rounds[0]
    }


def _cross_entropy(scores: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> float:
    return float((np.logaddexp(0.0, scores) - targets * scores).sum())
