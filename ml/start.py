"""Where a training starts: at an encoder that knows no topics, or at a model of Rubrika, which has learnt some.

A model brings its network, its way of reading posts, and its word on which posts it has not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ml import artifact, counter_examples, data, held, network, weights
from ml.artifact import ModelFolder
from ml.counter_examples import CounterExamples
from ml.errors import ModelError
from ml.posts import Post

if TYPE_CHECKING:
    from ml.train import TrainOptions


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Attributes:
        net: to be fitted.
        new_head: whether its head knows nothing yet.
        tokenizer: content of a `tokenizer.json`.
        options: those of the training, with what the start brings.
    """

    net: network.TopicNetwork
    new_head: bool
    tokenizer: str
    options: "TrainOptions"


def at(options: "TrainOptions", topics: tuple[data.TopicName, ...]) -> Start:
    """Load what `options.base` names.

    Raises:
        ModelError: it cannot be loaded, or a model of `options.average` is of another kind.
    """
    model = model_at(options.base)
    if model is None:
        merge_after = options.merge_after or ()
        net = network.from_base(options.base, options.pooling, len(topics), options.attention_dropout, merge_after)
        return Start(net, True, _tokenizer(options.base), options)
    wanted = [topic.id for topic in topics]
    new_head = wanted != [topic.id for topic in model.info.topics]
    net = network_of(model, len(topics), new_head, options.merge_after)
    _average(net, model, options.average, new_head)
    return Start(net, new_head, model.tokenizer(), _as_the_model(model, options))


def in_its_order(posts: data.Dataset, folder: Path, options: "TrainOptions") -> data.Dataset:
    """Return `posts`, read from `folder`, with the topics in the order of the model to start from.

    Where it knows the same topics its head goes on; with others a head begins anew and has to learn.

    Raises:
        ModelError: the topics are others, and nothing is to be learnt.
    """
    model = model_at(options.base)
    if model is None:
        return posts
    known, found = [topic.id for topic in model.info.topics], [topic.id for topic in posts.topics]
    if set(known) == set(found):
        return held.with_topics_of(model.info, posts, folder)
    if not options.epochs:
        raise ModelError(
            f"{options.base} knows the topics {', '.join(known)}; {folder} has {', '.join(found)}. A head for other "
            "topics has to learn, and without an epoch it does not."
        )
    return posts


def _average(net: network.TopicNetwork, model: ModelFolder, others: Sequence[str], new_head: bool) -> None:
    """Make the weights of `net`, the network of `model`, the mean of its and those of the models `others`.

    Networks that began at one base lie in one valley of the loss, and the middle of it is a better place than its sides
    (Wortsman et al. 2022, arXiv:2203.05482).
    """
    states = [net.state_dict()]
    for folder in others:
        other = artifact.read(Path(folder))
        if _ways(other) != _ways(model):
            raise ModelError(
                f"{folder} and {model.path} differ in base, topics, tokenizer or in how they read posts: the mean of "
                "their weights would be a network that knows nothing."
            )
        states.append(network_of(other, len(other.info.topics), new_head).state_dict())
    for name, value in net.state_dict().items():
        # What is no matrix of the network, such as the numbers of places, is the same in all.
        if value.is_floating_point() and not (new_head and name.startswith("head.")):
            value.copy_(torch.stack([state[name] for state in states]).mean(dim=0))


def _ways(model: ModelFolder) -> tuple[object, ...]:
    return (
        model.info.card["base"],
        {name: value for name, value in model.config.items() if name != "transformers_version"},
        model.tokenizer(),
        [topic.id for topic in model.info.topics],
        model.pooling,
        model.merge_after,
        model.prefix,
        model.fields,
        model.cleaning.names,
    )


def model_at(base: str) -> ModelFolder | None:
    """Return the model folder that `base` names; None where it is an encoder's folder or a hub name.

    Raises:
        ModelError: the folder is damaged.
    """
    return artifact.read(Path(base)) if (Path(base) / artifact.SETTINGS).is_file() else None


def check_knows_nothing(base: str) -> None:
    """Refuse a model where it would be asked about posts that it may have learnt.

    Raises:
        ModelError: `base` is a model folder of Rubrika.
    """
    if model_at(base) is not None:
        raise ModelError(
            f"{base} is a model that may have learnt these very posts, so that what it says of them shows nothing: "
            "name an encoder."
        )


