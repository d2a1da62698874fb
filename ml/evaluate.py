"""Measure a model folder on labelled posts, with the network that serves it, and say what the figures are worth.

Posts that a model was trained on measure its memory. A model folder records which posts its training held back, and
these are what is measured as long as the data is the same. Thresholds and calibration were chosen on them too, so the
figures at the shipped thresholds flatter; those by cross-fitting do not.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml import artifact, calibrate, data, metrics
from ml.classifier import Classifier
from ml.crops import crop
from ml.errors import DataError
from ml.posts import Post, compose

Floats = npt.NDArray[np.float32]

SPLITS = ("auto", "validation", "all")
CROSS_FIT_REPEATS = 20
CROP_SEED = 1


@dataclass(frozen=True)
class Held:
    """What a model folder records of its validation posts: keys by `data.text_key`."""

    data_digest: str
    posts: frozenset[str]
    none: frozenset[str]


@dataclass(frozen=True)
class TopicReport:
    """Figures of one topic at its shipped threshold."""

    id: str
    posts: int
    precision: float
    recall: float
    f1: float
    average_precision: float


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        posts: number of posts.
        split: `validation` or `all`.
        backend: what ran the network.
        figures: at the shipped thresholds, by name.
        topics: the same per topic.
        cross_fitted: for each figure mean and standard deviation over random halvings, with calibration and
            thresholds from the other half; None outside validation.
        crops: figures of one crop of 2 to 30 words of each post.
        off_topic_posts, off_topic_share: number of counter-examples, and the share of them that get a topic.
        warnings: what a reader of these figures must know.
    """

    posts: int
    split: str
    backend: str
    figures: dict[str, float]
    topics: tuple[TopicReport, ...]
    cross_fitted: dict[str, tuple[float, float]] | None
    crops: dict[str, float]
    off_topic_posts: int
    off_topic_share: float | None
    warnings: tuple[str, ...]


def evaluate(
    classifier: Classifier,
    folder: Path,
    data_folder: Path,
    *,
    split: str = "auto",
    none_file: Path | None = None,
    none_categories: Sequence[str] = (),
) -> Report:
    """Measure `classifier`, loaded from the model folder `folder`, on the CSV files of `data_folder`.

    Raises:
        DataError: the data is missing or malformed, has other topics, or none of the recorded validation posts.
    """
    posts = _with_topics_of(classifier, data.read_folder(data_folder), data_folder)
    held = read_held(folder)
    posts, split, warnings = _choose(posts, held, split, data_folder)
    thresholds = np.array([topic.threshold for topic in classifier.info.topics], dtype=np.float32)
    probabilities = _probabilities(classifier, posts.posts)
    rng = np.random.default_rng(CROP_SEED)
    crops = _probabilities(classifier, [Post(doc_text=crop(compose(post), rng)) for post in posts.posts])
    off_topic = _counter_examples(held, none_file, none_categories, split, warnings)
    return Report(
        posts=len(posts.posts),
        split=split,
        backend=classifier.backend,
        figures=metrics.summary(probabilities, posts.labels, thresholds),
        topics=_per_topic(posts, probabilities, thresholds),
        cross_fitted=_cross_fitted(probabilities, posts.labels) if split == "validation" else None,
        crops=metrics.summary(crops, posts.labels, thresholds),
        off_topic_posts=len(off_topic),
        off_topic_share=metrics.off_topic_share(_probabilities(classifier, off_topic), thresholds)
        if off_topic
        else None,
        warnings=tuple(warnings),
    )


def read_held(folder: Path) -> Held | None:
    """Return what the model folder records of its validation posts; None where it records nothing."""
    file = folder / artifact.VALIDATION
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return Held(str(content["data_digest"]), frozenset(content["posts"].split()), frozenset(content["none"].split()))


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


def _with_topics_of(classifier: Classifier, posts: data.Dataset, folder: Path) -> data.Dataset:
    wanted = [topic.id for topic in classifier.info.topics]
    found = [topic.id for topic in posts.topics]
    if sorted(wanted) != sorted(found):
        raise DataError(f"The model knows the topics {', '.join(wanted)}; {folder} has {', '.join(found)}.")
    columns = [found.index(topic) for topic in wanted]
    topics = tuple(posts.topics[column] for column in columns)
    return data.Dataset(topics, posts.posts, np.ascontiguousarray(posts.labels[:, columns]), posts.groups)


def _choose(posts: data.Dataset, held: Held | None, split: str, folder: Path) -> tuple[data.Dataset, str, list[str]]:
    if split not in SPLITS:
        raise DataError(f"The split {split!r} is not known: it must be one of {', '.join(SPLITS)}.")
    same = held is not None and held.data_digest == posts.digest()
    if split == "validation" or (split == "auto" and same):
        keys = held.posts if held else frozenset()
        rows = [row for row, post in enumerate(posts.posts) if data.text_key(post) in keys]
        if not rows:
            raise DataError(f"{folder} has none of the posts that this model's training held back: use --split all.")
        return posts.take(rows), "validation", []
    if same:
        return (
            posts,
            "all",
            ["Most of these posts were trained on: the figures measure memory. Use --split validation."],
        )
    return (
        posts,
        "all",
        [
            "This is not the data that the model records as its own. Whether it was trained on any of these posts "
            "is not known; if it was, the figures measure memory."
        ],
    )


def _counter_examples(
    held: Held | None, file: Path | None, categories: Sequence[str], split: str, warnings: list[str]
) -> tuple[Post, ...]:
    if file is None:
        return ()
    found = data.read_none(file, categories)
    unseen = tuple(post for post in found if held and data.text_key(post) in held.none)
    if unseen and split == "validation":
        return unseen
    if unseen:
        warnings.append("Some of the counter-examples were trained on.")
    return found


def _per_topic(posts: data.Dataset, probabilities: Floats, thresholds: Floats) -> tuple[TopicReport, ...]:
    rows = metrics.precision_recall_f1(probabilities, posts.labels, thresholds)
    return tuple(
        TopicReport(
            id=topic.id,
            posts=int(posts.labels[:, column].sum()),
            precision=float(rows[column, 0]),
            recall=float(rows[column, 1]),
            f1=float(rows[column, 2]),
            average_precision=metrics.average_precision(probabilities[:, column], posts.labels[:, column]),
        )
        for column, topic in enumerate(posts.topics)
    )


def _cross_fitted(probabilities: Floats, labels: Floats) -> dict[str, tuple[float, float]]:
    # Shipped calibration is affine in the logits, so fitting anew on its own logits forgets what it learnt from them.
    safe = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(safe / (1 - safe)).astype(np.float32)
    return calibrate.cross_fit(logits, labels, metrics.summary, CROSS_FIT_REPEATS, seed=CROP_SEED)


def _probabilities(classifier: Classifier, posts: Sequence[Post]) -> Floats:
    predictions = classifier.predict(posts)
    if predictions.failures:
        row, reason = next(iter(predictions.failures.items()))
        raise DataError(f"{len(predictions.failures)} posts failed, the first of them at {row}: {reason}")
    return predictions.probabilities
