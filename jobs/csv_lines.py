"""Rows as CSV (RFC 4180) with a line feed behind each, as Postgres writes them."""

import csv
from collections.abc import Iterable, Sequence
from typing import Any


class _Lines(list[str]):
    """What `csv.writer` takes for a file: it writes each row at once."""

    write = list.append


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """The lines of the rows; None is an empty cell.

    `csv.writer` quotes a cell for the characters that end its lines alone. With a line feed there, a carriage return
    within a text stays bare, and spreadsheets take it for the end of the row: what follows would begin a cell of its
    own, and might be a formula.
    """
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines)
