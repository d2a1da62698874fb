"""Rows as CSV (RFC 4180) with a line feed behind each, as Postgres writes them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Delimiter = Literal["comma", "semicolon", "tab"]
Decimal = Literal["point", "comma"]

_SIGNS: dict[Delimiter, str] = {"comma": ",", "semicolon": ";", "tab": "\t"}


@dataclass(frozen=True)
class Dialect:
    """What stands between cells and in numbers. Excel expects what is usual in its country: in Russia `;` and `,`.

    A number that holds the delimiter is quoted, as any cell is, so that every pair of the two can be read.
    """

    delimiter: Delimiter = "comma"
    decimal: Decimal = "point"

    @property
    def sign(self) -> str:
        """The character between two cells."""
        return _SIGNS[self.delimiter]

    @property
    def has_commas(self) -> bool:
        """Whether the fraction of a number begins with a comma."""
        return self.decimal == "comma"


USUAL = Dialect()
"""Commas between cells and points in numbers, as programs expect."""


class _Lines(list[str]):
    """What `csv.writer` takes for a file: it writes each row at once."""

    write = list.append


def csv_lines(rows: Iterable[Sequence[Any]], dialect: Dialect = USUAL) -> str:
    """The lines of the rows; None is an empty cell, and a float is a number of the dialect.

    `csv.writer` quotes a cell for the characters that end its lines alone. With a line feed there, a carriage return
    within a text stays bare, and spreadsheets take it for the end of the row: what follows would begin a cell of its
    own, and might be a formula.
    """
    if dialect.has_commas:
        rows = ([str(cell).replace(".", ",") if isinstance(cell, float) else cell for cell in row] for row in rows)
    lines = _Lines()
    csv.writer(lines, delimiter=dialect.sign, lineterminator="\r\n").writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines)
