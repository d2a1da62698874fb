"""What stands between the cells of a CSV and around them, found from its first lines."""

import re
from collections.abc import Sequence
from io import StringIO
from itertools import islice

from api.files.columns import map_columns
from api.files.errors import FileCode, UnreadableFile
from api.files.records import Dialect, csv_rows
from api.files.source import lines_of

CANDIDATES = (",", ";", "\t", "|")
SAMPLE_ROWS = 50
OPEN_LINES = 20
"""No cell in quotes goes on for so many lines that each have as many tabs as the header."""

_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_IN_QUOTES = re.compile(r'(?:\A|(?<=[\t\r\n]))"([^"]*+(?:""[^"]*+)*+)("?)')
"""What follows a quote at the beginning of a cell between tabs, up to the quote that closes it, if one does."""
_NEEDS_QUOTES = re.compile(r'[\t\r\n]|""')
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

    Quotes around cells are no part of them, except in files like those that ClickHouse and `mysql -B` write.
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
    skip_space = bool(after) and all(name.startswith(" ") for name in after)
    quoted = delimiter != "\t" or bool(sep) or not _keeps_quotes(sample, is_whole)
    return Dialect(delimiter, skip_space, skip_lines, quoted)


def first_row(sample: str, dialect: Dialect, max_row_chars: int) -> list[str]:
    """The cells of the first row that is not a blank line, after what the dialect skips; empty without one."""
    rows = csv_rows(StringIO(sample, newline=""), dialect, max_row_chars)
    return next(islice((row for row in rows if row), dialect.skip_lines, None), [])


def _keeps_quotes(sample: str, is_whole: bool) -> bool:
    """Whether quotes are characters like others in a file of cells between tabs.

    They are when each line has as many cells as the header, and the text of some cell that begins with a quote goes on
    behind the next one, or has none: nothing that writes quotes around cells does that. A cell that has to stand in
    quotes, for a tab, a line end or a doubled quote in it, says that they are around cells, and so does one in the
    header.
    """
    lines = [line for line in (line.rstrip("\r\n") for line in lines_of(sample)) if line]
    tabs = lines[0].count("\t") if lines else 0
    if not tabs or '"' in lines[0] or any(line.count("\t") != tabs for line in lines):
        return False
    found = False
    for match in _IN_QUOTES.finditer(sample):
        inside, closing = match.groups()
        if not closing:
            # The sample may end within the cell.
            found = found or is_whole or inside.count("\n") > OPEN_LINES
        elif sample[match.end() : match.end() + 1].strip("\t\r\n"):
            found = True
        elif _NEEDS_QUOTES.search(inside):
            return False
    return found


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
