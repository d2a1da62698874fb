"""NDJSON: a JSON object a line."""

from collections.abc import Iterator

from api.files.model import ByteStream, FileReader, FileRow, Layout, Limits, ReadOptions
from api.files.objects import JsonError, Parsed, RowMaker, find_columns, is_too_deep, parse
from api.files.source import Encoding, TextBlocks


class NdjsonReader(FileReader):
    """Reads a file of objects, one a line. A line that cannot be read is an error of that row alone."""

    def __init__(self, stream: ByteStream, encoding: Encoding, options: ReadOptions, limits: Limits) -> None:
        self._stream = stream
        self._encoding = encoding
        self._bounds = limits
        names, mapped = find_columns(self._values(), options, limits)
        layout = Layout("ndjson", encoding.name, None, names, mapped.mapping, mapped.guessed)
        super().__init__(layout, options, limits)

    def _rows(self) -> Iterator[FileRow]:
        maker = RowMaker(self.layout.mapping, self._bounds)
        for row_no, line, value, raw in self._values():
            if isinstance(value, JsonError):
                yield maker.broken(row_no, line, str(value))
            else:
                yield maker.row(row_no, line, value, raw)

    def _values(self) -> Parsed:
        row_no = 0
        blocks = TextBlocks(self._stream, self._encoding, self._bounds.max_row_chars)
        for line, text in blocks.lines():
            if text is None:
                row_no += 1
                yield row_no, line, JsonError(f"it is longer than {self._bounds.max_row_chars} characters"), ""
            elif not text.isspace():
                row_no += 1
                yield row_no, line, _parse_line(text), text


def _parse_line(text: str) -> object:
    if is_too_deep(text, 0, len(text)):
        return JsonError("brackets are nested too deep")
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
