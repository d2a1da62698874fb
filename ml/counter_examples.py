"""Texts on none of the topics: what a model learns to leave alone, and what it is measured with.

A table, CSV or TSV, with a column `text` (or `doc_text`). A column `category` names the kind of each text; a column
`split` may mark rows that no training learns from, for a model that has learnt other texts of one kind says little of
what it makes of a kind that it has never seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml import data
from ml.errors import DataError
from ml.posts import Post, is_empty

SPLITS = ("", "train", "validation")


@dataclass(frozen=True)
class Source:
    """A table of counter-examples, of all categories or of some."""

    file: Path
    categories: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Return the source that `FILE` or `FILE=CATEGORY,CATEGORY` names.

        Raises:
            DataError: a list of categories is empty.
        """
        whole = Path(text)
        name, sign, categories = text.rpartition("=")
        # A name may have a sign of equality in it.
        if not sign or whole.exists() or not Path(name).exists():
            return cls(whole)
        wanted = tuple(part.strip() for part in categories.split(",") if part.strip())
        if not wanted:
            raise DataError(f"--none {text} names no category: leave the sign of equality out to take all rows.")
        return cls(Path(name), wanted)


@dataclass(frozen=True)
class CounterExamples:
    """Distinct texts on none of the topics; those in `held` are not to be learnt."""

    posts: tuple[Post, ...] = ()
    held: frozenset[Post] = frozenset()

    @property
    def learnable(self) -> tuple[Post, ...]:
        """Those that are not held back, in their order."""
        return tuple(post for post in self.posts if post not in self.held)


def read(sources: Sequence[Source]) -> CounterExamples:
    """Read all `sources`; an equal text counts once, and as held back where any row says so.

    Raises:
        DataError: a file or a column is missing, a split is unknown, or a file has no row of its categories.
    """
    posts: dict[Post, None] = {}
    held: set[Post] = set()
    for source in sources:
        for post, split in _of(source):
            posts[post] = None
            if split == "validation":
                held.add(post)
    return CounterExamples(tuple(posts), frozenset(held))


def parts(
    found: CounterExamples, kept: frozenset[str], share: float, seed: int
) -> tuple[tuple[Post, ...], tuple[Post, ...]]:
    """Return counter-examples to learn from and such to validate with.

    Args:
        found: all there are.
        kept: keys (`data.text_key`) of those that the model to start from has not learnt; where `found` has some of
            them they are held back again, else a random share of what is not marked is.
        share, seed: of the random split.
    """
    again = {post for post in found.posts if data.text_key(post) in kept}
    free = found.learnable
    if not again:
        order = np.random.default_rng(seed).permutation(len(free))
        again = {free[row] for row in order[: round(share * len(free))]}
    held = again | found.held
    return (
        tuple(post for post in found.posts if post not in held),
        tuple(post for post in found.posts if post in held),
    )


def _of(source: Source) -> list[tuple[Post, str]]:
    file, wanted = source.file, set(source.categories)
    rows = data.table_rows(file, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    columns = rows[0].keys() if rows else ()
    text_column = next((name for name in ("text", "doc_text") if name in columns), None)
    if text_column is None or (wanted and "category" not in columns):
        missing = "text" if text_column is None else "category"
        raise DataError(f"{file} has no column `{missing}`.")
    # A row that is too short has nothing in its last columns.
    kinds = [(row.get("category") or "").strip() for row in rows]
    known = set(kinds)
    if unknown := wanted - known:
        others = ", ".join(sorted(known - {""}))
        raise DataError(f"{file} has no row of the category {', '.join(sorted(unknown))}; it has {others}.")
    found = []
    for row, kind in zip(rows, kinds, strict=True):
        post, split = Post(doc_text=row[text_column] or ""), (row.get("split") or "").strip()
        if split not in SPLITS:
            raise DataError(f"{file} has the split {split!r}: it may be train, validation or empty.")
        if not is_empty(post) and (not wanted or kind in wanted):
            found.append((post, split))
    if not found:
        raise DataError(f"{file} has no text.")
    return found
