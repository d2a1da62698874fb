"""Which posts to measure a model on: those that its training held back, as far as its folder and the data tell.

Posts that a model was trained on measure its memory. A model folder records which posts its training held back
(`validation.json`), and these are what is measured as long as the data is the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml import artifact, data
from ml.artifact import ModelInfo
from ml.classifier import Classifier
from ml.counter_examples import CounterExamples
from ml.errors import DataError
from ml.posts import Post

SPLITS = ("auto", "validation", "all")

SEED_OF_PARTS = 1
"""Of the parts of what was held back: the same in all trainings, so that together they hold back every post once."""


@dataclass(frozen=True)
class Held:
    """What a model folder records of its validation posts: keys by `data.text_key`."""

    data_digest: str
    posts: frozenset[str]
    none: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """The posts to measure with.

    Attributes:
        posts: with the topics in the order of the model.
        split: `validation`: the model's training held them back; or `all`.
        held: what the model folder records; None: nothing.
        warnings: what a reader of figures must know; more may be added.
    """

    posts: data.Dataset
    split: str
    held: Held | None
    warnings: list[str]


def choose(classifier: Classifier, folder: Path, data_folder: Path, split: str) -> Chosen:
    """Read `data_folder` and take what can be measured with `classifier`, loaded from the model folder `folder`.

    Raises:
        DataError: as `evaluate`.
    """
    posts = with_topics_of(classifier.info, data.read_folder(data_folder), data_folder)
    held = read(folder)
    return Chosen(*_choose(posts, held, split, data_folder))


def read(folder: Path) -> Held | None:
    """Return what the model folder records of its validation posts; None where it records nothing."""
    file = folder / artifact.VALIDATION
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return Held(str(content["data_digest"]), frozenset(content["posts"].split()), frozenset(content["none"].split()))


def parts(
    posts: data.Dataset,
    held: Held | None,
    validation_share: float,
    seed: int,
    hold_back: tuple[int, int] | None = None,
) -> tuple[data.Dataset, data.Dataset, bool]:
    """Return posts to learn from, posts for validation, and whether the latter are such as a training held back.

    Args:
        posts: all there are.
        held: what a model folder records; where `posts` has some of these, they are the validation posts.
        validation_share, seed: of a random split, where it has none.
        hold_back: `(part, count)`: of the posts that were held back only this part of so many, from 1 on, is held back
            again, and the others are learnt. Whatever the seed, parts of one `count` never share a post.

    Raises:
        DataError: one of the two is empty, or there is nothing of which to hold back a part.
    """
    unseen = [row for row, post in enumerate(posts.posts) if held and data.text_key(post) in held.posts]
    if hold_back is not None:
        if not unseen:
            raise DataError("No training held back any of these posts, so there is no part of them to hold back.")
        part, count = hold_back
        chosen = data.folds(posts.take(unseen), count, SEED_OF_PARTS) == part - 1
        unseen = [row for row, chosen_one in zip(unseen, chosen, strict=True) if chosen_one]
        if not unseen:
            raise DataError(f"Too few posts were held back to make {count} parts of them.")
    if unseen:
        # What is near-equal to a validation post is no post to learn from.
        groups = {posts.groups[row] for row in unseen}
        learn = [row for row, group in enumerate(posts.groups) if group not in groups]
        found = posts.take(learn), posts.take(unseen)
    else:
        rows = data.split(posts, validation_share, seed)
        found = posts.take(rows[0]), posts.take(rows[1])
    if not len(found[0].posts) or not len(found[1].posts):
        raise DataError("There are too few posts to learn from some and check with others.")
    return *found, bool(unseen)


def with_topics_of(model: ModelInfo, posts: data.Dataset, folder: Path) -> data.Dataset:
    """Return `posts`, read from `folder`, with the topics in the order of the model.

    Raises:
        DataError: they have other topics.
    """
    wanted = [topic.id for topic in model.topics]
    found = [topic.id for topic in posts.topics]
    if sorted(wanted) != sorted(found):
        raise DataError(f"The model knows the topics {', '.join(wanted)}; {folder} has {', '.join(found)}.")
    columns = [found.index(topic) for topic in wanted]
    topics = tuple(posts.topics[column] for column in columns)
    return data.Dataset(topics, posts.posts, np.ascontiguousarray(posts.labels[:, columns]), posts.groups)


def _choose(
    posts: data.Dataset, held: Held | None, split: str, folder: Path
) -> tuple[data.Dataset, str, Held | None, list[str]]:
    if split not in SPLITS:
        raise DataError(f"The split {split!r} is not known: it must be one of {', '.join(SPLITS)}.")
    same = held is not None and held.data_digest == posts.digest()
    if split == "validation" or (split == "auto" and same and held and held.posts):
        keys = held.posts if held else frozenset()
        rows = [row for row, post in enumerate(posts.posts) if data.text_key(post) in keys]
        if not rows:
            raise DataError(f"{folder} has none of the posts that this model's training held back: use --split all.")
        return posts.take(rows), "validation", held, []
    if same:
        return (
            posts,
            "all",
            held,
            [
                "Most of these posts were trained on: the figures measure memory. Use --split validation."
                if held and held.posts
                else "All of these posts were trained on: the figures measure memory. The card has others."
            ],
        )
    return (
        posts,
        "all",
        held,
        [
            "This is not the data that the model records as its own. Whether it was trained on any of these posts "
            "is not known; if it was, the figures measure memory."
        ],
    )


def counter_examples(chosen: Chosen, found: CounterExamples | None) -> tuple[Post, ...]:
    """Return texts on none of the topics; beside validation posts only such as no training learns from."""
    if found is None or not found.posts:
        return ()
    kept = chosen.held.none if chosen.held else frozenset()
    unseen = tuple(post for post in found.posts if post in found.held or data.text_key(post) in kept)
    if unseen and chosen.split == "validation":
        return unseen
    chosen.warnings.append("Whether the model was trained on some of the counter-examples is not known.")
    return found.posts
