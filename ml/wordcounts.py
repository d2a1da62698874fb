"""Which words and bigrams are frequent in a topic, and which set it apart from the others."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ml.data import Dataset
from ml.posts import FIELDS, Post, clean

Floats = npt.NDArray[np.float64]

# Weight of the prior, in counts: the words of all topics together, scaled to so many.
PRIOR = 1000.0
# A word in fewer posts than this says more about one author than about a topic.
LEAST_POSTS = 5

_WORD = re.compile(r"[^\W\d_]{2,}")
_ADDRESSES = re.compile(r"https?://\S+|\S+\.(?:ru|com|me|рф)/\S*|@\w+", re.IGNORECASE)

# Words that every text has. Distinctive words need no such list: the statistic sees to them.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    без более будет будут бы был была были было быть вам вас ваш ваша ваши весь во вот все всего всех всё вы где
    да даже для до его ее ей ему если есть еще ещё её же за здесь из или им их как какой когда которая которого
    которые который кто ли либо меня мне мной может можно мои мой моя мы на над надо нам нас наш наша наши не
    него нее ней нему нет неё ни них но ну об один одна он она они оно от очень по под после потом потому почти
    при про просто раз сам свои своих свой себе себя сейчас со так также такой там тебе тебя тем теперь то того
    тоже той только том тот тут ты уже хоть чего чем через что чтоб чтобы эта эти этих это этого этой этом этот
    эту я
        """,
    )
)


@dataclass(frozen=True)
class Term:
    """A word or a bigram of a topic.

    Attributes:
        posts: in how many groups of near-equal posts of the topic it stands.
        elsewhere: in how many of the others.
        z: log-odds ratio over its standard error; above 2 it is rarely chance.
    """

    text: str
    posts: int
    elsewhere: int
    z: float


@dataclass(frozen=True)
class TopicWords:
    """The terms of a topic, the first ones first; `words` and `bigrams` are the distinctive ones."""

    frequent: tuple[Term, ...]
    words: tuple[Term, ...]
    bigrams: tuple[Term, ...]


def words_of_topics(data: Dataset, shown: int = 20) -> tuple[TopicWords, ...]:
    """Return the terms of each topic of `data`, in label order."""
    # A repost is counted once: else a campaign would make each of its words distinctive.
    rows = list({group: row for row, group in reversed(list(enumerate(data.groups)))}.values())
    terms = [_terms(data.posts[row]) for row in rows]
    vocabulary = [term for term, count in Counter(t for one in terms for t in one).items() if count >= LEAST_POSTS]
    index = {term: number for number, term in enumerate(sorted(vocabulary))}
    # Words and bigrams are two vocabularies, each with a sum and a prior of its own.
    is_pair = np.array([" " in term for term in index], dtype=bool)
    result = []
    for topic in range(len(data.topics)):
        inside = _counts((terms[n] for n, row in enumerate(rows) if data.labels[row, topic]), index)
        outside = _counts((terms[n] for n, row in enumerate(rows) if not data.labels[row, topic]), index)
        z = np.zeros(len(index))
        for kind in (is_pair, ~is_pair):
            z[kind] = log_odds(inside[kind], outside[kind])
        listed = [Term(t, int(inside[n]), int(outside[n]), float(z[n])) for t, n in index.items()]
        known = [term for term in listed if " " not in term.text and term.text not in STOP_WORDS]
        apart = sorted((term for term in listed if term.z > 0), key=lambda term: (-term.z, term.text))
        result.append(
            TopicWords(
                frequent=tuple(sorted(known, key=lambda term: (-term.posts, term.text))[:shown]),
                words=tuple([term for term in apart if " " not in term.text][:shown]),
                bigrams=tuple([term for term in apart if " " in term.text][:shown]),
            )
        )
    return tuple(result)


def log_odds(inside: Floats, outside: Floats) -> Floats:
    """Return the z-scores of the weighted log-odds ratio with an informative Dirichlet prior, float64 (terms,).

    Monroe, Colaresi, Quinn (2008), "Fightin' Words", equations 16, 22 and 23; the prior is the distribution over both
    sides together, scaled to `PRIOR` counts.

    Args:
        inside: counts of each term on one side.
        outside: counts on the other.
    """
    both = inside + outside
    if not both.sum():
        return np.zeros_like(both)
    prior = PRIOR * both / both.sum()
    one, other = inside + prior, outside + prior
    total, total_other = one.sum(), other.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = np.log(one / (total - one)) - np.log(other / (total_other - other))
    # A vocabulary of a single term has nothing to be compared with.
    return np.asarray(np.where(np.isfinite(delta), delta, 0.0) / np.sqrt(1 / one + 1 / other))


def _terms(post: Post) -> set[str]:
    found: set[str] = set()
    for field in FIELDS:
        words = _WORD.findall(_ADDRESSES.sub(" ", clean(getattr(post, field)).casefold()))
        found.update(words)
        pairs = pairwise(words)
        found.update(f"{one} {two}" for one, two in pairs if not (one in STOP_WORDS and two in STOP_WORDS))
    return found


def _counts(texts: Iterable[set[str]], index: dict[str, int]) -> Floats:
    counts = np.zeros(len(index))
    for terms in texts:
        for term in terms:
            if term in index:
                counts[index[term]] += 1
    return counts
