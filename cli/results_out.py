"""Rows with their results as bytes of CSV or NDJSON, in the columns of the service's downloads.

The service writes its downloads in SQL (`jobs.exporting`); here there is no database. Both follow docs/api.md: the
file's own columns first, then `row`, one probability per topic, `topics`, `truncated` and `error`.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.files import FileRow
from jobs.csv_lines import csv_lines

_FORMULA = tuple("=+-@\t\r")
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")


@dataclass(frozen=True)
class Answer:
    """What is known of a row.

    Attributes:
        probabilities: one per topic, in label order; None where there are none.
        truncated: whether the end of the text was left out; None where it was not read.
        error: code and reason of a row that failed.
    """

    probabilities: Sequence[float] | None
    truncated: bool | None
    error: str | None


class ResultsWriter(ABC):
    """Makes bytes of rows.

    Args:
        columns: the file's own.
        mapping: which of them is which field, as `api.files.Layout.mapping`.
        topics: ids and thresholds, in label order.
        defuse: put `'` before a cell that a spreadsheet would compute (CSV only).
    """

    def __init__(
        self,
        columns: Sequence[str],
        mapping: Mapping[str, str],
        topics: Sequence[tuple[str, float]],
        *,
        defuse: bool = True,
    ) -> None:
        self._own = tuple(columns)
        self._field_of = {column: field for field, column in mapping.items()}
        self._topics = tuple(topics)
        self._defuse = defuse
        self._names = list(self._own)
        for name in ("row", *(topic for topic, _ in topics), "topics", "truncated", "error"):
            # Should the file have a column of this name, ours steps aside, as in the service's downloads.
            unique = name
            while unique in self._names:
                unique = f"rubrika_{unique}"
            self._names.append(unique)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, the file's own first."""
        return tuple(self._names)

    @abstractmethod
    def header(self) -> bytes:
        """What stands before the first row."""

    @abstractmethod
    def rows(self, rows: Sequence[tuple[FileRow, Answer]]) -> bytes:
        """These rows."""

    def _own_values(self, row: FileRow) -> list[object]:
        return [
            getattr(row, self._field_of[column]) if column in self._field_of else row.extra.get(column)
            for column in self._own
        ]

    def _assigned(self, answer: Answer) -> list[str] | None:
        if answer.probabilities is None:
            return None
        pairs = zip(self._topics, answer.probabilities, strict=True)
        return [topic for (topic, threshold), probability in pairs if probability >= threshold]


class CsvWriter(ResultsWriter):
    """CSV in UTF-8 with a header; what is not there is an empty cell."""

    def header(self) -> bytes:
        own = [self._cell(name) for name in self._own]
        return _csv_line([own + self._names[len(own) :]])

    def rows(self, rows: Sequence[tuple[FileRow, Answer]]) -> bytes:
        return _csv_line([self._cells(row, answer) for row, answer in rows])

    def _cells(self, row: FileRow, answer: Answer) -> list[str]:
        own = [self._cell(_as_text(value)) for value in self._own_values(row)]
        values = ["" for _ in self._topics]
        if answer.probabilities is not None:
            values = [f"{probability:.6f}" for probability in answer.probabilities]
        truncated = _as_text(answer.truncated)
        return [*own, str(row.row_no), *values, ";".join(self._assigned(answer) or []), truncated, answer.error or ""]

    def _cell(self, text: str) -> str:
        if self._defuse and text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
            return f"'{text}"
        return text


class NdjsonWriter(ResultsWriter):
    """A JSON object a line; what is not there is null."""

    def header(self) -> bytes:
        return b""

    def rows(self, rows: Sequence[tuple[FileRow, Answer]]) -> bytes:
        lines = [json.dumps(self._object(row, answer), ensure_ascii=False) for row, answer in rows]
        return "".join(f"{line}\n" for line in lines).encode()

    def _object(self, row: FileRow, answer: Answer) -> dict[str, Any]:
        found: Sequence[float | None] = [None] * len(self._topics)
        if answer.probabilities is not None:
            found = [round(probability, 6) for probability in answer.probabilities]
        values = [*self._own_values(row), row.row_no, *found, self._assigned(answer), answer.truncated, answer.error]
        return dict(zip(self._names, values, strict=True))


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv_line(rows: Sequence[Sequence[str]]) -> bytes:
    return csv_lines(rows).encode()
