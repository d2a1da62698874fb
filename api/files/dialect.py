"""What stands between the cells of a CSV, found from its first lines."""

import re
from collections.abc import Sequence
from io import StringIO
from itertools import islice

from api.files.columns import map_columns
from api.files.errors import FileCode, UnreadableFile
from api.files.records import Dialect, csv_rows

CANDIDATES = (",", ";", "\t", "|")
SAMPLE_ROWS = 50

_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_SEP_LINE = re.compile(r'\A\s*"?sep=(.)"?\r?\n', re.IGNORECASE)


def named_delimiter(named: str) -> str:
    """Return the character that the caller names, as itself or as `tab`. Raises `UnreadableFile` for anything else."""
    delimiter = _NAMED.get(named.strip().lower(), named)
    if (
        len(delimiter) != 1
        or delimiter in '"\r\n\x00\ufeff'
        or delimiter.isalnum()
        or "\ud800" <= delimiter <= "\udfff"
    ):
        message = f"The delimiter {named[:20]!r} is not one character that can stand between cells."
        raise UnreadableFile(FileCode.BAD_DELIMITER, message)
    return delimiter


def find_dialect(sample: str, is_whole: bool, named: str | None, max_row_chars: int) -> Dialect:
    """Find how the lines of `sample`, the beginning of a file (or all of it, if `is_whole`), are cut into cells.

    The caller's word comes first, then a `sep=` line. Otherwise each candidate cuts the sample; one under which the
    header names a column of texts is better than one under which it does not, then the one that gives the most rows
    as many cells as the header, then the one with the most columns. A header that none of them cuts is one column.
    """
    sep = _SEP_LINE.match(sample)
    skip_lines = 1 if sep else 0
    delimiter: str | None
    if named:
        delimiter = named_delimiter(named)
    elif sep and sep[1] not in '"\r\n\x00':
        delimiter = sep[1]
    else:
        delimiter = _best_delimiter(sample, is_whole, max_row_chars)
    after = first_row(sample, Dialect(delimiter, skip_lines=skip_lines), max_row_chars)[1:]
    return Dialect(delimiter, bool(after) and all(name.startswith(" ") for name in after), skip_lines)


def first_row(sample: str, dialect: Dialect, max_row_chars: int) -> list[str]:
    """The cells of the first row that is not a blank line, after what the dialect skips; empty without one."""
    rows = csv_rows(StringIO(sample, newline=""), dialect, max_row_chars)
    return next(islice((row for row in rows if row), dialect.skip_lines, None), [])


def _best_delimiter(sample: str, is_whole: bool, max_row_chars: int) -> str | None:
    best: tuple[tuple[bool, float, int], str] | None = None
    for candidate in CANDIDATES:
        rows = _cut(sample, is_whole, Dialect(candidate), max_row_chars)
        if rows and len(rows[0]) > 1:
            score = _score(rows)
            if best is None or score > best[0]:
                best = score, candidate
    return best[1] if best else None


def _score(rows: Sequence[list[str]]) -> tuple[bool, float, int]:
    header, data = rows[0], rows[1:]
    agreeing = sum(len(row) == len(header) for row in data) / len(data) if data else 1.0
    return names_a_text(header), agreeing, len(header)


def names_a_text(header: Sequence[str]) -> bool:
    """Whether one of the names in a header is known to be that of a column of texts."""
    try:
        return map_columns(header, [str(place) for place in range(len(header))], None) is not None
    except UnreadableFile:
        # Two columns are called `text`: what to do about it is not asked here.
        return True


def _cut(sample: str, is_whole: bool, dialect: Dialect, max_row_chars: int) -> list[list[str]]:
    reader = csv_rows(StringIO(sample, newline=""), dialect, max_row_chars)
    rows = list(islice(reader, SAMPLE_ROWS + 1))
    if not is_whole and len(rows) <= SAMPLE_ROWS and len(rows) > 1:
        rows.pop()  # The sample ends within this one.
    return [row for row in rows if row]
