"""Write a trained network down: the model folder with its card, for programs and for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml import artifact, weights
from ml.calibrate import Calibration
from ml.cleaning import Cleaning
from ml.data import TopicName

if TYPE_CHECKING:
    from ml.network import TopicNetwork
    from ml.train import TrainOptions

LIMITS = (
    "Made for Russian social-media posts; other languages and other kinds of text were not measured.",
    "The labels of the training posts come from where a post was found and are noisy, and so are the figures.",
    "Posts carry traces of their source (channel names, links), on which the model may lean more than it should.",
    "Text beyond the longest input is not read; such results are marked as truncated.",
    "A probability speaks of posts like the training posts: where topics are rarer or commoner, it is off.",
    "Not for decisions about people.",
)


@dataclass(frozen=True)
class Figures:
    """What was measured on the validation posts.

    Attributes:
        honest: figures by cross-fitting inside validation, mean and standard deviation over random halvings.
        per_topic: float64 (topics, 3), precision, recall, F1 at the shipped thresholds, which these posts chose.
        reliability: as `reliable.cross_fitted` gives it.
        crops: figures of one crop of 2 to 30 words of each validation post, at the shipped thresholds.
        off_topic: share of held-out counter-examples that get any topic; None without counter-examples.
        minutes: what the whole run took.
    """

    honest: dict[str, tuple[float, float]]
    per_topic: npt.NDArray[np.float64]
    reliability: dict[str, Any]
    crops: dict[str, float]
    off_topic: float | None
    minutes: float


@dataclass(frozen=True)
class Run:
    """A finished training run, besides the weights."""

    options: "TrainOptions"
    max_tokens: int
    topics: tuple[TopicName, ...]
    calibration: Calibration
    data_digest: str
    learn: int
    none_learn: int
    validation: tuple[str, ...]
    none_validation: tuple[str, ...]
    figures: Figures


def write_model(out: Path, net: "TopicNetwork", tokenizer: str, run: Run) -> None:
    """Write the model folder `out` in one step: it is there whole, or as it was before.

    Raises:
        ModelError: `out` is something other than a model folder.
    """
    # Of whole numbers a network has those of its linear part and such as transformers makes anew.
    values = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in net.state_dict().items()
        if tensor.is_floating_point() or name.startswith("ngrams.")
    }
    config = json.loads(net.encoder.config.to_json_string(use_diff=False))
    # A folder or cache path of the machine that trained says nothing to anybody else.
    config.pop("_name_or_path", None)
    with artifact.replacing(out) as draft:
        weights.write(draft / artifact.WEIGHTS, values)
        artifact.write_json(draft / artifact.CONFIG, config)
        (draft / artifact.TOKENIZER).write_text(tokenizer, encoding="utf-8")
        artifact.write_json(draft / artifact.SETTINGS, settings(run))
        artifact.write_json(draft / artifact.VALIDATION, validation(run))
        content = card(run)
        artifact.write_json(draft / artifact.CARD, content)
        (draft / "README.md").write_text(readme(run, content), encoding="utf-8")


def settings(run: Run) -> dict[str, Any]:
    """Return the content of `rubrika.json`."""
    calibration = run.calibration
    topics = [
        {
            "id": topic.id,
            "name": topic.name,
            "name_en": topic.name_en,
            "threshold": round(float(threshold), 6),
            "calibration": {"slope": round(float(slope), 6), "intercept": round(float(intercept), 6)},
        }
        for topic, threshold, slope, intercept in zip(
            run.topics, calibration.threshold, calibration.slope, calibration.intercept, strict=True
        )
    ]
    return {
        "format": artifact.FORMAT,
        "name": run.options.name,
        "version": run.options.version,
        "topics": topics,
        "pooling": run.options.pooling,
        "max_tokens": run.max_tokens,
        "prefix": run.options.prefix,
        "cleaning": list(Cleaning.parse(run.options.clean).names),
        "fields": run.options.fields,
    }


def validation(run: Run) -> dict[str, Any]:
    """Return the content of `validation.json`: which posts training did not see, by `data.text_key`."""
    return {"data_digest": run.data_digest, "posts": " ".join(run.validation), "none": " ".join(run.none_validation)}


def card(run: Run) -> dict[str, Any]:
    """Return the content of `card.json`."""
    options = asdict(run.options)
    # Folders and machines are not part of what a model is; the base is named as the world knows it.
    base, base_name = options.pop("base"), options.pop("base_name")
    base_name = base_name or (Path(base).resolve().name if Path(base).is_dir() else base)
    for machine in ("device", "threads", "name", "version"):
        options.pop(machine)
    figures = run.figures
    return {
        "base": base_name,
        "base_licence": options.pop("base_licence") or "not stated",
        "licence": "as the base's; no licence is stated for the training posts",
        "language": "ru",
        "data": {
            "digest": run.data_digest,
            "learned_from": run.learn,
            "counter_examples": run.none_learn,
            "validation": len(run.validation),
        },
        "training": options,
        "minutes": round(figures.minutes, 1),
        "seeds_run": 1,
        "validation": {
            "method": "cross-fitted: calibration and thresholds from one random half of the validation posts, figures "
            "from the other, both ways, repeated; mean and standard deviation over the repetitions",
            "figures": {name: {"mean": round(m, 4), "spread": round(s, 4)} for name, (m, s) in figures.honest.items()},
        },
        "per_topic": {
            "method": "at the shipped thresholds, which were chosen on these same posts: flattering",
            **{
                topic.id: dict(zip(("precision", "recall", "f1"), (round(float(v), 4) for v in row), strict=True))
                for topic, row in zip(run.topics, figures.per_topic, strict=True)
            },
        },
        "reliability": figures.reliability,
        "crops_of_2_to_30_words": {name: round(value, 4) for name, value in figures.crops.items()},
        "off_topic": {
            "held_out": len(run.none_validation),
            "share_with_a_topic": None if figures.off_topic is None else round(figures.off_topic, 4),
        },
        "calibration": "Platt scaling per topic, fitted on the validation posts",
        "thresholds": "per topic, the best F1 on the validation posts, drawn towards the best common threshold",
        "limits": list(LIMITS),
    }


def readme(run: Run, content: dict[str, Any]) -> str:
    """Return the model card for people, in Markdown."""
    honest = run.figures.honest
    rows = "\n".join(f"| {name.replace('_', ' ')} | {mean:.3f} | {std:.3f} |" for name, (mean, std) in honest.items())
    topics = "\n".join(
        f"| `{topic.id}` | {topic.name} / {topic.name_en} | {threshold:.3f} | "
        + " | ".join(f"{value:.3f}" for value in row)
        + " |"
        for topic, threshold, row in zip(run.topics, run.calibration.threshold, run.figures.per_topic, strict=True)
    )
    crops = run.figures.crops
    off = run.figures.off_topic
    off_topic = (
        "It was trained without counter-examples."
        if off is None
        else f"Of {len(run.none_validation)} held-out texts that belong to none of the topics, {off:.1%} get one."
    )
    limits = "\n".join(f"- {limit}" for limit in LIMITS)
    made = "\n".join(f"- {line}" for line in _how_it_was_made(run))
    return f"""# {run.options.name} {run.options.version}

