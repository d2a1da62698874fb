"""Rows of a spreadsheet as JSON, by calamine: XLSX and XLSM, XLS of the years before 2007, and OpenDocument (ODS).

A cell is a JSON value: whole numbers have no fraction, as Excel shows them; dates and times are texts in ISO 8601,
durations are hours, minutes and seconds; an empty cell is null. So is a cell that holds an error (`#REF!`), of which
calamine tells no more. calamine holds the whole sheet in memory, which is why this process has a bound on it.
"""

import datetime
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, PasswordError, SheetTypeEnum

from api.sandbox.archive import measure
from api.sandbox.child import START_SECONDS, Parsed, RefusedError, allow

FLUSH_ROWS = 256
BYTES_A_SECOND = 5_000_000
"""Of XML, at the very least; usual are 100 MB. What is slower is not a sheet but an attack on the parser."""
BATCH_SECONDS = 30
EXACT_BELOW = 2.0**53
MOST_ROWS, MOST_COLUMNS = 1 << 20, 1 << 14
"""Of any sheet of Excel or LibreOffice. A cell that says it stands beyond is an attack: calamine would yield the empty
rows before it one by one, thousands of millions of them."""


def parse(descriptor: int, parameters: dict[str, Any]) -> Parsed:
    """Describe the chosen sheet, then yield its rows: arrays of the number that Excel shows for the row and the cells.

    The first row that is not empty is the header. Empty rows are left out.
    """
    # Opened anew by its name, so that the place in it is nobody else's.
    with open(f"/dev/fd/{descriptor}", "rb") as file:  # noqa: PTH123  (it is no path in any folder)
        kind = _kind(file, parameters)
        file.seek(0)
        try:
            workbook = CalamineWorkbook.from_filelike(file)
            sheets = [sheet.name for sheet in workbook.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
            name = _chosen(sheets, parameters["sheet"])
            sheet = workbook.get_sheet_by_name(name)
        except PasswordError as error:
            message = "The file is protected by a password. Save it without one and send that."
            raise RefusedError("protected", message) from error
        except CalamineError as error:
            raise RefusedError("broken", str(error).partition("\n")[0][:300]) from error
        row, column = sheet.end or (0, 0)
        if row >= MOST_ROWS or column >= MOST_COLUMNS:
            raise RefusedError("broken", f"a cell stands outside of the {MOST_ROWS} x {MOST_COLUMNS} that a sheet has")
        rows = _rows(sheet)
        header = next(rows, (0, []))
        yield {"format": kind, "sheets": sheets, "sheet": name, "columns": [_shown(cell) for cell in header[1]]}
        yield from _batches(rows)


def _kind(file: BinaryIO, parameters: dict[str, Any]) -> str:
    """Which of the three formats it is; ZIP archives are measured first."""
    if file.read(2) != b"PK":
        return "xls"
    names, unpacked = measure(file, parameters)
    allow(START_SECONDS + unpacked / BYTES_A_SECOND)
    if "xl/workbook.xml" in names:
        return "xlsx"
    if "xl/workbook.bin" in names:
        raise RefusedError("looks_like_excel", "The file is an XLSB, which is not read. Save it as XLSX and send that.")
    if "content.xml" in names:
        return "ods"
    if "[Content_Types].xml" in names:
        raise RefusedError("looks_like_document", "The file is a document of an office program, and not a sheet.")
    message = "The file is a ZIP archive, which is not read. Unpack it and send what is inside."
    raise RefusedError("looks_like_archive", message)


def _chosen(sheets: list[str], wanted: str | None) -> str:
    """The sheet of this name, or of this number from 1; the first one unless told otherwise."""
    if not sheets:
        raise RefusedError("empty_file", "The file has no sheets of cells.")
    if wanted is None or wanted in sheets:
        return wanted or sheets[0]
    if wanted.isascii() and wanted.isdigit() and 1 <= int(wanted[:9]) <= len(sheets):
        return sheets[int(wanted) - 1]
    shown = ", ".join(repr(name[:40]) for name in sheets[:20]) + (", ..." if len(sheets) > 20 else "")
    raise RefusedError("unknown_sheet", f"There is no sheet {wanted[:40]!r}. The sheets are: {shown}.")


def _rows(sheet: CalamineSheet) -> Iterator[tuple[int, list[Any]]]:
    for number, cells in enumerate(sheet.iter_rows(), 1):
        values = [_value(cell) for cell in cells]
        if any(value is not None for value in values):
            yield number, values


def _batches(rows: Iterator[tuple[int, list[Any]]]) -> Iterator[bytes]:
    lines: list[str] = []
    for number, values in rows:
        lines.append(json.dumps([number, *values], ensure_ascii=False, allow_nan=False))
        if len(lines) == FLUSH_ROWS:
            yield ("\n".join(lines) + "\n").encode()
            lines.clear()
            allow(BATCH_SECONDS)
    if lines:
        yield ("\n".join(lines) + "\n").encode()


def _value(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, float):
        if cell.is_integer() and abs(cell) < EXACT_BELOW:
            return int(cell)
        return cell if abs(cell) < float("inf") else None
    if isinstance(cell, datetime.timedelta):
        return _hours(cell)
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    return cell


def _hours(duration: datetime.timedelta) -> str:
    """As Excel shows `[h]:mm:ss`."""
    seconds = round(abs(duration).total_seconds())
    sign = "-" if duration < datetime.timedelta() else ""
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _shown(value: Any) -> str:
    """A cell of the header as a name."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
