"""Write a trained network down: the model folder with its card, for programs and for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml import artifact, calibrate, metrics, weights
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
    "A text on none of the topics gets one at times, above all in other languages and of kinds that it has not learnt.",
    "Text beyond the longest input is not read; such results are marked as truncated.",
    "A probability speaks of posts like the training posts: where topics are rarer or commoner, it is off.",
    "Not for decisions about people.",
)

CROSS_FITTED = (
    "cross-fitted: calibration and thresholds from one random half of the validation posts, figures "
    "from the other, both ways, repeated; mean and standard deviation over the repetitions"
)

APART = (
    "; each of the networks that were averaged held some of these posts back and answered for them, and the mean of "
    "the networks has learnt all of them"
)

OF_CROPS = "three of each post, cross-fitted as the figures of whole posts"


@dataclass(frozen=True)
class Figures:
    """What was measured on the validation posts.

    Attributes:
        honest: figures by cross-fitting inside validation, mean and standard deviation over random halvings.
        per_topic: float64 (topics, 3), precision, recall, F1 at the shipped thresholds, which these posts chose.
        reliability: as `reliable.cross_fitted` gives it.
        crops: as `of_crops` gives it.
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
    # Keys of posts that it has not learnt, by `data.text_key`: none where it is a mean of networks that each held
    # back what the others learnt, and each was judged on its own.
    validation: tuple[str, ...]
    judged: int
    none_validation: tuple[str, ...]
    figures: Figures
    start: dict[str, Any] | None = None


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
        artifact.write_json(draft / artifact.VALIDATION, validation(run))
        write_description(draft, settings(run), card(run))


def write_description(folder: Path, settings: dict[str, Any], content: dict[str, Any]) -> None:
    """Write `rubrika.json`, `card.json` and the card for people into a model folder."""
    artifact.write_json(folder / artifact.SETTINGS, settings)
    artifact.write_json(folder / artifact.CARD, content)
    (folder / artifact.README).write_text(readme(settings, content), encoding="utf-8")


def settings(run: Run) -> dict[str, Any]:
    """Return the content of `rubrika.json`."""
    return {
        "format": artifact.FORMAT,
        "name": run.options.name,
        "version": run.options.version,
        "topics": [
            {"id": topic.id, "name": topic.name, "name_en": topic.name_en, **numbers}
            for topic, numbers in zip(run.topics, calibrated(run.calibration), strict=True)
        ],
        "pooling": run.options.pooling,
        "merge_after": list(run.options.merge_after or ()),
        "max_tokens": run.max_tokens,
        "prefix": run.options.prefix,
        "cleaning": list(Cleaning.parse(run.options.clean).names),
        "fields": run.options.fields,
    }


def calibrated(calibration: Calibration) -> list[dict[str, Any]]:
    """Return what `rubrika.json` says of the threshold and the calibration of each topic."""
    return [
        {
            "threshold": round(float(threshold), 6),
            "calibration": {
                "slope": round(float(slope), 6),
                "rivalry": round(float(rivalry), 6),
                "intercept": round(float(intercept), 6),
            },
        }
        for threshold, slope, rivalry, intercept in zip(
            calibration.threshold, calibration.slope, calibration.rivalry, calibration.intercept, strict=True
        )
    ]


def validation(run: Run) -> dict[str, Any]:
    """Return the content of `validation.json`: which posts training did not see, by `data.text_key`."""
    return {"data_digest": run.data_digest, "posts": " ".join(run.validation), "none": " ".join(run.none_validation)}


