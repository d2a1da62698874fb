"""Posts to measure with: those of a folder of labelled CSVs, or made-up ones of the same lengths."""

import csv
import io
import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from ml.posts import FIELDS, Post, compose
from ml.probe import made_up

P = TypeVar("P")


def read_posts(folder: Path | None, count: int, seed: int = 1) -> list[dict[str, str]]:
    """The first `count` of `stream_posts`."""
    return list(itertools.islice(stream_posts(folder, seed), count))


def stream_posts(folder: Path | None, seed: int = 1) -> Iterator[dict[str, str]]:
    """Posts without end, shuffled by `seed`: of `folder/*.csv`, and when there are no more the same with a number.

    No two of them are one text for the network: what is read twice is computed once, and must not count twice.
    """
    shuffler = random.Random(seed)
    if folder is None:
        return different((asdict(made_up(shuffler)) for _ in itertools.count()), text_of)
    posts = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as stream:
            posts += [{name: row.get(name) or "" for name in FIELDS} for row in csv.DictReader(stream)]
    if not posts:
        raise SystemExit(f"{folder} holds no posts.")
    shuffler.shuffle(posts)
    numbered = (
        post | {"doc_text": f"{post['doc_text']} {turn}" if turn else post["doc_text"]}
        for turn in itertools.count()
        for post in posts
    )
    return different(numbered, text_of)


def text_of(post: dict[str, str]) -> str:
    """What a network reads of a post that takes nothing out of it."""
    return compose(Post(**post))


def different(posts: Iterable[P], text: Callable[[P], str]) -> Iterator[P]:
    """The posts whose text none before them had."""
    seen: set[str] = set()
    for post in posts:
        if (composed := text(post)) not in seen:
            seen.add(composed)
            yield post


def as_csv(posts: list[dict[str, str]]) -> bytes:
    """The posts as a CSV file in UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(posts)
    return text.getvalue().encode()
