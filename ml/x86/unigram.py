"""Token ids by a unigram language model, as SentencePiece has them (Kudo 2018, arXiv:1804.10959): of all ways to cut a
word into pieces of the vocabulary the likeliest, which Viterbi's algorithm finds.

What the library for tokenizers does in the same way, in a fraction of its time: it makes a string of each piece.
Normalising stays with the library, but for texts that it would leave as they are.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ml.x86.emit import entrance

SPACE = 0x2581
"""The character that a space becomes, and that a word begins with."""

UNKNOWN_BELOW = 10.0
"""The logarithm by which a character without a piece is less likely than the rarest piece."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Of a hash of characters, one after the other (Knuth: the golden ratio)."""

NOTHING = -2
ONLY_BEGINS = -1

KEPT = 4096
SHORT = 16
"""So many strings of so many characters, mostly an emoji between two letters, are remembered as the library normalises
them: about 1 MB."""

_SPACES = re.compile(" {2,}")

Ids = npt.NDArray[np.int32]

_CANDIDATES = [
    *range(0x20, 0x7F),
    *range(0xA1, 0x250),
    *range(0x400, 0x530),
    *range(0x2010, 0x2028),
    *range(0x2030, 0x205F),
    *range(0x20A0, 0x20C1),
    *range(0x2190, 0x2C00),
    *range(0x1F300, 0x1F3FB),
    *range(0x1F400, 0x1FB00),
]
"""Among them are the characters of most texts. But for the marks, which are left out, they join no others (Unicode
Standard Annex 29), so that each is normalised by itself."""


class Unigram:
    """A tokenizer whose words are cut by our own code.

    Args:
        tokenizer: the library's.
        content: its `tokenizer.json`, which `suits` has nothing against.
    """

    def __init__(self, tokenizer: Tokenizer, content: str) -> None:
        self._normalizer: Any = tokenizer.normalizer
        told = json.loads(content)
        model = told["model"]
        self._special = [token["content"] for token in told.get("added_tokens", [])]
        pieces, scores = zip(*model["vocab"], strict=True)
        self._pieces = (
            *_table(pieces),
            np.array(scores, dtype=np.float64),
            max(map(len, pieces)),
            int(model["unk_id"]),
            min(scores) - UNKNOWN_BELOW,
        )
        # What stands around every text.
        whole, bare = tokenizer.encode("а").ids, tokenizer.encode("а", add_special_tokens=False).ids
        place = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
        self._before = np.array(whole[:place], dtype=np.int32)
        self._after = np.array(whole[place + len(bare) :], dtype=np.int32)
        alone = [one for one in map(chr, _CANDIDATES) if not unicodedata.category(one).startswith("M")]
        same = _ranges([ord(one) for one in alone if self._normalizer.normalize_str(one) == one])
        self._as_it_is = re.compile(f"[{same}]*")
        # Those that are not, with one on either side, which they may join.
        self._other = re.compile(f"[{same}]?[^{same}]+(?:[{same}][^{same}]+)*[{same}]?")
        self._normal = lru_cache(KEPT)(self._normalizer.normalize_str)

    def ids(self, text: str, most: int) -> tuple[Ids, bool] | None:
        """Return the ids of a text's tokens, `most` of them with those around it, and whether there were more; None
        where the text has something of its own meaning in it."""
        if any(token in text for token in self._special):
            return None
        if not self._as_it_is.fullmatch(text):
            text = self._other.sub(self._normalised, text)
        if "  " in text:
            text = _SPACES.sub(" ", text)
        if not text:
            return None
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        room = most - len(self._before) - len(self._after)
        found = np.empty(len(self._before) + min(room + 1, len(points) + 1) + len(self._after), dtype=np.int32)
        start = len(self._before)
        found[:start] = self._before
        count = cut(points, *self._pieces, found[start:], room + 1)
        kept = min(count, room)
        found[start + kept : start + kept + len(self._after)] = self._after
        return found[: start + kept + len(self._after)], count > room

    def _normalised(self, found: re.Match[str]) -> str:
        part: str = found[0]
        normal: str = self._normal(part) if len(part) <= SHORT else self._normalizer.normalize_str(part)
        return normal


def suits(content: str) -> bool:
    """Say whether a tokenizer, the content of a `tokenizer.json`, is one that `Unigram` knows."""
    told = json.loads(content)
    model, split, normal = (told.get(name) or {} for name in ("model", "pre_tokenizer", "normalizer"))
    steps = normal.get("normalizers", [])
    return (
        model.get("type") == "Unigram"
        and model.get("unk_id") is not None
        and not model.get("byte_fallback")
        and split.get("type") == "Metaspace"
        and split.get("replacement") == chr(SPACE)
        and split.get("prepend_scheme") == "always"
        and split.get("split") is True
        and [step.get("type") for step in steps] == ["Precompiled", "Replace"]
        and (steps[1].get("pattern"), steps[1].get("content")) == ({"Regex": " {2,}"}, " ")
        and all(token["special"] and not token["normalized"] for token in told.get("added_tokens", []))
    )


