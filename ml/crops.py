"""Short pieces of posts: the page takes texts of a few words, and few posts are that short."""

import numpy as np

SHORTEST, LONGEST = 2, 30


def crop(text: str, rng: np.random.Generator) -> str:
    """Return 2 to 30 neighbouring words of `text`, from a random place; a shorter text is returned whole."""
    words = text.split()
    count = int(rng.integers(SHORTEST, LONGEST + 1))
    if len(words) <= count:
        return text
    start = int(rng.integers(len(words) - count + 1))
    return " ".join(words[start : start + count])
