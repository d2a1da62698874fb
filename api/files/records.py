"""Rows of cells from the lines of a CSV, by the csv module, in bounded memory and with the place of each."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from typing import TYPE_CHECKING

from api.files.errors import FileCode, UnreadableFile
from api.files.source import LongLineError, TextBlocks, lines_of

if TYPE_CHECKING:
    from _csv import Reader

NO_DELIMITER = "\ud800"
"""Stands between the cells of a file of one column, which is to say nowhere: no decoder yields a lone surrogate."""


@dataclass(frozen=True)
class Dialect:
    """How lines are cut into cells."""

    delimiter: str | None
    """None: one column, nothing is cut."""
    skip_space: bool = False
    """Whether a space after a delimiter is not part of the cell."""
    skip_lines: int = 0
    """Rows before the header: a `sep=;` that Excel understands."""
    quoted: bool = True
    """Whether quotes around a cell are no part of it."""


def csv_rows(lines: Iterator[str], dialect: Dialect, max_row_chars: int) -> "Reader":
    """The csv module's reader of some lines."""
    # The limit belongs to the whole process and guards nothing here (rows are bounded before they get this far), but
    # its default would refuse long cells. It only ever grows, so readers in other threads are not disturbed.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * max_row_chars))
    return csv.reader(
        lines,
        delimiter=dialect.delimiter or NO_DELIMITER,
        skipinitialspace=dialect.skip_space,
        quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
    )


def records(blocks: TextBlocks, dialect: Dialect, max_row_chars: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which the row begins, cells) for each row that is not a blank line, the header included.

    Raises `UnreadableFile` for a quote that is never closed and for a row longer than `max_row_chars`.
    """
    emitted = 0
    ended = False

    def lines() -> Iterator[Iterable[str]]:
        nonlocal ended
        within_row = 0
        while block := blocks.next_block():
            before = emitted
            yield lines_of(block)
            # No row ended in this block: all of it belongs to one row, which the csv module is holding.
            within_row = within_row + len(block) if emitted == before else 0
            if within_row > max_row_chars:
                raise LongLineError
        ended = True

    reader = csv_rows(chain.from_iterable(lines()), dialect, max_row_chars)
    begins = 1
    try:
        for cells in reader:
            emitted += 1
            if ended:
                # Every line ends its row unless a quote is open, so a row that the end of the file ended has one.
                raise _open_quote(reader.line_num, cells[-1])
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except LongLineError:
        message = (
            f"The row that begins on line {begins} does not end within {max_row_chars} characters. "
            "A quote may be left open there."
        )
        raise UnreadableFile(FileCode.ROW_TOO_LONG, message, line=begins) from None
    except csv.Error as error:
        raise UnreadableFile(FileCode.ROW_TOO_LONG, f"Line {begins} cannot be read: {error}.", line=begins) from error


def _open_quote(last_line: int, cell: str) -> UnreadableFile:
    spanned = sum(1 for _ in StringIO(cell, newline=""))
    opened = last_line - max(spanned, 1) + 1
    return UnreadableFile(FileCode.OPEN_QUOTE, f"The quote opened on line {opened} is never closed.", line=opened)
