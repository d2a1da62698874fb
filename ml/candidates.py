"""Classifiers that are compared: each learns texts with topics and gives a score per topic for others.

All learn on the same texts and are asked about the same ones; calibration and thresholds are not theirs to choose.
`multi` learns a yes or no for each topic. `single` learns the first topic of each post alone, one of all.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ml.errors import DataError

Floats = npt.NDArray[np.float32]
Variant = Literal["multi", "single"]

TREES = 200
# What a probability of 0 or 1 counts as where a logarithm is taken of it: a forest often says either.
EDGE = 1e-3


class Fitted(Protocol):
    """A classifier that has learnt."""

    @property
    def size(self) -> int:
        """Bytes of what it must keep to answer: parameters as they are in memory, and the words it knows."""

    def scores(self, texts: Sequence[str]) -> Floats:
        """Return float32 (texts, topics) that can be read as logits, higher for likelier."""


Fit = Callable[[Sequence[str], Floats, int], Fitted]


@dataclass(frozen=True)
class Candidate:
    """A way to make a classifier, by name; `fit` takes texts, labels (texts, topics) and a seed."""

    name: str
    variant: Variant
    fit: Fit

    @property
    def label(self) -> str:
        return self.name if self.variant == "multi" else f"{self.name}:single"


class _Features:
    """TF-IDF of words and pairs of words, and of 2 to 5 characters inside words."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        common: dict[str, Any] = {"min_df": 2, "sublinear_tf": True, "dtype": np.float32}
        self._words = TfidfVectorizer(ngram_range=(1, 2), **common)
        self._chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common)
        try:
            self._words.fit(texts)
            self._chars.fit(texts)
        except ValueError as error:
            raise DataError("There are too few texts to learn from: no word stands in two of them.") from error

    def __call__(self, texts: Sequence[str]) -> Any:
        from scipy.sparse import hstack

        return hstack([self._words.transform(texts), self._chars.transform(texts)]).tocsr()

    @property
    def size(self) -> int:
        known = (*self._words.vocabulary_, *self._chars.vocabulary_)
        return sum(len(term.encode()) for term in known) + 4 * len(known)


class _Linear:
    """One linear score per topic on features."""

    def __init__(self, features: Any, weights: Floats, bias: Floats) -> None:
        self._features, self._weights, self._bias = features, weights, bias

    @property
    def size(self) -> int:
        return int(self._features.size + self._weights.nbytes + self._bias.nbytes)

    def scores(self, texts: Sequence[str]) -> Floats:
        return np.asarray(self._features(texts) @ self._weights.T + self._bias, dtype=np.float32)


class _Forest:
    def __init__(self, features: _Features, ask: Callable[[Any], Floats], forest: Any) -> None:
        self._features, self._ask, self._forest = features, ask, forest

    @property
    def size(self) -> int:
        trees = [one.tree_ for one in self._forest.estimators_]
        nodes = sum(tree.__getstate__()["nodes"].nbytes + tree.value.nbytes for tree in trees)
        return self._features.size + int(nodes)

    def scores(self, texts: Sequence[str]) -> Floats:
        shares = np.clip(self._ask(self._features(texts)), EDGE, 1 - EDGE)
        return np.asarray(np.log(shares / (1 - shares)), dtype=np.float32)


def first_topics(labels: Floats) -> npt.NDArray[np.int64]:
    """Return int64 (n,): the first topic of each post, by which `single` learns."""
    return np.asarray(labels.argmax(axis=1), dtype=np.int64)


def linear_head(features: Any, inputs: Any, labels: Floats, make: Callable[[], Any], variant: Variant) -> Fitted:
    """Fit a linear model of scikit-learn for each topic, or one for all, on inputs that stand for the texts."""
    topics = labels.shape[1]
    weights = np.zeros((topics, inputs.shape[1]), dtype=np.float32)
    # A topic that all posts have, or none, teaches nothing: its score stays low or high.
    bias = np.where(labels.mean(axis=0) > 0.5, 5.0, -5.0).astype(np.float32)
    with warnings.catch_warnings():
        # scikit-learn announces changes of its defaults that do not touch what is asked for here.
        warnings.simplefilter("ignore", FutureWarning)
        if variant == "single":
            first = first_topics(labels)
            known = np.unique(first)
            if len(known) > 2:
                model = make().fit(inputs, first)
                weights[known], bias[known] = model.coef_, model.intercept_
                return _Linear(features, weights, bias)
            labels = np.eye(topics, dtype=np.float32)[first]
        for topic in range(topics):
            if labels[:, topic].min() != labels[:, topic].max():
                model = make().fit(inputs, labels[:, topic])
                weights[topic], bias[topic] = model.coef_[0], model.intercept_[0]
    return _Linear(features, weights, bias)