def card(run: Run) -> dict[str, Any]:
    """Return the content of `card.json`."""
    options = asdict(run.options)
    for later in ("merge_after", "hold_back"):
        # As in the cards of networks that were made before there was such a thing.
        if not options[later]:
            del options[later]
    # Folders and machines are not part of what a model is; the base is named as the world knows it.
    base, base_name = options.pop("base"), options.pop("base_name")
    base_name = base_name or (Path(base).resolve().name if Path(base).is_dir() else base)
    for machine in ("device", "threads", "name", "version", "teacher_base", "average"):
        options.pop(machine)
    return {
        "base": base_name,
        "base_licence": options.pop("base_licence") or "not stated",
        "licence": "as the base's; no licence is stated for the training posts",
        "language": "ru",
        "data": {
            "digest": run.data_digest,
            "learned_from": run.learn,
            "counter_examples": run.none_learn,
            "validation": run.judged,
        },
        "training": options,
        # A model that started from another has a history.
        "start": run.start,
        "minutes": round(run.figures.minutes, 1),
        "seeds_run": 1,
        **measured(run.figures, [topic.id for topic in run.topics], len(run.none_validation), apart=not run.validation),
        "limits": list(LIMITS),
    }


def measured(figures: Figures, topics: Sequence[str], none_posts: int, apart: bool = False) -> dict[str, Any]:
    """Return what a card says of the figures of a model.

    Args:
        figures: what was measured.
        topics: ids, in label order.
        none_posts: number of the counter-examples that it was measured on.
        apart: whether each post was judged by that of several networks which has not learnt it, before they became one.
    """
    return {
        "validation": {
            "method": CROSS_FITTED + (APART if apart else ""),
            "figures": {name: {"mean": round(m, 4), "spread": round(s, 4)} for name, (m, s) in figures.honest.items()},
        },
        "per_topic": {
            "method": "at the shipped thresholds, which were chosen on these same posts: flattering",
            **{
                topic: dict(zip(("precision", "recall", "f1"), (round(float(v), 4) for v in row), strict=True))
                for topic, row in zip(topics, figures.per_topic, strict=True)
            },
        },
        "reliability": figures.reliability,
        "crops_of_2_to_30_words": {
            "method": OF_CROPS,
            **{name: round(value, 4) for name, value in figures.crops.items()},
        },
        "off_topic": {
            "held_out": none_posts,
            "share_with_a_topic": None if figures.off_topic is None else round(figures.off_topic, 4),
        },
        "calibration": "Platt scaling per topic with a term for the other topics, fitted on the validation posts and "
        "on crops of them",
        "thresholds": "per topic, the best F1 on these, drawn towards the best common threshold",
    }


def of_crops(
    logits: calibrate.Floats, labels: calibrate.Floats, pieces: calibrate.Floats, repeats: int, seed: int
) -> dict[str, float]:
    """Return figures of crops of posts that training did not see; arguments as for `calibrate.cross_fit`."""
    found = calibrate.cross_fit(logits, labels, metrics.summary, repeats, seed, pieces, asked=pieces)
    return {name: mean for name, (mean, _) in found.items()}


def readme(settings: dict[str, Any], content: dict[str, Any]) -> str:
    """Return the model card for people, in Markdown, from the contents of `rubrika.json` and `card.json`."""
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {one['mean']:.3f} | {one['spread']:.3f} |"
        for name, one in content["validation"]["figures"].items()
    )
    topics = "\n".join(
        f"| `{topic['id']}` | {topic['name']} / {topic['name_en']} | {topic['threshold']:.3f} | "
        + " | ".join(f"{content['per_topic'][topic['id']][figure]:.3f}" for figure in ("precision", "recall", "f1"))
        + " |"
        for topic in settings["topics"]
    )
    crops, off = content["crops_of_2_to_30_words"], content["off_topic"]
    off_topic = (
        "It was trained without counter-examples."
        if off["share_with_a_topic"] is None
        else f"Of {off['held_out']} held-out texts that belong to none of the topics, "
        f"{off['share_with_a_topic']:.1%} get one."
    )
    limits = "\n".join(f"- {limit}" for limit in content["limits"])
    apart = (
        ". Each of the networks that were averaged answered for the posts that it had held back; their mean, which has "
        "learnt all of these posts, is none of those that were measured"
        if _apart(content)
        else ""
    )
    made = "\n".join(f"- {line}" for line in _how_it_was_made(settings, content)).replace("-   ", "  - ")
    return f"""# {settings["name"]} {settings["version"]}

Topics of Russian social-media posts: for each topic the probability that a post belongs to it. A post may have several
topics or none. Base: `{content["base"]}` ({content["base_licence"]}), fine-tuned with one output per topic.

## How it was made
{made}

## What it reaches
On the validation posts, with calibration and thresholds taken from other validation posts (cross-fitting; the spread
is the standard deviation over random halvings, not over seeds or splits){apart}:

| figure | mean | spread |
|---|---|---|
{rows}

At the shipped thresholds, which these same posts chose (so it flatters):

| topic | name | threshold | precision | recall | F1 |
|---|---|---|---|---|---|
{topics}

Crops of 2 to 30 words of the validation posts, {crops.get("method", "at the shipped thresholds")}: micro-F1
{crops["micro_f1"]:.3f}, macro-F1 {crops["macro_f1"]:.3f}. {off_topic}

## Limits
{limits}
"""


