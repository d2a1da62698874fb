"""Variants: texts written after posts, which could have stood in their place, to be learnt beside them.

A network that sees four thousand posts learns their names and events by heart. Somebody who knows the world, a person
or a large language model, can write of another match, another star, another shop as the author of a post would have.
What is known of the post, its labels and what its teachers think, is then known of the variant (augmentation that keeps
the label: Dai et al. 2023, arXiv:2302.13007). A variant is learnt only where its post is, so that nothing of a post
that was held back comes in through it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml import data
from ml.errors import DataError
from ml.posts import FIELDS, Post, is_empty

KEY = "key"

LOOKS = 1 / 3
"""A post is looked at whole and in crops; a variant so many times as often. Nobody has labelled it."""


@dataclass(frozen=True)
class Variants:
    """Distinct texts, and for each the key (`data.text_key`) of the post after which it was written."""

    posts: tuple[Post, ...] = ()
    keys: tuple[str, ...] = ()

    def of(self, posts: data.Dataset) -> tuple[tuple[Post, ...], npt.NDArray[np.int64]]:
        """Return the variants of `posts`, and for each the row of its post there, int64."""
        row = {data.text_key(post): index for index, post in enumerate(posts.posts)}
        found = [(post, row[key]) for post, key in zip(self.posts, self.keys, strict=True) if key in row]
        return tuple(post for post, _ in found), np.array([index for _, index in found], dtype=np.int64)

    def digest(self) -> str:
        """Return a SHA-256 over keys and texts, in hexadecimal; empty where there are none."""
        told = "".join(f"{key} {data.text_key(post)} " for post, key in zip(self.posts, self.keys, strict=True))
        return hashlib.sha256(told.encode()).hexdigest() if told else ""


def crops_of(crops: float) -> float:
    """Return how many crops of a variant are learnt where so many of a post are."""
    return max(0.0, LOOKS * (1 + crops) - 1)


def read(files: Sequence[str | Path]) -> Variants:
    """Read tables of variants, TSV or CSV with the columns `key`, `doc_text` and, if there are any, the other fields.

    A text that comes again counts once, where it came first. A row without a text counts for nothing.

    Raises:
        DataError: a file or a column is missing, or a file has no text.
    """
    found: dict[Post, str] = {}
    for file in map(Path, files):
        rows = data.table_rows(file, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        for column in (KEY, FIELDS[0]):
            if rows and column not in rows[0]:
                raise DataError(f"The variants {file} have no column `{column}`.")
        own = [(Post(*(row.get(field) or "" for field in FIELDS)), (row[KEY] or "").strip()) for row in rows]
        own = [(post, key) for post, key in own if not is_empty(post)]
        if not own:
            raise DataError(f"The variants {file} have no row with a text in it.")
        for post, key in own:
            found.setdefault(post, key)
    return Variants(tuple(found), tuple(found.values()))
