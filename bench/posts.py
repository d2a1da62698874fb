"""Posts to measure with: those of a folder of labelled CSVs, or made-up ones of the same lengths."""

import csv
import io
import itertools
import random
from dataclasses import asdict
from pathlib import Path

from ml.posts import FIELDS
from ml.probe import made_up


def read_posts(folder: Path | None, count: int, seed: int = 1) -> list[dict[str, str]]:
    """`count` posts, shuffled by `seed`: of `folder/*.csv`, repeated with a number should they not be enough, so that
    all that differed at first differ in the end."""
    shuffler = random.Random(seed)
    if folder is None:
        return [asdict(made_up(shuffler)) for _ in range(count)]
    posts = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as stream:
            posts += [{name: row.get(name) or "" for name in FIELDS} for row in csv.DictReader(stream)]
    if not posts:
        raise SystemExit(f"{folder} holds no posts.")
    shuffler.shuffle(posts)
    repeated = (
        post | {"doc_text": f"{post['doc_text']} {turn}" if turn else post["doc_text"]}
        for turn in range(-(-count // len(posts)))
        for post in posts
    )
    return list(itertools.islice(repeated, count))


def as_csv(posts: list[dict[str, str]]) -> bytes:
    """The posts as a CSV file in UTF-8."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(posts)
    return text.getvalue().encode()
