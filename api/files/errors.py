"""Why a file is refused as a whole. The words 413, 415 and 422 are added in one place, `api.problems`."""

from enum import StrEnum

from jobs.errors import RubrikaError


class FileCode(StrEnum):
    """Every code that a `FileError` carries, besides those of `jobs.states.RowError` (when `on_error` is `fail`)."""

    # The file is something else than a table of texts (`UnsupportedFile`).
    LOOKS_LIKE_EXCEL = "looks_like_excel"
    """A spreadsheet of a kind that is not read (XLSB), whatever its name says."""

    LOOKS_LIKE_ARCHIVE = "looks_like_archive"
    """Packed: gzip, ZIP, 7z, RAR, bzip2, xz or Zstandard."""

    LOOKS_LIKE_DOCUMENT = "looks_like_document"
    """A PDF, a Word file or an RTF."""

    LOOKS_LIKE_MEDIA = "looks_like_media"
    """A picture, a sound or a video."""

    LOOKS_LIKE_HTML = "looks_like_html"
    """A web page."""

    LOOKS_LIKE_BINARY = "looks_like_binary"
    """Bytes that are no text, of a kind not known here."""

    MEDIA_TYPE = "unsupported_media_type"
    """The request declares a picture, a sound, a video or the like."""

    PACKED_TWICE = "packed_twice"
    """Gzip within gzip."""

    # The file is too large (`TooLargeFile`).
    TOO_MANY_BYTES = "too_many_bytes"
    """More bytes than `RUBRIKA_MAX_BODY_BYTES`, or unpacked than `RUBRIKA_MAX_UNPACKED_BYTES`."""

    UNPACKS_TOO_FAR = "unpacks_too_far"
    """The unpacked bytes are more than `RUBRIKA_MAX_UNPACK_RATIO` times the packed ones: it looks like a bomb."""

    TOO_MANY_ENTRIES = "too_many_entries"
    """A spreadsheet is a ZIP archive, and this one has more parts than `RUBRIKA_MAX_ARCHIVE_ENTRIES`."""

    TOO_MUCH_MEMORY = "too_much_memory"
    """A spreadsheet or a Parquet file that takes more than `RUBRIKA_MAX_PARSER_BYTES` to read."""

    TOO_MUCH_TIME = "too_much_time"
    """A spreadsheet or a Parquet file that keeps its parser busy far longer than its size explains."""

    TOO_MANY_ROWS = "too_many_rows"
    """More rows than `RUBRIKA_MAX_ROWS`."""

    # The file cannot be read, or not as the options ask (`UnreadableFile`).
    BROKEN_GZIP = "broken_gzip"
    """What gzip packed is damaged or cut off; `byte` says where in the packed file."""

    BROKEN_SHEET = "broken_sheet"
    """A spreadsheet that cannot be read."""

    BROKEN_PARQUET = "broken_parquet"
    """A Parquet file that cannot be read."""

    PROTECTED = "protected"
    """A spreadsheet under a password."""

    UNKNOWN_SHEET = "unknown_sheet"
    """The option `sheet` names none of the sheets, which the message lists, or is longer than any name may be."""

    EMPTY_FILE = "empty_file"
    """Nothing in it, or only white space."""

    NO_ROWS = "no_rows"
    """A header, and no row after it."""

    NO_READABLE_ROW = "no_readable_row"
    """There are rows, and not one of them can be read; the message tells of the first."""

    BAD_ENCODING = "bad_encoding"
    """Bytes in no known encoding, or not in the one that was named; `byte` says where."""

    UNKNOWN_ENCODING = "unknown_encoding"
    """The option `encoding` names none of those that are read."""

    BAD_DELIMITER = "bad_delimiter"
    """The option `delimiter` is not a single character that can stand between cells."""

    NO_TEXT_COLUMN = "no_text_column"
    """No column is known to hold texts; the message lists those found."""

    DUPLICATE_COLUMN = "duplicate_column"
    """A column that is needed stands in the file, or in the option `columns`, more than once."""

    MISSING_COLUMN = "missing_column"
    """The option `columns` names a column that is not in the file."""

    UNKNOWN_FIELD = "unknown_field"
    """The option `columns` names something else than doc_text, image2text, speech2text or custom_id."""

    TOO_MANY_COLUMNS = "too_many_columns"
    """More columns than `RUBRIKA_MAX_COLUMNS`, or names of columns too long to repeat in every row."""

    OPEN_QUOTE = "open_quote"
    """A quote that is never closed; `line` is where it was opened."""

    ROW_TOO_LONG = "row_too_long"
    """A row goes on for longer than any row may, mostly because of a quote left open; `line` is where it begins."""

    BROKEN_JSON = "broken_json"
    """A JSON array that cannot be read to its end; `line` says where."""

    NOT_AN_ARRAY = "not_an_array"
    """JSON, but neither an array of objects nor an object a line."""


class FileError(RubrikaError):
    """A file is refused as a whole, and nothing of it is kept.

    `code` is one of `FileCode` or `jobs.states.RowError`, `message` a sentence for a developer. Where they are known:
    `line` counts the lines of the file from 1, `byte` its bytes from 0, and `column` is a name from the header.
    """

    columns: tuple[str, ...] = ()
    """Where no column is known to hold texts: the names to choose from, so that a person can be asked."""

    def __init__(
        self, code: str, message: str, *, line: int | None = None, byte: int | None = None, column: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.line = line
        self.byte = byte
        self.column = column


class TooLargeFile(FileError):  # noqa: N818  (named for what happened, as its siblings are)
    """The file is larger than a limit; the message has the number."""


class UnsupportedFile(FileError):  # noqa: N818
    """The file is of a kind that is not read; the message says what it looks like."""


class UnreadableFile(FileError):  # noqa: N818
    """The file is of a kind that is read, and this one cannot be; the message says where and why."""
