"""Posts for a test to send, and what must have become of them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.fake_classifier import expected


def posts(count: int, special: Mapping[int, str] | None = None) -> tuple[list[str], bytes]:
    """So many texts, those of `special` at their rows, and a CSV file of them."""
    texts = [(special or {}).get(number, f"пост номер {number}, обычный") for number in range(1, count + 1)]
    return texts, csv_of(texts)


def csv_of(texts: Sequence[str]) -> bytes:
    """A CSV file with a text a line."""
    return ("doc_text\n" + "".join(f'"{text}"\n' for text in texts)).encode()


def digest(text: str) -> str:
    """What tells texts apart in a multiset."""
    return hashlib.sha256(text.encode()).hexdigest()


def assert_whole(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> None:
    """Every text is there once and in order, with the result that belongs to it or an error."""
    got = Counter((row["row"], digest(row["doc_text"])) for row in rows)
    sent = Counter((number, digest(text)) for number, text in enumerate(texts, 1))
    assert {"lost": sent - got, "doubled or unexpected": got - sent} == {"lost": {}, "doubled or unexpected": {}}
    assert [row["row"] for row in rows] == list(range(1, len(texts) + 1))
    wrong = [row for row in rows if row["error"] is None and row["sport"] != pytest.approx(expected(row["doc_text"]))]
    assert wrong == []