def _ranges(points: Sequence[int]) -> str:
    """Return rising code points as they stand between the brackets of a regular expression: a list of single ones would
    be gone through from one end to the other for each character that is not among them."""
    ends: list[list[int]] = []
    for point in points:
        if ends and point == ends[-1][1] + 1:
            ends[-1][1] = point
        else:
            ends.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ends)


def _table(pieces: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Return a hash table of the pieces and of what they begin with: hashes, and ids or `ONLY_BEGINS`."""
    lengths = np.array([len(piece) for piece in pieces])
    letters = np.zeros((len(pieces), lengths.max()), dtype=np.uint32)
    for row, piece in enumerate(pieces):
        letters[row, : len(piece)] = np.frombuffer(piece.encode("utf-32-le"), dtype=np.uint32)
    entries = len({piece[:end] for piece in pieces for end in range(1, len(piece) + 1)})
    # Two to four times as many: a core's second cache then holds most of it.
    size = 2 << entries.bit_length()
    hashes, found = np.zeros(size, dtype=np.uint64), np.full(size, NOTHING, dtype=np.int32)
    fill(letters, lengths, hashes, found)
    return hashes, found


@entrance
def fill(
    letters: npt.NDArray[np.uint32],
    lengths: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    found: npt.NDArray[np.int32],
) -> None:
    """Put pieces into a table whose size is a power of two."""
    mask = np.uint64(len(hashes) - 1)
    for piece in range(len(letters)):
        value = np.uint64(0)
        for place in range(lengths[piece]):
            value = (value + np.uint64(letters[piece, place]) + np.uint64(1)) * MULTIPLIER
            value ^= value >> np.uint64(29)
            slot = value & mask
            while found[slot] != NOTHING and hashes[slot] != value:
                slot = (slot + np.uint64(1)) & mask
            if found[slot] == NOTHING:
                hashes[slot], found[slot] = value, ONLY_BEGINS
            if place == lengths[piece] - 1:
                found[slot] = piece


@entrance
def cut(
    points: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
    found: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float64],
    longest: int,
    unknown: int,
    below: float,
    out: npt.NDArray[np.int32],
    most: int,
) -> int:
    """Write the ids of a normalised text, `most` of them, and return how many.

    Args:
        points: the characters.
        hashes, found: as `_table` returns them.
        scores: logarithms of how likely pieces are.
        longest: characters of a piece.
        unknown: the id of a character that is in no piece.
        below: how likely that is.
        out: where they go.
        most: how many.
    """
    mask = np.uint64(len(hashes) - 1)
    letters = np.empty(len(points) + 1, dtype=np.uint32)
    best = np.empty(len(points) + 2, dtype=np.float64)
    token = np.empty(len(points) + 2, dtype=np.int32)
    begin = np.empty(len(points) + 2, dtype=np.int64)
    done = here = 0
    while here < len(points) and done < most:
        # A word: what begins with a space, or begins the text.
        letters[0], size = SPACE, 1
        if points[here] == SPACE or points[here] == 32:
            here += 1
        while here < len(points) and points[here] != SPACE and points[here] != 32:
            letters[size] = points[here]
            size, here = size + 1, here + 1
        for place in range(size + 1):
            begin[place] = -1
        best[0] = 0.0
        for start in range(size):
            single, value = False, np.uint64(0)
            for end in range(start, min(start + longest, size)):
                value = (value + np.uint64(letters[end]) + np.uint64(1)) * MULTIPLIER
                value ^= value >> np.uint64(29)
                slot = value & mask
                while found[slot] != NOTHING and hashes[slot] != value:
                    slot = (slot + np.uint64(1)) & mask
                if found[slot] == NOTHING:
                    break
                if found[slot] >= 0:
                    score = scores[found[slot]] + best[start]
                    if begin[end + 1] < 0 or score > best[end + 1]:
                        best[end + 1], token[end + 1], begin[end + 1] = score, found[slot], start
                    single = single or end == start
            if not single:
                score = below + best[start]
                if begin[start + 1] < 0 or score > best[start + 1]:
                    best[start + 1], token[start + 1], begin[start + 1] = score, unknown, start
        # Backwards, with unknown characters that follow one another as one; then the other way round.
        place, count, last = size, 0, -1
        while place > 0:
            if token[place] != unknown or last != unknown:
                letters[size - 1 - count] = token[place]
                count += 1
            last, place = token[place], begin[place]
        for number in range(size - count, size):
            if done < most:
                out[done] = letters[number]
                done += 1
    return done
