"""Labelled posts from a folder of CSV files, one file per topic, and their split into training and validation.

The name of a file is the id of its topic; a post that stands in several files has several topics. A file `names.json`
beside them (`{"sport": {"name": "Спорт", "name_en": "Sport"}, ...}`) names the topics for people and sets their order.
"""

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml.errors import DataError
from ml.posts import FIELDS, Post, compose, is_empty

NAMES_FILE = "names.json"

# The default list, in the order in which it is shown.
DEFAULT_NAMES = {
    "sport": ("Спорт", "Sport"),
    "humour": ("Юмор", "Humour"),
    "ads": ("Реклама", "Ads"),
    "social": ("Соцсети", "Social media"),
    "politics": ("Политика", "Politics"),
    "personal": ("Личная жизнь", "Personal life"),
}

_NOT_LETTERS = re.compile(r"https?://\S+|[\W_]+")
_DIGITS = re.compile(r"\d+")

csv.field_size_limit(16 * 1024 * 1024)


@dataclass(frozen=True)
class TopicName:
    """A topic as people see it."""

    id: str
    name: str
    name_en: str


@dataclass(frozen=True)
class Dataset:
    """Distinct posts with their topics.

    Attributes:
        topics: in label order.
        posts: n distinct posts.
        labels: float32 (n, topics), 1 where the post has the topic.
        groups: for each post a key that near-equal posts share, so that a split never separates them.
    """

    topics: tuple[TopicName, ...]
    posts: tuple[Post, ...]
    labels: npt.NDArray[np.float32]
    groups: tuple[str, ...]

    def digest(self) -> str:
        """Return a SHA-256 over texts and labels that does not depend on their order."""
        rows = sorted(
            f"{text_key(post)} {','.join(t.id for t, on in zip(self.topics, row, strict=True) if on)}"
            for post, row in zip(self.posts, self.labels, strict=True)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> "Dataset":
        """Return the posts with these indices, in this order."""
        chosen = [int(row) for row in rows]
        return Dataset(
            self.topics,
            tuple(self.posts[row] for row in chosen),
            self.labels[chosen],
            tuple(self.groups[row] for row in chosen),
        )


def text_key(post: Post) -> str:
    """Return 16 hexadecimal digits that stand for the text of `post` (its three fields, as composed)."""
    return hashlib.sha256(compose(post).encode()).hexdigest()[:16]


def group_key(post: Post) -> str:
    """Return a key that posts share when they differ in case, punctuation, links, emoji or numbers alone."""
    letters = _DIGITS.sub("0", _NOT_LETTERS.sub("", compose(post).casefold()))
    # A post of nothing but emoji or links has no letters: it is its own group.
    return hashlib.sha256((letters or compose(post)).encode()).hexdigest()[:16]


def read_folder(folder: Path) -> Dataset:
    """Read every `*.csv` of `folder`; equal texts become one post with the topics of all the files it stands in.

    Raises:
        DataError: the folder or a column is missing, a file is empty or not UTF-8, or there are fewer than two topics.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: training data is a folder of CSV files, one per topic.")
    files = sorted(folder.glob("*.csv"))
    if len(files) < 2:
        raise DataError(f"{folder} holds {len(files)} CSV files: at least two topics are needed, a file each.")
    topics = _topics(folder, [file.stem for file in files])
    column = {topic.id: index for index, topic in enumerate(topics)}
    posts: dict[str, Post] = {}
    labels: dict[str, set[int]] = {}
    for file in files:
        for post in _read_csv(file):
            key = text_key(post)
            posts.setdefault(key, post)
            labels.setdefault(key, set()).add(column[file.stem])
    matrix = np.zeros((len(posts), len(topics)), dtype=np.float32)
    for row, key in enumerate(posts):
        matrix[row, sorted(labels[key])] = 1.0
    distinct = tuple(posts.values())
    return Dataset(topics, distinct, matrix, tuple(group_key(post) for post in distinct))


def write_keys(file: Path, data: Dataset) -> None:
    """Write the posts of `data` as TSV: `key`, `topics` with semicolons between them, and the three fields.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerow(["key", "topics", *FIELDS])
            for post, row in zip(data.posts, data.labels, strict=True):
                topics = ";".join(topic.id for topic, on in zip(data.topics, row, strict=True) if on)
                writer.writerow([text_key(post), topics, *(getattr(post, field) for field in FIELDS)])
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}.") from error


def split(data: Dataset, share: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the indices of the training and of the validation posts, each sorted.

    Posts of one group stay together, and every set of topics gives about `share` of its groups to validation.
    """
    parts = folds(data, max(2, round(1 / share)), seed)
    validation = np.flatnonzero(parts == 0)
    return np.flatnonzero(parts != 0), validation


def folds(data: Dataset, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return for each post the number of its fold, 0 to `count` - 1; grouped and stratified by set of topics."""
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(data.groups):
        members.setdefault(group, []).append(row)
    strata: dict[tuple[int, ...], list[str]] = {}
    for group, rows in sorted(members.items()):
        topics = tuple(np.flatnonzero(data.labels[rows].max(axis=0)).tolist())
        strata.setdefault(topics, []).append(group)
    parts = np.zeros(len(data.posts), dtype=np.int64)
    # One counter runs through all strata, so that many small ones do not all start with the same fold.
    turn = int(rng.integers(count))
    for _, groups in sorted(strata.items()):
        for index in rng.permutation(len(groups)):
            parts[members[groups[int(index)]]] = turn % count
            turn += 1
    return parts


def _topics(folder: Path, stems: list[str]) -> tuple[TopicName, ...]:
    names = dict(DEFAULT_NAMES)
    file = folder / NAMES_FILE
    if file.exists():
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
            names = {str(key): (str(value["name"]), str(value["name_en"])) for key, value in given.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{file} must be JSON like {{"sport": {{"name": "Спорт", "name_en": "Sport"}}}}.'
            ) from error
    known = [stem for stem in names if stem in stems]
    others = [stem for stem in stems if stem not in names]
    return tuple(TopicName(stem, *names.get(stem, (stem, stem))) for stem in known + others)


def _read_csv(file: Path) -> list[Post]:
    rows = table_rows(file, delimiter=",")
    if rows and "doc_text" not in rows[0]:
        # Cells beyond the header have no column.
        columns = ", ".join(name for name in rows[0] if name is not None)
        raise DataError(
            f"{file} has no column `doc_text`; its columns are {columns}. Cells are divided by commas; `rubrika data "
            "check` finds out what else is wrong."
        )
    posts = [Post(*(row.get(field) or "" for field in FIELDS)) for row in rows]
    posts = [post for post in posts if not is_empty(post)]
    if not posts:
        raise DataError(f"{file} has no row with a text in it.")
    return posts


def table_rows(file: Path, delimiter: str) -> list[dict[str, str]]:
    """Return the rows of a table with a header, in UTF-8.

    Raises:
        DataError: there is no such file, or it is no such table.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter=delimiter))
    except FileNotFoundError as error:
        raise DataError(f"There is no file {file}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: save it as UTF-8 and try again.") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a table: {error}.") from error