def _logistic(variant: Variant, texts: Sequence[str], labels: Floats, seed: int) -> Fitted:
    from sklearn.linear_model import LogisticRegression

    features = _Features(texts)
    # One model of all topics is a softmax, which liblinear cannot fit. Its dual form is the quick one where features
    # outnumber texts by far.
    solver = (
        {"solver": "liblinear", "dual": True}
        if variant == "multi"
        else {"solver": "lbfgs", "max_iter": 200, "tol": 1e-3}
    )
    make = partial(LogisticRegression, C=4.0, random_state=seed, **solver)
    return linear_head(features, features(texts), labels, make, variant)


def _svm(variant: Variant, texts: Sequence[str], labels: Floats, seed: int) -> Fitted:
    from sklearn.svm import LinearSVC

    features = _Features(texts)
    return linear_head(features, features(texts), labels, partial(LinearSVC, C=0.3, random_state=seed), variant)


def _forest(variant: Variant, texts: Sequence[str], labels: Floats, seed: int) -> Fitted:
    from sklearn.ensemble import RandomForestClassifier

    features = _Features(texts)
    forest = RandomForestClassifier(n_estimators=TREES, min_samples_leaf=2, random_state=seed)
    forest.fit(features(texts), first_topics(labels) if variant == "single" else labels)

    def ask(inputs: Any) -> Floats:
        shares = forest.predict_proba(inputs)
        result = np.zeros((inputs.shape[0], labels.shape[1]), dtype=np.float32)
        if variant == "single":
            result[:, forest.classes_] = shares
        else:
            for topic, (values, known) in enumerate(zip(shares, forest.classes_, strict=True)):
                result[:, topic] = values[:, list(known).index(1.0)] if 1.0 in known else 0.0
        return result

    return _Forest(features, ask, forest)


def _by_embeddings(variant: Variant, texts: Sequence[str], labels: Floats, seed: int) -> Fitted:
    from ml import hashed

    return hashed.fit(texts, labels, seed, variant == "single")


def _frozen(
    options: "EncoderOptions", base: str, variant: Variant, texts: Sequence[str], labels: Floats, seed: int
) -> Fitted:
    from ml import encoder_candidates

    return encoder_candidates.fit_frozen(base, options.prefix, variant, texts, labels, seed)


def _tuned(
    options: "EncoderOptions", base: str, variant: Variant, texts: Sequence[str], labels: Floats, seed: int
) -> Fitted:
    from ml import encoder_candidates

    single = variant == "single"
    return encoder_candidates.fit_tuned(base, options.prefix, single, options.epochs, texts, labels, seed)


PLAIN: dict[str, Callable[[Variant, Sequence[str], Floats, int], Fitted]] = {
    "tfidf-logistic": _logistic,
    "tfidf-svm": _svm,
    "tfidf-forest": _forest,
    "fasttext": _by_embeddings,
}
ENCODERS: dict[str, Callable[["EncoderOptions", str, Variant, Sequence[str], Floats, int], Fitted]] = {
    "frozen": _frozen,
    "tuned": _tuned,
}
NAMES = (*PLAIN, *ENCODERS)


@dataclass(frozen=True)
class EncoderOptions:
    """What candidates that are made of an encoder depend on besides it.

    Attributes:
        prefix: put before every text that an encoder reads.
        epochs: of fine-tuning.
    """

    prefix: str = ""
    epochs: int = 4


def candidates(
    names: Sequence[str], bases: Sequence[str] = (), options: EncoderOptions | None = None
) -> list[Candidate]:
    """Return the candidates of these names; `name:single` is the variant that learns one topic a post.

    Args:
        names: of `NAMES`, each with or without `:single`.
        bases: encoders, by folder or hub name; `frozen` and `tuned` are made of each.
        options: of these; None: the defaults.

    Raises:
        DataError: a name is unknown, or an encoder is asked for and no base given.
    """
    options = options or EncoderOptions()
    found: list[Candidate] = []
    for given in names:
        name, _, kind = given.partition(":")
        if name not in NAMES or kind not in ("", "single"):
            raise DataError(f"There is no candidate {given!r}; there are {', '.join(NAMES)}, each also with `:single`.")
        variant: Variant = "single" if kind else "multi"
        if name in PLAIN:
            found.append(Candidate(name, variant, partial(PLAIN[name], variant)))
        elif not bases:
            raise DataError(f"The candidate {name} needs an encoder: name it with --base.")
        else:
            for base, short in zip(bases, _short(bases), strict=True):
                # The prefix and the epochs are part of the name: trials with other ones are other trials.
                parts = [short, *([f"prefix {options.prefix.strip()!r}"] if options.prefix else [])]
                if name == "tuned":
                    parts.append(f"{options.epochs} epochs")
                what = f"{name}({', '.join(parts)})"
                found.append(Candidate(what, variant, partial(ENCODERS[name], options, base, variant)))
    return found


def _short(bases: Sequence[str]) -> list[str]:
    """Names for people: the last part of a path, unless two have it in common."""
    last = [base.rstrip("/").split("/")[-1] for base in bases]
    return [base if last.count(short) > 1 else short for base, short in zip(bases, last, strict=True)]