def _apart(content: dict[str, Any]) -> bool:
    return str(content["validation"]["method"]).endswith(APART)


def _how_it_was_made(settings: dict[str, Any], content: dict[str, Any]) -> list[str]:
    data = content["data"]
    lines = [
        f"{data['learned_from']} distinct posts to learn from, {data['validation']} for validation, "
        + ("judged by networks that have not learnt them" if _apart(content) else "split by near-equal text")
        + f"; {data['counter_examples']} counter-examples. The SHA-256 of the posts is in `card.json`.",
        *_training(content["training"], settings["max_tokens"]),
        f"Calibration: {content['calibration']}.",
        f"{content['minutes']:.0f} minutes. One seed was run: how much another would differ was not measured.",
    ]
    lines += _history(content.get("start"), "It started from the network of")
    again = content.get("calibrated_again")
    if again:
        lines.append(
            f"Calibration, thresholds and the figures below come from {again['posts']} "
            + ("posts that its training held back." if again["held_back"] else "posts that were given later.")
        )
    return lines


def _history(start: dict[str, Any] | None, beginning: str, told: set[str] | None = None) -> list[str]:
    if not start:
        return []
    told = set() if told is None else told
    key = json.dumps([start["model"], start["training"]], sort_keys=True)
    if key in told:
        return [f"{beginning} {start['model']}, told above."]
    told.add(key)
    lines = [f"{beginning} {start['model']}, which was made like this:"]
    lines += [f"  {line}" for line in _training(start["training"], start["max_tokens"])]
    lines += _history(start.get("start"), "That started from the network of", told)
    for other in start.get("averaged_with", ()):
        lines += _history(other, f"The weights of {start['model']} were averaged with those of", told)
    return lines


def _training(options: dict[str, Any], max_tokens: int) -> list[str]:
    lines = [
        f"Targets: {1 - options['teacher_weight']:.1f} x label + {options['teacher_weight']:.1f} x out-of-fold "
        f"probability by {', '.join(options['teacher_names']) or 'nobody'}.",
        f"{options['epochs']} epochs, at most {max_tokens} tokens, batch {options['batch']}, learning rate "
        f"{options['lr']:g}, seed {options['seed']}; {options['crop_share']:g} crops of 2 to 30 words of each text in "
        f"an epoch; a layer learns {options['layer_decay']:g} times as fast as the one above.",
    ]
    if options.get("hold_back"):
        part, count = options["hold_back"]
        lines.append(
            f"Of what the one before it had held back it held back part {part} of {count}, and learnt the rest."
        )
    if options.get("merge_after"):
        after = " and ".join(map(str, options["merge_after"]))
        word = "layer" if len(options["merge_after"]) == 1 else "layers"
        lines.append(f"After {word} {after} each two neighbouring tokens become one.")
    if not options["epochs"]:
        lines[1] = f"The network was left as it was; at most {max_tokens} tokens."
    if options["ngram_share"]:
        lines.append(
            f"The logits are {1 - options['ngram_share']:g} x the network's + {options['ngram_share']:g} x those of "
            "logistic regression on n-grams of one to three tokens, in the same graph, learnt from each text and "
            f"{options.get('ngram_crops', 1)} crops of it."
        )
    return lines
