"""Explore labelled posts: counts, lengths, words, overlap, a map of the texts and doubtful labels, in one HTML page."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from ml import mapping, report, svg
from ml.data import Dataset, read_folder, text_key
from ml.errors import DataError
from ml.findings import Place
from ml.posts import FIELDS, compose
from ml.rawposts import read_raw
from ml.suspects import Suspect, TopicNoise, find_suspects, noise_of_topics
from ml.svg import Spread
from ml.targets import out_of_fold
from ml.wordcounts import words_of_topics

Say = Callable[[str], None]

SHOWN_SUSPECTS = 150
SHOWN_CHARS = 400
FIELD_NAMES = {
    "doc_text": "what the author wrote",
    "image2text": "read on the picture",
    "speech2text": "heard in the video",
}


@dataclass(frozen=True)
class ExploreOptions:
    """Everything that an exploration depends on, besides its data.

    Attributes:
        base: an encoder for the map, by folder or hub name; empty: TF-IDF.
        prefix: put before every text that the encoder reads.
        seed: of folds, map and clusters.
    """

    base: str = ""
    prefix: str = ""
    seed: int = 1


@dataclass(frozen=True)
class Doubt:
    """A doubtful label as it is shown and written: where the post stands, what it says, what is doubted."""

    places: tuple[Place, ...]
    topic: str
    has_label: bool
    probability: float
    topics: tuple[str, ...]
    text: str
    fields: tuple[str, ...]

    @property
    def suspicion(self) -> str:
        """`wrong`: the post may not deserve its topic; `missing`: it may deserve a topic that it lacks."""
        return "wrong" if self.has_label else "missing"


@dataclass(frozen=True)
class Map:
    """The texts as points, with clusters; figures are None where there is too little to compare."""

    what: str
    posts: int
    topics: list[Markup]
    clusters: list[Markup]
    contents: Markup
    agreement: mapping.Agreement | None


@dataclass(frozen=True)
class Exploration:
    """What was found; `page` makes the report of it.

    Attributes:
        doubts: all doubtful labels, the least believable first.
    """

    page: str
    doubts: tuple[Doubt, ...]
    noise: tuple[TopicNoise, ...]


def explore(folder: Path, options: ExploreOptions, say: Say = lambda _: None) -> Exploration:
    """Look at the CSV files of `folder` from all sides. One seed gives one page on one machine.

    Raises:
        DataError: as `ml.data.read_folder`, or there are too few posts for a model.
        ModelError: `options.base` cannot be loaded.
    """
    posts = read_folder(folder)
    say(f"{len(posts.posts)} distinct posts, {len(posts.topics)} topics: counting words ...")
    words = words_of_topics(posts)
    say("placing the texts on a map ...")
    found_map = _map(posts, options)
    say("looking for doubtful labels: training plain models out of fold, which takes longest ...")
    suspects = _suspects(posts, options.seed)
    ids = [topic.id for topic in posts.topics]
    doubts = _doubts(folder, posts, suspects)
    noise = noise_of_topics(posts.labels, ids, suspects)
    page = report.render(
        "explore.html",
        folder=str(folder),
        data=posts,
        digest=posts.digest(),
        options=options,
        balance=_balance(posts),
        lengths=_lengths(posts),
        words=list(zip(posts.topics, words, strict=True)),
        overlap=_overlap(posts),
        several=int((posts.labels.sum(axis=1) > 1).sum()),
        map=found_map,
        noise=noise,
        doubts=doubts[:SHOWN_SUSPECTS],
        doubts_total=len(doubts),
    )
    return Exploration(page, doubts, noise)


def write_suspects(file: Path, doubts: Sequence[Doubt]) -> None:
    """Write doubtful labels as CSV, one a row; a post that stands in several files is named by the first.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["suspicion", "topic", "probability", "topics", "file", "row", *FIELDS])
            for one in doubts:
                place = one.places[0]
                where = (";".join(one.topics), place.file, place.row)
                writer.writerow([one.suspicion, one.topic, f"{one.probability:.4f}", *where, *one.fields])
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}.") from error


def _suspects(posts: Dataset, seed: int) -> list[Suspect]:
    try:
        probabilities = out_of_fold(posts, seed)
    except ValueError as error:
        # scikit-learn says so where a fold has no word twice.
        raise DataError(f"There are too few posts to train a plain model on: {error}.") from error
    return find_suspects(posts.labels, probabilities)