def history(base: str, average: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return what the card of a training tells of the models that it started from; None where that was an encoder."""
    model = model_at(base)
    if model is None:
        return None
    card = model.info.card
    told = {"model": f"{model.info.name} {model.info.version}", "max_tokens": model.max_tokens}
    told |= {"training": card["training"], "start": card.get("start")}
    return {**told, "averaged_with": [history(one) for one in average]} if average else told


def _as_the_model(model: ModelFolder, options: "TrainOptions") -> "TrainOptions":
    """The options with the base of `model`, and its way of reading posts: a network that reads otherwise knows less."""
    return replace(
        options,
        base_name=options.base_name or str(model.info.card["base"]),
        base_licence=options.base_licence or str(model.info.card["base_licence"]),
        prefix=model.prefix,
        clean=",".join(model.cleaning.names),
        fields=model.fields,
        pooling=network.pooling_named(model.pooling),
        merge_after=model.merge_after if options.merge_after is None else options.merge_after,
        max_tokens=model.max_tokens,
    )


def network_of(
    model: ModelFolder, topics: int, new_head: bool, merge_after: Sequence[int] | None = None
) -> network.TopicNetwork:
    """Return the network of `model` without its linear part.

    Args:
        model: the model.
        topics: number of outputs; other than the model's only with a new head.
        new_head: leave the head as it is made, knowing nothing.
        merge_after: as for `network.TopicNetwork`; None: as the model does.

    Raises:
        ModelError: the weights do not fit the configuration.
    """
    merge_after = model.merge_after if merge_after is None else merge_after
    net = network.from_config(model.path, network.pooling_named(model.pooling), topics, merge_after=merge_after)
    values = {name: torch.from_numpy(array).float() for name, array in weights.read(model.weights).items()}
    linear = {name for name in values if name.startswith("ngrams.")}
    share = float(model.info.card["training"]["ngram_share"]) if linear else 0.0
    if not 0 <= share < 1:
        raise ModelError(f"{model.path} is nothing but n-grams: there is no network to start from.")
    for name in ("head.weight", "head.bias"):
        # The head was made smaller when the linear part came beside it.
        values[name] /= 1 - share
        if new_head:
            del values[name]
    missing, unexpected = net.load_state_dict(
        {name: value for name, value in values.items() if name not in linear}, strict=False
    )
    lacking = [name for name in missing if name in dict(net.named_parameters()) and not name.startswith("head.")]
    if lacking or unexpected:
        raise ModelError(f"{model.weights} does not fit its configuration: {', '.join([*lacking, *unexpected])}.")
    return net


def split(posts: data.Dataset, options: "TrainOptions") -> tuple[data.Dataset, data.Dataset, bool]:
    """Return posts to learn from, posts for validation, and whether the start is known not to have seen the latter.

    A model may have learnt from any post but those that its training held back. Where the data has some of these, they
    are the validation posts; of several models, those that all of them held back.

    Raises:
        DataError: one of the two is empty.
        ModelError: there are others to average with, and the base is no model.
    """
    model = model_at(options.base)
    if options.average and model is None:
        raise ModelError(f"{options.base} is an encoder: only models of Rubrika can be averaged.")
    if options.hold_back and model is None:
        raise ModelError(f"{options.base} is an encoder: only of what a model has held back there can be a part.")
    learn, check, unseen = held.parts(posts, _kept(options), options.validation_share, options.seed, options.hold_back)
    return learn, check, model is None or unseen


def judges(posts: data.Dataset, options: "TrainOptions") -> dict[str, list[int]]:
    """Return for each of several models that are averaged the rows of `posts` that it alone of them has not learnt.

    Empty where a post is left that none of them has learnt, where not each has one of its own, where the mean goes on
    learning, or where it is to hold posts back itself: then what these models say tells nothing of what comes out.

    Raises:
        ModelError: a model folder is damaged.
    """
    if not options.average or options.epochs or options.hold_back or model_at(options.base) is None:
        return {}
    folders = (options.base, *options.average)
    kept = [one.posts if one else frozenset() for one in map(held.read, map(Path, folders))]
    keys = [data.text_key(post) for post in posts.posts]
    found = {
        folder: [row for row, key in enumerate(keys) if key in own] for folder, own in zip(folders, kept, strict=True)
    }
    rows = [row for some in found.values() for row in some]
    if len(set(rows)) < len(rows) or not all(found.values()):
        return {}
    for folder in folders:
        share = artifact.read(Path(folder)).info.card["training"]["ngram_share"]
        if share != options.ngram_share:
            raise ModelError(
                f"{folder} answers with {share:g} of n-grams and the mean would with {options.ngram_share:g}: what "
                "judges it must be made as it is."
            )
    return found


def split_none(none: CounterExamples, options: "TrainOptions") -> tuple[tuple[Post, ...], tuple[Post, ...], bool]:
    """Return counter-examples to learn from, such to validate with, and whether the start has not learnt the latter."""
    kept = _kept(options)
    keys = kept.none if kept else frozenset()
    learn, check = counter_examples.parts(none, keys, options.validation_share, options.seed)
    unseen = all(post in none.held or data.text_key(post) in keys for post in check)
    return learn, check, unseen or model_at(options.base) is None


def _kept(options: "TrainOptions") -> held.Held | None:
    """What the model to start from records that it has not learnt; of several models, what none of them has."""
    model = model_at(options.base)
    kept = held.read(model.path) if model else None
    for folder in options.average:
        other = held.read(Path(folder))
        kept = kept and replace(
            kept,
            posts=kept.posts & (other.posts if other else frozenset()),
            none=kept.none & (other.none if other else frozenset()),
        )
    return kept


def _tokenizer(base: str) -> str:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, use_fast=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        # The library of tokenizers has no exception of its own for a file that is damaged.
        raise ModelError(f"transformers finds no fast tokenizer for {base!r}: {error}") from error
