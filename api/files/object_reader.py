"""What the readers of NDJSON and of JSON arrays have in common."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from api.files.model import FileRow, Layout, Limits, ReadOptions
from api.files.objects import JsonError, Parsed, RowMaker, find_columns
from api.files.source import Text
from api.files.text_reader import TextReader


class ObjectReader(TextReader):
    """Reads a file of objects. Their keys are its columns, and all of these are known only when all rows were read."""

    def __init__(
        self, text: Text, file_format: Literal["ndjson", "json"], first: Parsed, options: ReadOptions, limits: Limits
    ) -> None:
        """`first` has the values at the beginning. Raises `UnreadableFile` when none of their keys holds a text."""
        names, mapped = find_columns(first, options, limits)
        self._maker = RowMaker(names, mapped.mapping, options, limits)
        layout = Layout(file_format, text.encoding, None, names, mapped.mapping, mapped.guessed)
        super().__init__(text, layout, options, limits)

    @property
    def layout(self) -> Layout:
        return replace(super().layout, columns=self._maker.columns, mapping=self._maker.mapping)

    @abstractmethod
    def _values(self) -> Parsed:
        """The values of all rows."""

    def _rows(self) -> Iterator[FileRow]:
        maker = self._maker
        for row_no, line, value, raw in self._values():
            if isinstance(value, JsonError):
                yield maker.broken(row_no, line, str(value))
            else:
                yield maker.row(row_no, line, value, raw)
