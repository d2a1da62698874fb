"""Parquet files."""

import json
from typing import Any, BinaryIO

from api.files.errors import UnreadableFile
from api.files.model import Layout, Limits, ReadOptions
from api.files.sandbox import Sandboxed
from api.files.table import TableReader, named_columns
from jobs.states import RowError

TEXT_TYPES = frozenset({"text", "Null"})


class ParquetReader(TableReader):
    """Reads a file of columns. Those of texts must be texts; all others are kept as JSON values."""

    def __init__(self, file: BinaryIO, options: ReadOptions, limits: Limits) -> None:
        source = Sandboxed("parquet", file, limits)
        try:
            names, mapped = named_columns(source.head["columns"], options, limits)
            _check_types(dict(zip(names, source.head["types"], strict=True)), mapped.mapping)
        except BaseException:
            source.close()
            raise
        self._keys = [str(place) for place in range(len(names))]
        layout = Layout("parquet", None, None, names, mapped.mapping, mapped.guessed)
        super().__init__(source, layout, options, limits)

    def _cells(self, line: bytes) -> tuple[int | None, list[Any]]:
        values = json.loads(line)
        return None, [values.get(key) for key in self._keys]


def _check_types(types: dict[str, str], mapping: Any) -> None:
    """Refuse a column of texts that holds something else: all of its rows do, so none of them could be read."""
    for field, column in mapping.items():
        if field != "custom_id" and types[column] not in TEXT_TYPES:
            message = f"The column {column[:40]!r} is of the type {types[column]}, and should be text."
            raise UnreadableFile(RowError.NOT_TEXT, message, column=column)