Topics of Russian social-media posts: for each topic the probability that a post belongs to it. A post may have several
topics or none. Base: `{content["base"]}` ({content["base_licence"]}), fine-tuned with one sigmoid output per topic.

## How it was made
{made}

## What it reaches
On the validation posts, with calibration and thresholds taken from other validation posts (cross-fitting; the spread
is the standard deviation over random halvings, not over seeds or splits):

| figure | mean | spread |
|---|---|---|
{rows}

At the shipped thresholds, which these same posts chose (so it flatters):

| topic | name | threshold | precision | recall | F1 |
|---|---|---|---|---|---|
{topics}

Crops of 2 to 30 words of the validation posts, at the shipped thresholds: micro-F1 {crops["micro_f1"]:.3f}, macro-F1
{crops["macro_f1"]:.3f}. {off_topic}

## Limits
{limits}
"""


def _how_it_was_made(run: Run) -> list[str]:
    options = run.options
    return [
        f"{run.learn} distinct posts to learn from, {len(run.validation)} for validation, split by near-equal text; "
        f"{run.none_learn} counter-examples. The SHA-256 of the posts is in `card.json`.",
        f"Targets: {1 - options.teacher_weight:.1f} x label + {options.teacher_weight:.1f} x out-of-fold probability "
        f"by {', '.join(options.teacher_names) or 'nobody'}.",
        f"{options.epochs} epochs, at most {run.max_tokens} tokens, batch {options.batch}, "
        f"learning rate {options.lr:g}, seed {options.seed}; {options.crop_share:g} crops of 2 to 30 "
        f"words of each text in an epoch; a layer learns {options.layer_decay:g} times as fast as the one above.",
        f"The logits are {1 - options.ngram_share:g} x the network's + {options.ngram_share:g} x those of logistic "
        "regression on n-grams of one to three tokens, in the same graph.",
        f"{run.figures.minutes:.0f} minutes. One seed was run: how much another would differ was not measured.",
    ]
