"""Figures of merit against those of scikit-learn, on posts with ties, with rare topics and with none of a topic."""

import numpy as np
import pytest

from ml import metrics
from ml.metrics import Floats

peers = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the train extra")

CASES = [(0, 200, 0), (1, 57, 1), (2, 400, 2), (3, 33, 1)]


def made(seed: int, posts: int, digits: int) -> tuple[Floats, Floats, Floats]:
    """Return probabilities rounded so that many are equal, labels that go along with them, and thresholds."""
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(0.5, 1.5, (posts, 4)).round(digits + 1).astype(np.float32)
    labels = (rng.random((posts, 4)) < probabilities * [0.9, 0.6, 0.3, 1.0]).astype(np.float32)
    labels[0], labels[1] = 1.0, 0.0
    return probabilities, labels, rng.uniform(0.2, 0.7, 4).astype(np.float32)


@pytest.mark.parametrize(("seed", "posts", "digits"), CASES)
def test_decisions_are_counted_as_scikit_learn_counts_them(seed: int, posts: int, digits: int) -> None:
    probabilities, labels, thresholds = made(seed, posts, digits)
    assigned = probabilities >= thresholds
    figures = metrics.full_summary(probabilities, labels, thresholds)
    for average in ("micro", "macro", "weighted"):
        expected = peers.f1_score(labels, assigned, average=average, zero_division=0)
        assert figures[f"{average}_f1"] == pytest.approx(expected, abs=1e-6)
    assert figures["hamming_loss"] == pytest.approx(peers.hamming_loss(labels, assigned), abs=1e-6)
    assert figures["subset_accuracy"] == pytest.approx(peers.accuracy_score(labels, assigned), abs=1e-6)
    rows = metrics.precision_recall_f1(probabilities, labels, thresholds)
    expected = peers.precision_recall_fscore_support(labels, assigned, zero_division=0)[:3]
    assert pytest.approx(np.array(expected), abs=1e-6) == rows.T


@pytest.mark.parametrize(("seed", "posts", "digits"), CASES)
def test_areas_under_curves_are_those_of_scikit_learn_with_equal_scores_too(seed: int, posts: int, digits: int) -> None:
    probabilities, labels, thresholds = made(seed, posts, digits)
    figures = metrics.full_summary(probabilities, labels, thresholds)
    assert figures["mean_roc_auc"] == pytest.approx(peers.roc_auc_score(labels, probabilities), abs=1e-6)
    expected = peers.average_precision_score(labels, probabilities)
    assert figures["mean_average_precision"] == pytest.approx(expected, abs=1e-6)
    scores = [peers.brier_score_loss(labels[:, topic], probabilities[:, topic]) for topic in range(4)]
    assert figures["brier"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_the_curve_passes_where_that_of_scikit_learn_does() -> None:
    probabilities, labels, _ = made(5, 120, 1)
    precision, recall = metrics.precision_recall_curve(probabilities[:, 0], labels[:, 0])
    expected = peers.precision_recall_curve(labels[:, 0], probabilities[:, 0])
    # Theirs runs the other way, and ends at a point that no threshold reaches.
    assert precision[::-1] == pytest.approx(expected[0][:-1])
    assert recall[::-1] == pytest.approx(expected[1][:-1])


def test_the_error_of_calibration_is_the_mean_gap_of_a_reliability_plot() -> None:
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(6)
    # Without ties and in bins of ten posts each, quantiles cut where equal numbers do.
    probabilities = rng.permutation(np.linspace(0.01, 0.99, 150)).astype(np.float32)
    labels = (rng.random(150) < probabilities**2).astype(np.float32)
    true, believed = calibration_curve(labels, probabilities, n_bins=15, strategy="quantile")
    bins = metrics.reliability(probabilities, labels)
    assert [one.posts for one in bins] == [10] * 15
    assert [one.believed for one in bins] == pytest.approx(believed.tolist(), abs=1e-6)
    assert [one.true for one in bins] == pytest.approx(true.tolist(), abs=1e-6)
    assert metrics.topic_error(probabilities, labels) == pytest.approx(np.abs(true - believed).mean(), abs=1e-6)


def test_where_all_labels_are_alike_there_is_nothing_to_tell_apart() -> None:
    scores = np.array([0.1, 0.9], dtype=np.float32)
    assert metrics.roc_auc(scores, np.ones(2, dtype=np.float32)) == 0.5
    assert metrics.roc_auc(scores, np.zeros(2, dtype=np.float32)) == 0.5
