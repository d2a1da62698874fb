"""What goes into reading a file and what comes out of it, the same for every format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from api.files.errors import FileCode, TooLargeFile, UnreadableFile
from jobs.settings import Settings
from jobs.states import RowError

FIELDS = ("doc_text", "image2text", "speech2text", "custom_id")
"""What a column can be mapped to: the three texts of a post, and the caller's own id of it."""

GIVE_UP_AFTER = 1000
"""A file whose first rows, so many of them, cannot be read is refused without reading on."""


class ByteStream(Protocol):
    """As much of a binary file as a reader needs: a request on its way in, a file, a `BytesIO`.

    It is read once, from where it stands to its end. Fewer bytes than asked for mean nothing; no bytes are the end.
    """

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class ReadOptions:
    """What the caller says about a file. Everything left out is found."""

    encoding: str | None = None
    delimiter: str | None = None
    columns: Mapping[str, str] | None = None
    """Which column of the file is which of `FIELDS`."""
    sheet: str | None = None
    """Which sheet of a spreadsheet: its name, or its number from 1; the first one unless told otherwise."""
    on_error: Literal["skip", "fail"] = "skip"
    """`skip`: a row that cannot be used comes out with its `error`. `fail`: the first one refuses the file."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read, from the settings."""

    max_rows: int
    max_columns: int
    max_text_chars: int
    """The texts of a row together."""
    max_header_chars: int = 40_000
    """The names of all columns together. They are stored with every row: long ones would make much of a small file."""
    max_depth: int = 64
    """Brackets within brackets. Postgres, and whoever reads the results, must be able to parse what is kept."""
    max_bytes: int = 2 << 30
    """A file that has to be spooled, as it is unpacked."""
    max_unpacked_bytes: int = 8 << 30
    max_unpack_ratio: int = 200
    max_archive_entries: int = 10_000
    max_parser_bytes: int = 3 << 30
    """Memory of the process that parses a spreadsheet or a Parquet file."""

    @staticmethod
    def of(settings: Settings) -> "Limits":
        """The limits of this process."""
        return Limits(
            max_rows=settings.max_rows,
            max_columns=settings.max_columns,
            max_text_chars=settings.max_text_chars,
            max_header_chars=settings.max_header_chars,
            max_depth=settings.max_depth,
            max_bytes=settings.max_body_bytes,
            max_unpacked_bytes=settings.max_unpacked_bytes,
            max_unpack_ratio=settings.max_unpack_ratio,
            max_archive_entries=settings.max_archive_entries,
            max_parser_bytes=settings.max_parser_bytes,
        )

    @property
    def max_row_chars(self) -> int:
        """The longest row that is held in memory: room for long texts and for long columns beside them."""
        return 4 * self.max_text_chars + 1_000_000


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row cannot be classified."""

    code: RowError
    message: str
    column: str | None = None
    line: int | None = None
    """The line of the file on which the row begins, from 1."""


class FileRow(NamedTuple):
    """One row of data. Its values can be stored: none of them holds a NUL or a lone surrogate.

    A tuple, because one is made for each of millions of rows, and a frozen dataclass takes three times as long.
    """

    row_no: int
    """From 1, in the order of the file; the header and blank lines do not count."""
    doc_text: str
    image2text: str
    speech2text: str
    custom_id: str | None
    extra: dict[str, object]
    """All other columns, in the order of the file: text, or JSON values where the file has types."""
    error: RowProblem | None = None


@dataclass(frozen=True)
class Layout:
    """How a file is read; shown to the caller before it is used."""

    format: Literal["csv", "tsv", "ndjson", "json", "text", "xlsx", "xls", "ods", "parquet"]
    encoding: str | None
    """None for formats that are no text."""
    delimiter: str | None
    """What stands between cells; None for a single column and for formats without cells."""
    columns: tuple[str, ...]
    """The columns of the file in its own order, each name once (see `api.files.columns`)."""
    mapping: Mapping[str, str]
    """Which column is which of `FIELDS`."""
    guessed: bool
    """Whether the column of texts was guessed from its name rather than named."""
    sheet: str | None = None
    """The name of the sheet that is read, of a spreadsheet."""
    sheets: tuple[str, ...] = ()
    """All sheets that the file has, in its own order."""


class FileReader(ABC):
    """A file that is being read. Iterating yields its rows, once: what was read is gone.

    `open_file` makes one. Memory stays bounded by `Limits.max_row_chars`, whatever is in the file.
    """

    def __init__(self, layout: Layout, options: ReadOptions, limits: Limits) -> None:
        self._layout = layout
        self._options = options
        self._limits = limits
        self._begun = False

    @property
    def layout(self) -> Layout:
        """How the file is read, as far as it is known by now; complete when all rows were read."""
        return self._layout

    def __iter__(self) -> Iterator[FileRow]:
        """Yield the rows. Raises `FileError` at the place where the file as a whole turns out to be unusable."""
        if self._begun:
            raise RuntimeError("the rows of a file are read once")
        self._begun = True
        row_no = 0
        first_problem: RowProblem | None = None
        readable = False
        max_rows = self._limits.max_rows
        for row in self._rows():
            row_no = row.row_no
            if row_no > max_rows:
                raise TooLargeFile(FileCode.TOO_MANY_ROWS, f"The file has more than {max_rows} rows.")
            if row.error is None:
                readable = True
            else:
                self._refuse_if_asked(row.error)
                first_problem = first_problem or row.error
                # A text that is empty or too long was read; only rows that were not count against the file.
                readable = readable or row.error.code not in (RowError.BROKEN_ROW, RowError.NOT_TEXT)
                if row_no >= GIVE_UP_AFTER and not readable:
                    break
            yield row
        if first_problem is not None and not readable:
            raise UnreadableFile(
                FileCode.NO_READABLE_ROW,
                f"None of the first {row_no} rows can be read. The first one: {first_problem.message}",
                line=first_problem.line,
                column=first_problem.column,
            )
        if row_no == 0:
            raise UnreadableFile(FileCode.NO_ROWS, "The file has no rows of data.")

    @abstractmethod
    def _rows(self) -> Iterator[FileRow]:
        """Yield every row, with `row_no` counted from 1."""

    def _refuse_if_asked(self, problem: RowProblem) -> None:
        if self._options.on_error == "fail":
            raise UnreadableFile(problem.code, problem.message, line=problem.line, column=problem.column)
