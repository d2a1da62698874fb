"""Calibrate a model folder anew, and choose its thresholds anew, without training: on posts that it has not learnt.

A probability speaks of posts like those that it was calibrated on. Where topics are rarer or commoner, or labels are
meant otherwise, some hundreds of labelled posts of one's own put that right, in a minute and without torch.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from ml import artifact, calibrate, card, compare_report, evaluate, held, metrics, ranging, reliable
from ml.classifier import Classifier
from ml.counter_examples import CounterExamples
from ml.errors import DataError

LEAST_POSTS = 10
"""Fewer posts with a topic, or without it, tell nothing of the topic's threshold."""

Figures = dict[str, tuple[float, float]]


def recalibrate(
    classifier: Classifier,
    folder: Path,
    data_folder: Path,
    out: Path,
    version: str,
    *,
    split: str = "auto",
    none: CounterExamples | None = None,
    threads: int = 0,
) -> tuple[Figures, list[str]]:
    """Write the model folder `out`: that of `classifier` with another calibration, other thresholds and figures.

    Args:
        classifier: loaded from `folder`.
        folder: the model folder.
        data_folder: a folder of CSV files, one per topic; where it is the data of the training, the posts that the
            training held back are taken.
        out: the model folder to write; it may be `folder` itself.
        version: of the new model.
        split: as for `ml.evaluate.evaluate`.
        none: counter-examples to measure with.
        threads: cores to use; 0: all.

    Returns:
        Cross-fitted figures, each with mean and standard deviation over random halvings, and warnings.

    Raises:
        DataError: as `ml.evaluate.evaluate`; also if a topic has too few posts.
        ModelError: `out` is something other than a model folder.
    """
    artifact.check_replaceable(out)
    chosen = held.choose(classifier, folder, data_folder, split)
    posts, labels = chosen.posts, chosen.posts.labels
    fewest = min(labels.sum(axis=0).min(), (1 - labels).sum(axis=0).min())
    if fewest < LEAST_POSTS:
        raise DataError(f"{data_folder} has a topic with fewer than {LEAST_POSTS} posts, or hardly a post without it.")
    logits = evaluate.predictions(classifier, posts.posts).logits
    pieces = evaluate.of_pieces(classifier, posts.posts).logits.reshape(-1, *logits.shape)
    calibration = calibrate.fit(logits, labels, pieces)
    halvings = (evaluate.CROSS_FIT_REPEATS, evaluate.CROP_SEED)
    off_topic = held.counter_examples(chosen, none)
    content = json.loads((folder / artifact.CARD).read_text(encoding="utf-8"))
    figures = card.Figures(
        honest=calibrate.cross_fit(logits, labels, metrics.summary, *halvings, pieces),
        per_topic=metrics.precision_recall_f1(calibration.probabilities(logits), labels, calibration.threshold),
        crops=card.of_crops(logits, labels, pieces, *halvings),
        off_topic=metrics.off_topic_share(
            calibration.probabilities(evaluate.predictions(classifier, off_topic).logits), calibration.threshold
        )
        if off_topic
        else None,
        minutes=float(content["minutes"]),
        reliability=reliable.cross_fitted(logits, labels, pieces, [topic.id for topic in posts.topics], *halvings),
    )
    settings = json.loads((folder / artifact.SETTINGS).read_text(encoding="utf-8"))
    settings |= {"format": artifact.FORMAT, "version": version}
    for topic, numbers in zip(settings["topics"], card.calibrated(calibration), strict=True):
        topic |= numbers
    content |= card.measured(figures, [topic["id"] for topic in settings["topics"]], len(off_topic))
    content["calibrated_again"] = {
        "posts": len(posts.posts),
        "digest": posts.digest(),
        "held_back": chosen.split == "validation",
    }
    rewrite(folder, out, settings, content)
    # The network stays within the same ranges; whether that changes an assignment depends on the thresholds.
    ranging.renew_agreement(out, posts, threads)
    return figures.honest, chosen.warnings


def rewrite(folder: Path, out: Path, settings: dict[str, Any], content: dict[str, Any]) -> None:
    """Write the model folder `out`: that of `folder`, described by other contents of `rubrika.json` and `card.json`.

    Raises:
        ModelError: `out` is something other than a model folder, or cannot be written.
    """
    with artifact.replacing(out) as draft:
        for file in folder.iterdir():
            if file.is_file() and file.name != artifact.MANIFEST:
                shutil.copy(file, draft / file.name)
        former = draft / artifact.README
        told = former.read_text(encoding="utf-8") if former.exists() else ""
        card.write_description(draft, settings, content)
        written = former.read_text(encoding="utf-8")
        former.write_text(compare_report.with_section_of(written, told), encoding="utf-8")
