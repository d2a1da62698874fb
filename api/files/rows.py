"""What makes a post usable, whichever way it came in."""

import re
from collections.abc import Mapping

from api.files.model import RowProblem
from jobs.states import RowError

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
TEXT_FIELDS = ("doc_text", "image2text", "speech2text")


def text_columns(mapping: Mapping[str, str]) -> tuple[str, str, str]:
    """What the three texts are called in a file: the mapped columns, or the fields' own names."""
    doc, image, speech = (mapping.get(field, field) for field in TEXT_FIELDS)
    return doc, image, speech


def storable(text: str) -> str:
    """Replace by U+FFFD what Postgres can hold neither as text nor as JSON: NUL and lone surrogates."""
    return _UNSTORABLE.sub("\ufffd", text)


def is_storable(text: str) -> bool:
    """Whether a text has neither NUL nor lone surrogates."""
    return _UNSTORABLE.search(text) is None


def problem_of(
    texts: tuple[str, str, str],
    max_chars: int,
    *,
    line: int | None = None,
    names: tuple[str, str, str] = TEXT_FIELDS,
) -> RowProblem | None:
    """Say why a post of (doc_text, image2text, speech2text) cannot be classified; None when it can.

    `max_chars` bounds the three together; `names` are what the three are called where they come from. Of several
    reasons the first of these is given: too long, characters that no text may contain, empty.
    """
    chars = sum(map(len, texts))
    if chars > max_chars:
        message = f"The texts are {chars} characters long together; the limit is {max_chars}."
        return RowProblem(RowError.TOO_LONG, message, None, line)
    for name, text in zip(names, texts, strict=True):
        found = _UNSTORABLE.search(text)
        if found is not None:
            what = "a NUL" if found.group() == "\x00" else "half of a surrogate pair"
            message = f"Character {found.start() + 1} of {name} is {what}, which no text may contain."
            return RowProblem(RowError.INVALID_CHARACTERS, message, name, line)
    if not any(text and not text.isspace() for text in texts):
        return RowProblem(RowError.EMPTY, "All texts of the post are empty.", None, line)
    return None


def storable_texts(texts: tuple[str, str, str], max_chars: int) -> tuple[str, str, str]:
    """Make the texts of a failed row fit to be kept beside its error: storable, and cut to `max_chars` together."""
    kept = []
    for text in texts:
        kept.append(storable(text[:max_chars]))
        max_chars -= len(kept[-1])
    return kept[0], kept[1], kept[2]
