"""NDJSON: a JSON object a line."""

from collections.abc import Iterator

from api.files.model import Limits, ReadOptions
from api.files.object_reader import ObjectReader
from api.files.objects import JsonError, Parsed, is_too_deep, parse, too_deep
from api.files.source import Text, TextBlocks


class NdjsonReader(ObjectReader):
    """Reads a file of objects, one a line. A line that cannot be read is an error of that row alone."""

    def __init__(self, text: Text, options: ReadOptions, limits: Limits) -> None:
        super().__init__(text, "ndjson", _values(text.look(), limits), options, limits)

    def _values(self) -> Parsed:
        return _values(self._text.read(), self._limits)


def _values(parts: Iterator[str], limits: Limits) -> Parsed:
    row_no = 0
    for line, text in TextBlocks(parts, limits.max_row_chars).lines():
        if text is None:
            row_no += 1
            yield row_no, line, JsonError(f"it is longer than {limits.max_row_chars} characters"), ""
        elif not text.isspace():
            row_no += 1
            yield row_no, line, _parse_line(text, limits.max_depth), text


def _parse_line(text: str, max_depth: int) -> object:
    if is_too_deep(text, max_depth):
        return too_deep(max_depth)
    try:
        value, end = parse(text)
    except JsonError as error:
        if error.place is None:
            return error
        # What is missing at the end is missing before the line end.
        return JsonError(f"{error} at character {min(error.place, len(text.rstrip())) + 1}")
    if text[end:].strip():
        return JsonError(f"something follows the object at character {end + 1}")
    return value