def _balance(posts: Dataset) -> Markup:
    shared = posts.labels[posts.labels.sum(axis=1) > 1].sum(axis=0)
    rows = [
        (topic.id, float(count), float(pale))
        for topic, count, pale in zip(posts.topics, posts.labels.sum(axis=0), shared, strict=True)
    ]
    return svg.bars(rows, "Posts per topic")


def _lengths(posts: Dataset) -> list[tuple[str, str, str, Markup]]:
    """For each field: its name, what it is, the share of posts that have it, and lengths per topic."""
    charts = []
    for field in FIELDS:
        counts = np.array([len(getattr(post, field).split()) for post in posts.posts])
        has = counts > 0
        rows = [(topic.id, _spread(counts[has & (posts.labels[:, n] > 0)])) for n, topic in enumerate(posts.topics)]
        share = f"{100 * has.mean():.0f} %"
        charts.append((field, FIELD_NAMES[field], share, svg.spreads(rows, f"Words of {field} per topic")))
    return charts


def _spread(counts: npt.NDArray[Any]) -> Spread | None:
    return Spread(*(float(value) for value in np.percentile(counts, [5, 25, 50, 75, 95]))) if len(counts) else None


def _overlap(posts: Dataset) -> Markup:
    ids = [topic.id for topic in posts.topics]
    together = posts.labels.T @ posts.labels
    shares = together / np.maximum(np.diag(together)[:, None], 1)
    return svg.heatmap(ids, ids, shares.astype(np.float64), "Share of a topic's posts that have another topic too")


def _map(posts: Dataset, options: ExploreOptions) -> Map | None:
    """Place the texts and cluster them; None for fewer texts than a map needs."""
    rows = np.arange(len(posts.posts))
    if len(rows) > mapping.MOST_POINTS:
        rows = np.sort(np.random.default_rng(options.seed).choice(rows, mapping.MOST_POINTS, replace=False))
    if len(rows) < mapping.LEAST_POINTS:
        return None
    some = posts.take(rows)
    texts = [compose(post) for post in some.posts]
    if options.base:
        from ml.embedding import encoder_vectors

        vectors = encoder_vectors(options.base, texts, options.prefix)
    else:
        vectors = mapping.tfidf_vectors(texts, options.seed)
    count = len(posts.topics)
    clusters = mapping.cluster(vectors, count, options.seed)
    points = mapping.place(vectors, options.seed)
    panels = [
        (f"topic {topic.id}", np.flatnonzero(some.labels[:, number] > 0), number)
        for number, topic in enumerate(posts.topics)
    ]
    panels += [(f"cluster {number + 1}", np.flatnonzero(clusters == number), number) for number in range(count)]
    charts = svg.scatters(points, panels)
    contents = np.array([some.labels[clusters == number].sum(axis=0) for number in range(count)], dtype=np.float64)
    contents /= np.maximum(contents.sum(axis=1, keepdims=True), 1)
    return Map(
        what=options.base or "TF-IDF of words, 50 dimensions of its singular value decomposition",
        posts=len(rows),
        topics=charts[:count],
        clusters=charts[count:],
        contents=svg.heatmap(
            [f"cluster {number + 1}" for number in range(count)],
            [topic.id for topic in posts.topics],
            contents,
            "Share of each topic among the labels of a cluster",
        ),
        agreement=mapping.agreement(vectors, some.labels, clusters),
    )


def _doubts(folder: Path, posts: Dataset, suspects: Sequence[Suspect]) -> tuple[Doubt, ...]:
    places: dict[str, list[Place]] = {}
    for file in sorted(folder.glob("*.csv")):
        for raw in read_raw(file, file.name)[0].posts:
            places.setdefault(raw.text, []).append(raw.place)
    doubts = []
    for one in suspects:
        post = posts.posts[one.row]
        text = compose(post)
        doubts.append(
            Doubt(
                places=tuple(places[text_key(post)]),
                topic=posts.topics[one.topic].id,
                has_label=one.has_label,
                probability=one.probability,
                topics=tuple(t.id for t, on in zip(posts.topics, posts.labels[one.row], strict=True) if on),
                text=text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…",
                fields=(post.doc_text, post.image2text, post.speech2text),
            )
        )
    return tuple(doubts)
