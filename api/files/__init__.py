"""Readers of uploaded files: bytes of an unknown kind become rows, in the order of the file and in bounded memory.

`open_file` finds format, encoding, delimiter and columns, and returns a `FileReader` whose `layout` says what was
found and which yields a `FileRow` for each row. Read here: CSV, TSV, NDJSON, JSON arrays, plain text,
spreadsheets (XLSX, XLS, ODS) and Parquet, each of them packed by gzip or not. A row that cannot be used comes out with
its `error` (`RowProblem`); a file that cannot be used raises one of

- `UnsupportedFile`: of a kind that is not read (`looks_like_excel`, `looks_like_archive`, `looks_like_document`,
  `looks_like_media`, `looks_like_html`, `looks_like_binary`, `packed_twice`, `unsupported_media_type`);
- `TooLargeFile`: `too_many_rows`, `too_many_bytes`, `unpacks_too_far`, `too_many_entries`, `too_much_memory`,
  `too_much_time`;
- `UnreadableFile`: of a kind that is read, and this one cannot be (all other members of `FileCode`; with
  `on_error="fail"` also the codes of `jobs.states.RowError`).

A further format is a further `FileReader` and a line in `_READERS` or `_BINARY_READERS`.
"""

from collections.abc import Callable
from typing import BinaryIO

from api.files.array import ArrayReader
from api.files.delimited import DelimitedReader, is_table
from api.files.encoding import Decoder
from api.files.errors import FileCode, FileError, TooLargeFile, UnreadableFile, UnsupportedFile
from api.files.gzipped import SIGNATURE, Gunzip
from api.files.kind import SIGNATURE_BYTES, WHITE, BinaryKind, Kind, binary_kind, find_kind, refuse_foreign
from api.files.model import FIELDS, ByteStream, FileReader, FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.ndjson import NdjsonReader
from api.files.parquet import ParquetReader
from api.files.plain import PlainReader
from api.files.rows import problem_of
from api.files.source import Text
from api.files.spool import spooled
from api.files.stream import Peekable
from api.files.xlsx import SheetReader

__all__ = [
    "FIELDS",
    "ByteStream",
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

_READERS: dict[Kind, Callable[[Text, ReadOptions, Limits], FileReader]] = {
    "csv": lambda text, options, limits: DelimitedReader(text, "csv", options, limits),
    "tsv": lambda text, options, limits: DelimitedReader(text, "tsv", options, limits),
    "ndjson": NdjsonReader,
    "json": ArrayReader,
    "text": PlainReader,
}
_BINARY_READERS: dict[BinaryKind, Callable[[BinaryIO, ReadOptions, Limits], FileReader]] = {
    "sheet": SheetReader,
    "parquet": ParquetReader,
}


def open_file(
    stream: ByteStream, filename: str | None, media_type: str | None, options: ReadOptions, limits: Limits
) -> FileReader:
    """Find out how to read a file and return a reader of its rows.

    `stream` is read once, from where it stands, as the rows are asked for; only as much of its beginning as finding
    out takes is held in memory. It is not closed. The name and the media type, either of which may be missing or
    wrong, are hints. Raises `FileError`, here or while iterating, and nothing else for whatever the bytes are.
    """
    incoming, filename = _unpacked(Peekable(stream), filename, limits)
    head = incoming.peek(SIGNATURE_BYTES)
    binary = binary_kind(head)
    if binary is not None:
        # Both formats have their table of contents at the end. The parser holds the file open for as long as it runs.
        with spooled(incoming, limits.max_bytes) as file:
            return _BINARY_READERS[binary](file, options, limits)
    refuse_foreign(head)
    text = Text(Decoder(incoming, options.encoding), limits.max_row_chars)
    beginning, is_whole = _beginning(text)
    kind = find_kind(filename, media_type, beginning)
    if kind == "text" and (options.delimiter or options.columns or is_table(beginning, is_whole, limits)):
        kind = "csv"
    return _READERS[kind](text, options, limits)


def _unpacked(stream: Peekable, filename: str | None, limits: Limits) -> tuple[Peekable, str | None]:
    """The stream without gzip, with the name that the file has inside it."""
    if stream.peek(len(SIGNATURE)) != SIGNATURE:
        return stream, filename
    inner = Peekable(Gunzip(stream, limits.max_unpacked_bytes, limits.max_unpack_ratio))
    if inner.peek(len(SIGNATURE)) == SIGNATURE:
        message = "The file is packed by gzip twice. Unpack it once and send that."
        raise UnsupportedFile(FileCode.PACKED_TWICE, message)
    if filename is not None and filename.lower().endswith((".gz", ".gzip")):
        filename = filename.rpartition(".")[0]
    return inner, filename


def _beginning(text: Text) -> tuple[str, bool]:
    """Return some text from the first that is not white space on, and whether it goes on to the end of the file."""
    look = text.look()
    for part in look:
        if part.strip(WHITE):
            return part.lstrip(WHITE), not next(look, "")
    what = "begins with millions of blank characters" if look.is_cut else "is empty"
    raise UnreadableFile(FileCode.EMPTY_FILE, f"The file {what}.")
