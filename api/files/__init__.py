"""Readers of uploaded files: bytes of an unknown kind become rows, in the order of the file and in bounded memory.

`open_file` finds format, encoding, delimiter and columns, and returns a `FileReader` whose `layout` says what was
found and which yields a `FileRow` for each row. Read here: CSV, TSV, NDJSON, JSON arrays and plain text. A row that
cannot be used comes out with its `error` (`RowProblem`); a file that cannot be used raises one of

- `UnsupportedFile`: of a kind that is not read (`looks_like_excel`, `looks_like_parquet`, `looks_like_archive`,
  `looks_like_document`, `looks_like_media`, `looks_like_html`, `looks_like_binary`, `unsupported_media_type`);
- `TooLargeFile`: `too_many_rows`;
- `UnreadableFile`: of a kind that is read, and this one cannot be (all other members of `FileCode`; with
  `on_error="fail"` also the codes of `jobs.states.RowError`).

A further format is a further `FileReader` and a line in `_READERS`.
"""

from collections.abc import Callable

from api.files.array import ArrayReader
from api.files.delimited import DelimitedReader, is_table
from api.files.encoding import find_encoding
from api.files.errors import FileCode, FileError, TooLargeFile, UnreadableFile, UnsupportedFile
from api.files.kind import WHITE, Kind, find_kind, refuse_foreign
from api.files.model import FIELDS, ByteStream, FileReader, FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.ndjson import NdjsonReader
from api.files.plain import PlainReader
from api.files.rows import problem_of
from api.files.source import Encoding, TextBlocks

__all__ = [
    "FIELDS",
    "FileCode",
    "FileError",
    "FileReader",
    "FileRow",
    "Layout",
    "Limits",
    "ReadOptions",
    "RowProblem",
    "TooLargeFile",
    "UnreadableFile",
    "UnsupportedFile",
    "open_file",
    "problem_of",
]

_READERS: dict[Kind, Callable[[ByteStream, Encoding, ReadOptions, Limits], FileReader]] = {
    "csv": lambda stream, encoding, options, limits: DelimitedReader(stream, encoding, "csv", options, limits),
    "tsv": lambda stream, encoding, options, limits: DelimitedReader(stream, encoding, "tsv", options, limits),
    "ndjson": NdjsonReader,
    "json": ArrayReader,
    "text": PlainReader,
}


def open_file(
    stream: ByteStream, filename: str | None, media_type: str | None, options: ReadOptions, limits: Limits
) -> FileReader:
    """Find out how to read a file and return a reader of its rows.

    `stream` must be seekable and is read from its start, once to check the encoding of all of it and then again for
    each iteration over the reader; it is not closed. The name and the media type, either of which may be missing or
    wrong, are hints. Raises `FileError`, here or while iterating, and nothing else for whatever the bytes are.
    """
    refuse_foreign(stream)
    encoding = find_encoding(stream, options.encoding)
    beginning, is_whole = _beginning(stream, encoding, limits)
    kind = find_kind(filename, media_type, beginning)
    if kind == "text" and (options.delimiter or options.columns or is_table(beginning, is_whole, limits)):
        kind = "csv"
    return _READERS[kind](stream, encoding, options, limits)


def _beginning(stream: ByteStream, encoding: Encoding, limits: Limits) -> tuple[str, bool]:
    """Return some text from the first that is not white space on, and whether it goes on to the end of the file."""
    blocks = TextBlocks(stream, encoding, limits.max_row_chars)
    while part := blocks.next_part():
        if part.strip(WHITE):
            return part.lstrip(WHITE), not blocks.next_part()
    raise UnreadableFile(FileCode.EMPTY_FILE, "The file is empty.")
