"""Figures of merit, calibration and thresholds against values worked out by hand."""

import numpy as np
import numpy.typing as npt
import pytest

from ml import calibrate, crops, metrics
from ml.metrics import Floats


def floats(*rows: list[float]) -> Floats:
    return np.array(rows, dtype=np.float32)


HALF = np.array([0.5, 0.5], dtype=np.float32)
LABELS = floats([1, 0], [1, 1], [0, 1], [0, 0])
PROBABILITIES = floats([0.9, 0.6], [0.4, 0.8], [0.1, 0.7], [0.2, 0.3])


def test_f1_by_hand() -> None:
    # First topic: 1 of 1 assigned is right, 1 of 2 found. Second: 2 of 3 assigned right, 2 of 2 found.
    micro, macro = metrics.f1_scores(PROBABILITIES, LABELS, HALF)
    assert micro == pytest.approx(2 * 3 / (4 + 4))
    assert macro == pytest.approx((2 / 3 + 4 / 5) / 2)
    rows = metrics.precision_recall_f1(PROBABILITIES, LABELS, HALF)
    assert rows[0].tolist() == pytest.approx([1.0, 0.5, 2 / 3])
    assert rows[1].tolist() == pytest.approx([2 / 3, 1.0, 4 / 5])


def test_nothing_assigned_and_nothing_to_find_is_zero_and_no_warning() -> None:
    nothing = np.zeros((3, 2), dtype=np.float32)
    assert metrics.f1_scores(nothing, nothing, HALF) == (0.0, 0.0)
    assert metrics.precision_recall_f1(nothing, nothing, HALF).sum() == 0
    assert metrics.average_precision(nothing[:, 0], nothing[:, 0]) == 0
    assert metrics.first_choice_right(nothing, nothing) == 0


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    assert metrics.average_precision(scores, np.array([1, 0, 1, 0], dtype=np.float32)) == pytest.approx(
        0.5 * 1 + 0.5 * 2 / 3
    )
    # Equal scores are one step: whatever their order, half of what is found is right.
    tied = np.full(4, 0.5, dtype=np.float32)
    assert metrics.average_precision(tied, np.array([1, 0, 1, 0], dtype=np.float32)) == pytest.approx(0.5)


def test_first_choice_subset_and_brier_by_hand() -> None:
    # Posts with a topic: the first two and the third; the best topics are 0, 1, 1.
    assert metrics.first_choice_right(PROBABILITIES, LABELS) == 1.0
    assert metrics.first_choice_right(PROBABILITIES[:, ::-1], LABELS) == pytest.approx(1 / 3)
    assert metrics.subset_accuracy(PROBABILITIES, LABELS, HALF) == 0.5
    assert metrics.brier(floats([0.5, 1.0]), floats([1.0, 1.0])) == pytest.approx(0.125)


def test_off_topic_counts_posts_and_not_topics() -> None:
    assert metrics.off_topic_share(floats([0.9, 0.9], [0.1, 0.1], [0.1, 0.5], [0, 0]), HALF) == 0.5


def test_calibration_error_by_hand() -> None:
    probabilities = floats([0.1], [0.3], [0.7], [0.9])
    labels = floats([0], [1], [1], [1])
    # Two bins of two: means 0.2 against 0.5, and 0.8 against 1.
    assert metrics.calibration_error(probabilities, labels, bins=2) == pytest.approx((0.3 + 0.2) / 2)
    assert metrics.calibration_error(floats([0.25]), floats([1]), bins=15) == pytest.approx(0.75)


def test_sigmoid_holds_at_the_extremes() -> None:
    values = calibrate.sigmoid(np.array([-1e6, 0, 1e6], dtype=np.float32))
    assert values.tolist() == [0.0, 0.5, 1.0]


def test_platt_finds_the_parameters_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000).astype(np.float32)
    labels = (rng.random(20_000) < calibrate.sigmoid(0.5 * logits - 1)).astype(np.float32)
    slope, rivalry, intercept = calibrate.platt(logits, rng.normal(0, 1, 20_000).astype(np.float32), labels)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert rivalry == pytest.approx(0.0, abs=0.06)
    assert intercept == pytest.approx(-1.0, abs=0.06)


