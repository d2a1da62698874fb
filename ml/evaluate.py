"""Measure a model folder on labelled posts, with the network that serves it, and say what the figures are worth.

What is measured are the posts that its training held back (`ml.held`), where the data has them. Thresholds and
calibration were chosen on them too, so the figures at the shipped thresholds flatter; those by cross-fitting do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import calibrate, data, held, metrics, reliable
from ml.classifier import Classifier, Predictions
from ml.counter_examples import CounterExamples
from ml.crops import PIECES, pieces
from ml.errors import DataError
from ml.posts import Post, compose

Floats = npt.NDArray[np.float32]

CROSS_FIT_REPEATS = 20
CROP_SEED = 1
DOUBTFUL = 50
CURVE_POINTS = 200

LONGEST = (10, 30, 100, 300)
LENGTHS = (*(f"to {one} words" for one in LONGEST), "longer")
"""Names of the lengths that a report tells apart."""


@dataclass(frozen=True)
class TopicReport:
    """Figures of one topic at its shipped threshold, and its curves over all thresholds.

    Attributes:
        reliability: bins of equally many posts, from the least probable on.
        precision_recall: points (recall, precision).
        roc: points (share of posts without the topic that get it, share of those with it).
    """

    id: str
    posts: int
    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float
    roc_auc: float
    calibration_error: float
    reliability: tuple[metrics.Bin, ...]
    precision_recall: tuple[tuple[float, float], ...]
    roc: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Slice:
    """Figures of those posts that have something in common."""

    name: str
    posts: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Doubt:
    """A post whose labels the model believes least.

    Attributes:
        likelihood: the probability that the model gives to these labels and no others, topics taken as independent.
        probabilities: by topic.
    """

    text: str
    labels: tuple[str, ...]
    assigned: tuple[str, ...]
    likelihood: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        posts: number of posts.
        split: `validation` or `all`.
        backend: what ran the network.
        figures: at the shipped thresholds, by name.
        intervals: for each figure the range in which 95 of 100 samples of as many posts have it (bootstrap).
        topics: the same per topic.
        cross_fitted: for each figure mean and standard deviation over random halvings, with calibration and
            thresholds from the other half; None outside validation.
        reliability: as a card has it, by the same halvings; None outside validation.
        crops: figures of `crops.PIECES` crops of 2 to 30 words of each post, at the shipped thresholds.
        by_length, by_field: figures of posts of so many words, and of posts with just these fields.
        confusion: a row for each topic: of the posts labelled with it, the shares that get each topic, and none.
        doubtful: the posts whose labels the model believes least.
        off_topic_posts, off_topic_share: number of counter-examples, and the share of them that get a topic.
        off_topic_topics: the share of them that gets each topic.
        warnings: what a reader of these figures must know.
    """

    posts: int
    split: str
    backend: str
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    topics: tuple[TopicReport, ...]
    cross_fitted: dict[str, tuple[float, float]] | None
    reliability: dict[str, Any] | None
    crops: dict[str, float]
    by_length: tuple[Slice, ...]
    by_field: tuple[Slice, ...]
    confusion: tuple[tuple[float, ...], ...]
    doubtful: tuple[Doubt, ...]
    off_topic_posts: int
    off_topic_share: float | None
    off_topic_topics: dict[str, float]
    warnings: tuple[str, ...]


def evaluate(
    classifier: Classifier,
    folder: Path,
    data_folder: Path,
    *,
    split: str = "auto",
    none: CounterExamples | None = None,
) -> Report:
    """Measure `classifier`, loaded from the model folder `folder`, on the CSV files of `data_folder`.

    Raises:
        DataError: the data is missing or malformed, has other topics, or none of the recorded validation posts.
    """
    chosen = held.choose(classifier, folder, data_folder, split)
    posts = chosen.posts
    thresholds = np.array([topic.threshold for topic in classifier.info.topics], dtype=np.float32)
    answers = predictions(classifier, posts.posts)
    probabilities = answers.probabilities
    crops = of_pieces(classifier, posts.posts)
    off_topic = held.counter_examples(chosen, none)
    strayed = np.zeros((0, len(thresholds)), dtype=np.float32)
    if off_topic:
        strayed = predictions(classifier, off_topic).probabilities
    labels = posts.labels
    return Report(
        posts=len(posts.posts),
        split=chosen.split,
        backend=classifier.backend,
        figures=metrics.full_summary(probabilities, labels, thresholds),
        intervals=metrics.bootstrap(probabilities, labels, thresholds, posts.groups, metrics.full_summary),
        topics=_per_topic(posts, probabilities, thresholds),
        cross_fitted=_cross_fitted(answers, crops, labels) if chosen.split == "validation" else None,
        reliability=_reliability(answers, crops, posts) if chosen.split == "validation" else None,
        crops=metrics.full_summary(crops.probabilities, np.tile(labels, (PIECES, 1)), thresholds),
        by_length=_slices([_length(post) for post in posts.posts], probabilities, labels, thresholds, LENGTHS),
        by_field=_slices([_fields(post) for post in posts.posts], probabilities, labels, thresholds),
        confusion=tuple(map(tuple, metrics.assigned_where_labelled(probabilities, labels, thresholds).tolist())),
        doubtful=_doubtful(posts, probabilities, thresholds),
        off_topic_posts=len(off_topic),
        off_topic_share=metrics.off_topic_share(strayed, thresholds) if off_topic else None,
        off_topic_topics={
            topic.id: float((strayed[:, column] >= thresholds[column]).mean()) if off_topic else 0.0
            for column, topic in enumerate(classifier.info.topics)
        },
        warnings=tuple(chosen.warnings),
    )


