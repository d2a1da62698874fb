"""Rows of cells that have types: what spreadsheets and Parquet have in common."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from api.files.columns import map_columns, no_text_column, unique_names
from api.files.errors import FileCode, UnreadableFile
from api.files.model import FIELDS, FileReader, FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.objects import is_too_deep, storable_value
from api.files.rows import problem_of, storable, storable_texts, text_columns
from api.files.sandbox import Sandboxed
from jobs.states import RowError

_ESCAPES = (b"\\u0000", b"\\ud", b"\\uD")
"""How JSON shows characters that cannot be stored; there is no other way for them to get through the pipe."""


class TableReader(FileReader):
    """Reads what a parser in a sandbox writes: the description of a table, then its rows.

    Where rows have numbers of their own, as in Excel, places are told by those, and else by counting.
    """

    def __init__(self, source: Sandboxed, layout: Layout, options: ReadOptions, limits: Limits) -> None:
        self._source = source
        super().__init__(layout, options, limits)

    @abstractmethod
    def _cells(self, line: bytes) -> tuple[int | None, list[Any]]:
        """The number of a row, where it has one of its own, and its cells, one for each column."""

    def _rows(self) -> Iterator[FileRow]:
        names = self.layout.columns
        max_chars = self._limits.max_text_chars
        # A field without a column reads the empty cell that is put behind the last one.
        places = {name: place for place, name in enumerate(names)}
        doc, image, speech, custom = (places.get(self.layout.mapping.get(field, ""), -1) for field in FIELDS)
        others = [(name, place) for name, place in places.items() if place not in (doc, image, speech, custom)]
        called = text_columns(self.layout.mapping)
        may_be_deep = bool(self._source.head.get("nested"))
        number = 0
        for row_no, line in enumerate(self._source.lines(), 1):
            number += 1
            if line is None:
                message = f"Row {number} is longer than {self._limits.max_row_chars} characters."
                yield _unread(row_no, RowError.TOO_LONG, message, number)
                continue
            if may_be_deep and _is_deep(line, self._limits.max_depth):
                message = f"Row {number} cannot be read: brackets are nested too deep."
                yield _unread(row_no, RowError.BROKEN_ROW, message, number)
                continue
            own_number, cells = self._cells(line)
            number = own_number or number
            cells.append(None)
            texts = as_text(cells[doc]), as_text(cells[image]), as_text(cells[speech])
            custom_id = as_text(cells[custom]) or None
            extra: dict[str, object] = {name: cells[place] for name, place in others}
            # Nearly all rows are neither of these, and are known to be so at the price of two short searches.
            is_odd = b"\\u" in line and any(escape in line for escape in _ESCAPES)
            if is_odd:
                extra = {name: storable_value(value) for name, value in extra.items()}
                custom_id = custom_id and storable(custom_id)
            problem = None
            if is_odd or sum(map(len, texts)) > max_chars or not texts[0] or texts[0].isspace():
                problem = problem_of(texts, max_chars, line=number, names=called)
            if problem is not None:
                texts = storable_texts(texts, max_chars)
            yield FileRow(row_no, *texts, custom_id, extra, problem)


def named_columns(header: list[str], options: ReadOptions, limits: Limits) -> tuple[tuple[str, ...], Any]:
    """The names of the columns, and which is which field. Raises `UnreadableFile` when none holds texts."""
    if not header:
        raise UnreadableFile(FileCode.EMPTY_FILE, "The file is empty: it has no columns.")
    names = unique_names(header, limits)
    mapped = map_columns(header, names, options.columns)
    if mapped is None:
        raise no_text_column(names)
    return names, mapped


def as_text(cell: Any) -> str:
    """A cell as the text that a person sees in it; nothing for an empty one."""
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def _is_deep(line: bytes, max_depth: int) -> bool:
    return line.count(b"[") + line.count(b"{") > max_depth and is_too_deep(line.decode(), max_depth)


def _unread(row_no: int, code: RowError, message: str, number: int) -> FileRow:
    return FileRow(row_no, "", "", "", None, {}, RowProblem(code, message, None, number))
