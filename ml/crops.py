"""Short pieces of posts: the page takes texts of a few words, and few posts are that short."""

from collections.abc import Sequence

import numpy as np

SHORTEST, LONGEST = 2, 30

PIECES = 3
"""Crops of each post that calibration learns from and short texts are measured on: one alone is much luck."""


def crop(text: str, rng: np.random.Generator) -> str:
    """Return 2 to 30 neighbouring words of `text`, from a random place; a shorter text is returned whole."""
    words = text.split()
    count = int(rng.integers(SHORTEST, LONGEST + 1))
    if len(words) <= count:
        return text
    start = int(rng.integers(len(words) - count + 1))
    return " ".join(words[start : start + count])


def pieces(texts: Sequence[str], seed: int) -> list[str]:
    """Return `PIECES` crops of each text: one of each text, then another of each, and so on."""
    rng = np.random.default_rng(seed)
    return [crop(text, rng) for _ in range(PIECES) for text in texts]