def test_a_slope_that_ran_away_leaves_the_share_of_the_topic_right() -> None:
    # Logits that differ by less than a float32 can tell say nothing of a topic but how common it is.
    logits = np.array([-3, -3.000001] * 50, dtype=np.float32)
    labels = np.array([1, 0] * 30 + [0] * 40, dtype=np.float32)
    slope, rivalry, intercept = calibrate.platt(logits, np.zeros_like(logits), labels)
    probabilities = calibrate.sigmoid(slope * logits + intercept)
    assert slope == calibrate.SLOPE_RANGE[1]
    assert rivalry == 0.0
    assert probabilities.mean() == pytest.approx(0.3, abs=0.02)


def test_rivals_are_the_other_topics_and_none() -> None:
    logits = np.array([[0, 1, 2], [-50, -50, 80]], dtype=np.float32)
    expected = [
        [np.log(1 + np.e + np.e**2), np.log(2 + np.e**2), np.log(2 + np.e)],
        [80.0, 80.0, 0.0],
    ]
    assert calibrate.rivals(logits) == pytest.approx(np.array(expected), abs=1e-5)


def test_what_speaks_for_another_topic_speaks_against_this_one_where_posts_have_one_topic() -> None:
    # Posts of one topic each, drawn by a softmax: independent sigmoids cannot say what the other topics take away.
    rng = np.random.default_rng(3)
    logits = rng.normal(-1, 2, (6000, 4)).astype(np.float32)
    chances = np.exp(np.concatenate([logits, np.zeros((6000, 1))], axis=1))
    chances /= chances.sum(axis=1, keepdims=True)
    drawn = (rng.random((6000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    labels = (drawn[:, None] == np.arange(4)).astype(np.float32)
    fitted = calibrate.fit(logits[:3000], labels[:3000])
    assert fitted.rivalry == pytest.approx(np.full(4, -1.0), abs=0.2)
    assert fitted.slope == pytest.approx(np.full(4, 1.0), abs=0.2)
    assert fitted.probabilities(logits[3000:]) == pytest.approx(chances[3000:, :4], abs=0.1)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_platt_leaves_a_topic_alone_that_teaches_nothing(label: float) -> None:
    logits = np.array([1, 2], dtype=np.float32)
    assert calibrate.platt(logits, logits, np.full(2, label, dtype=np.float32)) == (1.0, 0.0, 0.0)


def test_platt_stays_finite_where_labels_are_separable() -> None:
    logits = np.array([-30, -20, 20, 30], dtype=np.float32)
    slope, rivalry, intercept = calibrate.platt(logits, -logits, np.array([0, 0, 1, 1], dtype=np.float32))
    assert calibrate.SLOPE_RANGE[0] <= slope <= calibrate.SLOPE_RANGE[1]
    assert np.isfinite([rivalry, intercept]).all()


def test_the_best_threshold_by_hand() -> None:
    probabilities = np.array([0.9, 0.8, 0.4, 0.3, 0.1], dtype=np.float32)
    labels = np.array([1, 1, 1, 0, 0], dtype=np.float32)
    assert calibrate.best_threshold(probabilities, labels) == pytest.approx(0.35)
    # Equal probabilities cannot be parted: taking all three of 0.5 (F1 0.8) beats taking none of them.
    tied = np.array([0.5, 0.5, 0.5, 0.2], dtype=np.float32)
    assert calibrate.best_threshold(tied, np.array([1, 0, 1, 0], dtype=np.float32)) == pytest.approx(0.35)


def test_thresholds_without_a_positive_label_assign_nothing_likely() -> None:
    highest = calibrate.THRESHOLD_RANGE[1]
    assert calibrate.best_threshold(np.array([0.3, 0.6], dtype=np.float32), np.zeros(2, dtype=np.float32)) == highest


def test_thresholds_of_rare_topics_lean_on_the_common_one() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random((4000, 2)).astype(np.float32)
    labels = (probabilities > np.array([0.3, 0.6])).astype(np.float32)
    labels[20:, 1] = 0
    probabilities[20:, 1] *= 0.01
    common = calibrate.best_threshold(probabilities.ravel(), labels.ravel())
    first, second = calibrate.thresholds(probabilities, labels)
    assert first == pytest.approx(0.3, abs=0.02)
    own = calibrate.best_threshold(probabilities[:, 1], labels[:, 1])
    assert abs(second - common) < abs(own - common) / 5


def test_cross_fitting_measures_posts_that_did_not_choose_the_thresholds() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (60, 3)).astype(np.float32)
    labels = (rng.random((60, 3)) < 0.3).astype(np.float32)
    fitted = calibrate.fit(logits, labels)
    flattering = metrics.summary(fitted.probabilities(logits), labels, fitted.threshold)
    honest = calibrate.cross_fit(logits, labels, metrics.summary, repeats=20, seed=0)
    # The logits know nothing of the labels, so whatever the same posts seem to gain is luck.
    assert honest["micro_f1"][0] < flattering["micro_f1"]
    assert honest["micro_f1"][1] > 0
    assert honest == calibrate.cross_fit(logits, labels, metrics.summary, repeats=20, seed=0)


def _posts_and_crops(rounds: int) -> tuple[calibrate.Floats, calibrate.Floats, calibrate.Floats]:
    """Logits of posts, labels drawn by them, and logits of crops, which speak for a topic more weakly."""
    rng = np.random.default_rng(4)
    logits = rng.normal(-1, 2, (2000, 3)).astype(np.float32)
    labels = (rng.random(logits.shape) < calibrate.sigmoid(logits)).astype(np.float32)
    noise = rng.normal(0, 1, (rounds, *logits.shape)).astype(np.float32)
    return logits, labels, (logits / 2 - 1.5 + noise).astype(np.float32)


def test_calibration_learns_from_crops_as_much_as_from_posts() -> None:
    logits, labels, pieces = _posts_and_crops(2)
    alone, both = calibrate.fit(logits, labels), calibrate.fit(logits, labels, pieces)

    def too_low(one: calibrate.Calibration) -> npt.NDArray[np.float64]:
        return np.asarray(labels.mean(axis=0) - one.probabilities(pieces[0]).mean(axis=0), dtype=np.float64)

    assert (too_low(alone) > 0.1).all()
    assert (too_low(both) < too_low(alone) * 0.7).all()
    # As many rounds of the posts stand beside those of the crops: together they have the right mean.
    everything = np.concatenate([logits, logits, *pieces])
    assert both.probabilities(everything).mean(axis=0) == pytest.approx(labels.mean(axis=0), abs=0.005)
    assert calibrate.fit(logits, labels, pieces[:0]).slope.tolist() == alone.slope.tolist()


def test_crops_are_measured_by_what_was_fitted_to_other_posts() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (60, 3)).astype(np.float32)
    labels = (rng.random((60, 3)) < 0.3).astype(np.float32)
    pieces = rng.normal(0, 1, (2, 60, 3)).astype(np.float32)
    fitted = calibrate.fit(logits, labels, pieces)
    flattering = metrics.summary(fitted.probabilities(pieces.reshape(-1, 3)), np.tile(labels, (2, 1)), fitted.threshold)
    honest = calibrate.cross_fit(logits, labels, metrics.summary, 20, seed=0, pieces=pieces, asked=pieces)
    assert honest["micro_f1"][0] < flattering["micro_f1"]

    # Each crop is measured with the labels of its own post: here all of them say what these are.
    telling = np.stack([labels * 8 - 4, labels * 6 - 3])
    told = calibrate.cross_fit(telling[0], labels, metrics.summary, 3, seed=0, pieces=telling, asked=telling)
    assert told["micro_f1"] == (1.0, 0.0)


def test_pieces_come_in_rounds_over_all_texts() -> None:
    texts = [" ".join(f"{text}-{word}" for word in range(100)) for text in "абв"]
    found = crops.pieces([*texts, "два слова"], seed=3)
    assert len(found) == crops.PIECES * 4
    for number, piece in enumerate(found):
        if number % 4 == 3:
            assert piece == "два слова"
        else:
            assert piece in texts[number % 4]
            assert crops.SHORTEST <= len(piece.split()) <= crops.LONGEST
    assert len(set(found)) == crops.PIECES * 3 + 1
    assert found == crops.pieces([*texts, "два слова"], seed=3)
