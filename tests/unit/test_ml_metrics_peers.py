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


@pytest.mark.parametrize(("seed", "posts", "digits"), CASES)
def test_the_roc_curve_is_that_of_scikit_learn_and_encloses_its_area(seed: int, posts: int, digits: int) -> None:
    probabilities, labels, _ = made(seed, posts, digits)
    for topic in range(labels.shape[1]):
        false, true = metrics.roc_curve(probabilities[:, topic], labels[:, topic])
        expected = peers.roc_curve(labels[:, topic], probabilities[:, topic], drop_intermediate=False)
        assert false == pytest.approx(expected[0])
        assert true == pytest.approx(expected[1])
        assert np.trapezoid(true, false) == pytest.approx(metrics.roc_auc(probabilities[:, topic], labels[:, topic]))


def test_confusion_counts_each_label_of_a_post_and_posts_without_a_topic() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], dtype=np.float32)
    probabilities = np.array([[0.9, 0.9], [0.1, 0.8], [0.2, 0.3], [0.9, 0.9]], dtype=np.float32)
    found = metrics.assigned_where_labelled(probabilities, labels, np.array([0.5, 0.5], dtype=np.float32))
    assert found == pytest.approx(np.array([[1 / 3, 2 / 3, 1 / 3], [0, 1, 0]]))


def test_the_bootstrap_covers_the_mean_and_draws_groups_whole() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 1)) < 0.3).astype(np.float32)

    def share(_: Floats, drawn: Floats, __: Floats) -> dict[str, float]:
        return {"share": float(drawn.mean())}

    alone = metrics.bootstrap(labels, labels, labels[0], [str(row) for row in range(400)], share)["share"]
    # The standard error of a share is sqrt(p (1 - p) / n); the range is 2 x 1.96 of it wide.
    width = 2 * 1.96 * np.sqrt(labels.mean() * (1 - labels.mean()) / 400)
    assert alone[1] - alone[0] == pytest.approx(width, rel=0.25)
    assert alone[0] < labels.mean() < alone[1]
    four = np.repeat(labels[:100], 4, axis=0)
    copies = metrics.bootstrap(four, four, four[0], [str(row // 4) for row in range(400)], share)["share"]
    assert copies[1] - copies[0] > 1.6 * (alone[1] - alone[0])