def table(report: Report) -> str:
    """Return the report as text for a terminal."""
    lines = [f"{report.posts} posts ({report.split}), {report.backend}"]
    lines += [f"! {warning}" for warning in report.warnings]
    lines += ["", f"{'':24}{'shipped':>10}{'crops':>10}" + ("      cross-fitted" if report.cross_fitted else "")]
    for name, value in report.figures.items():
        line = f"{name.replace('_', ' '):24}{value:10.3f}{report.crops[name]:10.3f}"
        if report.cross_fitted:
            mean, spread = report.cross_fitted[name]
            line += f"{mean:10.3f} ± {spread:.3f}"
        lines.append(line)
    lines += ["", f"{'topic':16}{'posts':>8}{'precision':>11}{'recall':>9}{'F1':>8}{'AP':>8}"]
    lines += [
        f"{one.id:16}{one.posts:8}{one.precision:11.3f}{one.recall:9.3f}{one.f1:8.3f}{one.average_precision:8.3f}"
        for one in report.topics
    ]
    if report.off_topic_share is not None:
        lines += ["", f"{report.off_topic_posts} texts on none of the topics: {report.off_topic_share:.1%} get one"]
    return "\n".join(lines)


def _per_topic(posts: data.Dataset, probabilities: Floats, thresholds: Floats) -> tuple[TopicReport, ...]:
    rows = metrics.precision_recall_f1(probabilities, posts.labels, thresholds)
    return tuple(
        TopicReport(
            id=topic.id,
            posts=int(posts.labels[:, column].sum()),
            precision=float(rows[column, 0]),
            recall=float(rows[column, 1]),
            f1=float(rows[column, 2]),
            threshold=float(thresholds[column]),
            average_precision=metrics.average_precision(probabilities[:, column], posts.labels[:, column]),
            roc_auc=metrics.roc_auc(probabilities[:, column], posts.labels[:, column]),
            calibration_error=metrics.topic_error(probabilities[:, column], posts.labels[:, column]),
            reliability=tuple(metrics.reliability(probabilities[:, column], posts.labels[:, column])),
            precision_recall=_points(
                *reversed(metrics.precision_recall_curve(probabilities[:, column], posts.labels[:, column]))
            ),
            roc=_points(*metrics.roc_curve(probabilities[:, column], posts.labels[:, column])),
        )
        for column, topic in enumerate(posts.topics)
    )


def _points(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Return at most `CURVE_POINTS` points of a curve, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).astype(np.int64))
    return tuple(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def _length(post: Post) -> str:
    words = sum(len(text.split()) for text in (post.doc_text, post.image2text, post.speech2text))
    return LENGTHS[sum(words > longest for longest in LONGEST)]


def _fields(post: Post) -> str:
    return " + ".join(name for name in ("doc_text", "image2text", "speech2text") if getattr(post, name).strip())


def _slices(
    names: Sequence[str], probabilities: Floats, labels: Floats, thresholds: Floats, order: Sequence[str] = ()
) -> tuple[Slice, ...]:
    kind = np.array(names)
    return tuple(
        Slice(name, int(rows.sum()), metrics.full_summary(probabilities[rows], labels[rows], thresholds))
        for name in order or sorted(set(names))
        if (rows := kind == name).any()
    )


def _doubtful(posts: data.Dataset, probabilities: Floats, thresholds: Floats) -> tuple[Doubt, ...]:
    ids = [topic.id for topic in posts.topics]
    safe = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    likelihood = np.where(posts.labels > 0.5, safe, 1 - safe).prod(axis=1)
    return tuple(
        Doubt(
            text=compose(posts.posts[row]),
            labels=tuple(ids[column] for column in np.flatnonzero(posts.labels[row] > 0.5)),
            assigned=tuple(ids[column] for column in np.flatnonzero(probabilities[row] >= thresholds)),
            likelihood=float(likelihood[row]),
            probabilities=dict(zip(ids, probabilities[row].tolist(), strict=True)),
        )
        for row in np.argsort(likelihood, kind="stable")[:DOUBTFUL]
    )


def _cross_fitted(answers: Predictions, crops: Predictions, labels: Floats) -> dict[str, tuple[float, float]]:
    # What the network says before calibration knows nothing of these posts.
    pieces = crops.logits.reshape(PIECES, *labels.shape)
    return calibrate.cross_fit(answers.logits, labels, metrics.full_summary, CROSS_FIT_REPEATS, CROP_SEED, pieces)


def _reliability(answers: Predictions, crops: Predictions, posts: data.Dataset) -> dict[str, Any]:
    pieces = crops.logits.reshape(PIECES, *posts.labels.shape)
    topics = [topic.id for topic in posts.topics]
    return reliable.cross_fitted(answers.logits, posts.labels, pieces, topics, CROSS_FIT_REPEATS, CROP_SEED)


def predictions(classifier: Classifier, posts: Sequence[Post]) -> Predictions:
    """Return what the model says of `posts`.

    Raises:
        DataError: it fails on one of them.
    """
    found = classifier.predict(posts)
    if found.failures:
        row, reason = next(iter(found.failures.items()))
        raise DataError(f"{len(found.failures)} posts failed, the first of them at {row}: {reason}")
    return found


def of_pieces(classifier: Classifier, posts: Sequence[Post]) -> Predictions:
    """Return what the model says of crops of `posts`, as `crops.pieces` makes them of their texts.

    Raises:
        DataError: as `predictions`.
    """
    return predictions(classifier, [Post(doc_text=one) for one in pieces([compose(post) for post in posts], CROP_SEED)])
