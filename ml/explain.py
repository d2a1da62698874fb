"""Which words of a post speak for a topic and which against it, for whatever a model is made of.

The model is only asked, never looked into: it is asked about the post with each word taken out in turn, and with
random sets of words taken out. A linear function of what is missing is fitted to the fall of the log-odds, as in LIME
(Ribeiro, Singh and Guestrin 2016, arXiv:1602.04938), by ridge regression that shrinks not towards nothing but towards
what each word does alone: few questions suffice, and words that say the same thing twice both get their share. A word
that is taken out leaves nothing behind, as if the author had not written it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ml.classifier import Classifier
from ml.errors import ModelError
from ml.posts import FIELDS, Post

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_PIECES = 48
"""A text with more words is explained in phrases of two words or more, so that the number of questions is bounded."""

MORE_QUESTIONS = 8
"""A post of n pieces costs `2 * n + MORE_QUESTIONS + 1` questions."""

LEAST_KEPT = 0.5
"""Of a random question each piece is kept with one chance, drawn evenly from here to 1."""

SHRINKAGE = 2.0
"""Of the ridge regression, in questions: that many speak for what each piece does alone."""

SMALLEST_PROBABILITY = 1e-4
"""Probabilities are taken to be at least that far from 0 and 1: beyond, log-odds grow without meaning anything."""

# An address; or a word with what holds its parts together and with its sign; or a run of emoji and the like.
# Punctuation stays whatever is taken out, and has no weight.
_PIECE = re.compile(
    r"https?://\S+|[@#]?\w+(?:[-'’.]\w+)*|[^\w\s!-/:-@\[-`{-~«»„“”‘’…–—‑−×№§•·]+",
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a post.

    Attributes:
        field: `doc_text`, `image2text` or `speech2text`.
        start: index of its first character in the field, counted in code points.
        end: index behind its last character.
        weight: by how much the natural logarithm of the odds of the topic falls without it; below 0 it rises, and the
            piece speaks against the topic.
    """

    field: str
    start: int
    end: int
    weight: float = 0.0


def explain(
    classifier: Classifier, post: Post, between_batches: Callable[[], None] | None = None
) -> dict[str, list[Piece]]:
    """Return for each topic of the model the pieces of `post` that the model has read, in the order of the text.

    One post gives one explanation: what is drawn at random is drawn from the same seed each time.

    Args:
        classifier: the model.
        post: the post; where nothing in it is a word, the lists are empty.
        between_batches: as in `Classifier.compute`.

    Raises:
        ModelError: the model fails on the post or on a part of it.
    """
    # What the model does not read must not move up when words are taken out: they would be held responsible for it.
    post = _read_part(classifier, post)
    pieces = _pieces(post)
    topics = [topic.id for topic in classifier.info.topics]
    if not pieces:
        return {topic: [] for topic in topics}
    kept = _questions(len(pieces))
    answers = classifier.compute(classifier.prepare([_of(post, pieces, row) for row in kept]), between_batches)
    if answers.failures:
        raise ModelError(f"The model fails on a part of the post: {next(iter(answers.failures.values()))}")
    weights = _weights(kept, answers.probabilities.astype(np.float64))
    return {
        topic: [replace(piece, weight=float(weight)) for piece, weight in zip(pieces, column, strict=True)]
        for topic, column in zip(topics, weights.T, strict=True)
    }


def _pieces(post: Post) -> list[Piece]:
    """Return the words of `post` without weights; phrases where words are more than `MAX_PIECES`.

    A phrase never reaches from one field into the next.
    """
    words = _words(post)
    size = max(1, -(-len(words) // MAX_PIECES))
    while True:
        pieces = []
        for field in FIELDS:
            mine = [word for word in words if word.field == field]
            pieces += [
                Piece(field, part[0].start, part[-1].end)
                for part in (mine[first : first + size] for first in range(0, len(mine), size))
            ]
        if len(pieces) <= MAX_PIECES:
            return pieces
        size += 1


def _words(post: Post) -> list[Piece]:
    """Return the words of `post`, one by one."""
    return [
        Piece(field, match.start(), match.end()) for field in FIELDS for match in _PIECE.finditer(getattr(post, field))
    ]


def _read_part(classifier: Classifier, post: Post) -> Post:
    """Return the post up to the last word that the model reads as a whole; by bisection, without the network."""
    if not classifier.prepare([post]).truncated.any():
        return post
    words = _words(post)
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if classifier.prepare([_up_to(post, words[middle - 1])]).truncated.any():
            high = middle - 1
        else:
            low = middle
    return _up_to(post, words[max(low, 1) - 1]) if words else post


def _up_to(post: Post, word: Piece) -> Post:
    """Return the post up to the end of one of its words."""
    place = FIELDS.index(word.field)
    texts = {field: getattr(post, field) for field in FIELDS[: place + 1]}
    return Post(**{**texts, word.field: texts[word.field][: word.end]})


def _of(post: Post, pieces: list[Piece], kept: Bools) -> Post:
    """Return the post without the pieces that are not `kept`, bool (pieces,)."""
    texts = {}
    for field in FIELDS:
        text, parts, done = getattr(post, field), [], 0
        for piece, stays in zip(pieces, kept.tolist(), strict=True):
            if piece.field == field and not stays:
                parts.append(text[done : piece.start])
                done = piece.end
        texts[field] = "".join([*parts, text[done:]])
    return Post(**texts)


def _questions(count: int) -> Bools:
    """Return which pieces each question keeps, bool (questions, count): all; all but one, each in turn; random sets."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(LEAST_KEPT, 1, size=(count + MORE_QUESTIONS, 1))
    chosen = rng.random((count + MORE_QUESTIONS, count)) < rates
    return np.concatenate([np.ones((1, count), dtype=np.bool_), ~np.eye(count, dtype=np.bool_), chosen])


def _weights(kept: Bools, probabilities: Floats) -> Floats:
    """Return the weights, (pieces, topics), from the answers to `_questions`, (questions, topics)."""
    clipped = probabilities.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    log_odds = np.log(clipped / (1 - clipped))
    count = kept.shape[1]
    missing, falls = 1.0 - kept, log_odds[0] - log_odds
    alone = falls[1 : count + 1]
    found: Floats = np.linalg.solve(
        missing.T @ missing + SHRINKAGE * np.eye(count), missing.T @ falls + SHRINKAGE * alone
    )
    return found
