"""Spreadsheets: XLSX and XLSM, XLS of the years before 2007, and OpenDocument (ODS)."""

import json
from typing import Any, BinaryIO

from api.files.errors import FileCode, UnreadableFile
from api.files.model import Layout, Limits, ReadOptions
from api.files.sandbox import Sandboxed
from api.files.table import TableReader, named_columns

MAX_SHEET_CHARS = 200
"""Excel allows 31. What is asked for goes to the parser as an argument of a process, which has its bounds."""


class SheetReader(TableReader):
    """Reads one sheet of a file: its first row that is not empty is the header, empty rows do not count.

    Numbers, dates and the like in a column of texts are the text that a person sees there; in other columns numbers
    and booleans keep their types. The number of a row is the one that Excel shows.
    """

    def __init__(self, file: BinaryIO, options: ReadOptions, limits: Limits) -> None:
        if options.sheet is not None and len(options.sheet) > MAX_SHEET_CHARS:
            message = f"`sheet` is longer than {MAX_SHEET_CHARS} characters. Give the number of the sheet, from 1."
            raise UnreadableFile(FileCode.UNKNOWN_SHEET, message)
        source = Sandboxed("sheet", file, limits, sheet=options.sheet)
        head = source.head
        try:
            names, mapped = named_columns(head["columns"], options, limits)
        except BaseException:
            source.close()
            raise
        layout = Layout(
            head["format"],
            None,
            None,
            names,
            mapped.mapping,
            mapped.guessed,
            sheet=head["sheet"],
            sheets=tuple(head["sheets"]),
        )
        super().__init__(source, layout, options, limits)

    def _cells(self, line: bytes) -> tuple[int | None, list[Any]]:
        number, *cells = json.loads(line)
        return number, cells
