"""All rows of a job as an Excel sheet (ECMA-376, SpreadsheetML), streamed.

Postgres writes the XML of each row, so that Python passes on bytes and compresses them; a library that makes cells one
by one in Python managed 5,000 rows a second, and gave the first byte after the last row. Texts are texts whatever they
begin with: nothing that came in is ever a formula.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from random import randrange
from xml.sax.saxutils import escape

from sqlalchemy import Engine

from jobs.copying import copy_out
from jobs.errors import RubrikaError
from jobs.exporting import Cell, Columns, Export
from jobs.zipping import MOST_BYTES, zipped

MAX_ROWS = 1_048_575
"""The rows of a sheet without the header."""
MAX_CELL_CHARS = 32_767
"""Of a cell, in UTF-16, as Excel counts them."""
KEPT_CHARS = 32_700
"""Of a text that is longer, before the mark that says so."""
MAX_CELL_BYTES = 5 * MAX_CELL_CHARS + 100
"""Of the XML of a cell: a text of nothing but `&`, and what stands around it."""
MAX_SHEET_BYTES = MOST_BYTES - MOST_BYTES // 20
"""Of the XML of a sheet, as it is estimated: a twentieth less than an archive can hold."""
SAMPLED_ROWS = 5_000
"""So many rows say how large a sheet would be; of a job with fewer, all of them do."""
MAX_DIGITS = 15
"""Excel computes with no more; a longer number stays a text and keeps all of its digits."""
BINARY = "FORMAT binary"

_NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_TEXT = '<c t="inlineStr"><is><t xml:space="preserve">'
_HEADING = _TEXT.replace("<c ", '<c s="1" ')
_TEXT_END = "</t></is></c>"
_WIDE, _NARROW = 60, 14

_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\r")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
_LIKE_ESCAPE = re.compile(rb"_(?=x[0-9A-Fa-f]{4}_)")


class TooManyRowsError(RubrikaError):
    """An Excel sheet cannot hold as many rows as the job has."""


class TooLargeSheetError(RubrikaError):
    """The rows are so long that a file of Excel cannot hold them."""


def export_xlsx(engine: Engine, export: Export) -> Iterator[bytes]:
    """An XLSX file in blocks of bytes, with a frozen header and a filter; memory does not grow with the job.

    What XML cannot hold is replaced by U+FFFD, and a text longer than a cell is cut and says so. Raises
    `TooManyRowsError` and `TooLargeSheetError` before the first block.
    """
    columns = Columns(export)
    _check_rows(engine, columns)
    own = sum(cell.is_own for cell in columns.cells)
    topics = len(export.model.topics) if export.model else 0
    # The row and the probabilities are numbers.
    cells = [_sql(cell, is_number=own <= place <= own + topics) for place, cell in enumerate(columns.cells)]
    row = _concatenated(["'<row>'", *cells, "'</row>'"])
    _check_size(engine, columns, row)
    rows = copy_out(engine, columns.query(row), columns.values, BINARY)
    # Before anything else is sent: a query that fails must not look like the beginning of a file.
    whole = chain([next(rows)], rows)
    yield from zipped([*_frame(), ("xl/worksheets/sheet1.xml", _sheet(columns, whole))])


def _check_rows(engine: Engine, columns: Columns) -> None:
    total = columns.export.job.rows_total
    if total <= MAX_ROWS:
        return
    if columns.export.wanted:
        query = f"{columns.query('1')} OFFSET {MAX_ROWS} LIMIT 1"
        if not any(copy_out(engine, query, columns.values, "FORMAT csv")):
            return
    raise TooManyRowsError(
        f"An Excel sheet holds {MAX_ROWS} rows, and this would have more (the file has {total}). "
        "Take it as CSV or Parquet, or ask for fewer rows with a filter."
    )


def _check_size(engine: Engine, columns: Columns, row: str) -> None:
    """Estimate the sheet from some of its rows, one of each stretch of the file; `row` is SQL for the XML of one.

    It takes a fraction of a second, where the lengths of a million rows would take as long as writing them.
    """
    total = columns.export.job.rows_total
    if total * len(columns.cells) * MAX_CELL_BYTES <= MAX_SHEET_BYTES:
        return
    step = max(1, total // SAMPLED_ROWS)
    sampled = [first + randrange(min(step, total - first + 1)) for first in range(1, total + 1, step)]
    query = columns.query(f"t.row_no, octet_length({row}) AS size")
    found = f"SELECT coalesce(sum(size), 0) FROM ({query}) AS sizes WHERE row_no = ANY(%(sampled)s)"
    size = int(b"".join(copy_out(engine, found, columns.values | {"sampled": sampled}, "FORMAT csv")))
    if size * total / len(sampled) > MAX_SHEET_BYTES:
        raise TooLargeSheetError(
            "The rows are too long for an Excel file, which holds no 4 GiB of XML. Take them as CSV, NDJSON, JSON or "
            "Parquet, or ask for fewer with a filter."
        )


def _concatenated(parts: Sequence[str]) -> str:
    """All parts in one string; a function takes a hundred arguments at most."""
    groups = [f"concat({', '.join(parts[at : at + 40])})" for at in range(0, len(parts), 40)]
    return f"concat({', '.join(groups)})"


def _sql(cell: Cell, *, is_number: bool) -> str:
    """SQL for the XML of a cell."""
    if is_number:
        made = _number(cell.as_text)
    elif cell.name.endswith("truncated") and not cell.is_own:
        made = _truth(cell.as_text)
    elif "->>" in cell.as_text:
        # A column that was kept as JSON may hold numbers and booleans, which stay what they are.
        text = _text(cell.as_text)
        made = (
            f"CASE jsonb_typeof({cell.as_text.replace('->>', '->')}) "
            f"WHEN 'number' THEN CASE WHEN length({cell.as_text}) <= {MAX_DIGITS} THEN {_number(cell.as_text)} "
            f"ELSE {text} END WHEN 'boolean' THEN {_truth(cell.as_text)} ELSE {text} END"
        )
    else:
        made = _text(cell.as_text)
    return f"coalesce({made}, '<c/>')"


def _truth(value: str) -> str:
    return f"""'<c t="b"><v>' || ({value})::boolean::int || '</v></c>'"""


def _number(value: str) -> str:
    return f"'<c><v>' || ({value}) || '</v></c>'"


def _text(value: str) -> str:
    # No text has more UTF-16 units than bytes in UTF-8, and how many bytes it has is known without looking at it.
    cut = f"CASE WHEN octet_length({value}) <= {MAX_CELL_CHARS} THEN {value} ELSE {_cut(value)} END"
    escaped = f"replace(replace(replace({cut}, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')"
    return f"'{_TEXT}' || nullif({escaped}, '') || '{_TEXT_END}'"


def _cut(value: str) -> str:
    """A long text as it is, or its beginning with a mark. Characters beyond U+FFFF are two units each."""
    units = f"(char_length({value}) + {_astral(value)})"
    kept = f"left({value}, {KEPT_CHARS} - {_astral(f'left({value}, {KEPT_CHARS})')})"
    return (
        f"CASE WHEN {units} <= {MAX_CELL_CHARS} THEN {value} ELSE {kept} || ' … [' || char_length({value}) || ']' END"
    )


def _astral(value: str) -> str:
    return rf"(char_length({value}) - char_length(regexp_replace({value}, '[\U00010000-\U0010FFFF]', '', 'g')))"


def _frame() -> Iterator[tuple[str, list[bytes]]]:
    """All parts of the file but the sheet."""
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPES}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_NAMESPACE}" xmlns:r="{_RELATIONS}"><sheets>'
        '<sheet name="Rubrika" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="rId2" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>',
        # The second style of cells is that of the header: bold.
        "xl/styles.xml": f'<styleSheet xmlns="{_NAMESPACE}">'
        '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
        '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
        '<cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
        '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
    }
    for name, xml in parts.items():
        yield name, [(_XML + xml).encode()]


def _sheet(columns: Columns, rows: Iterator[bytes]) -> Iterator[bytes]:
    job = columns.export.job
    names = columns.names(defuse=False)
    texts = {column for field, column in dict(job.layout.get("mapping", {})).items() if field != "custom_id"}
    widths = "".join(
        f'<col min="{place}" max="{place}" width="{_WIDE if name in texts else _NARROW}" customWidth="1"/>'
        for place, name in enumerate(names, 1)
    )
    yield (
        f'{_XML}<worksheet xmlns="{_NAMESPACE}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f"<cols>{widths}</cols><sheetData>"
    ).encode()
    header = "".join(f"{_HEADING}{escape(name)}{_TEXT_END}" for name in names)
    yield _storable(f"<row>{header}</row>".encode())
    for block in _values(rows):
        yield _storable(block)
    last = min(job.rows_total, MAX_ROWS) + 1
    yield f'</sheetData><autoFilter ref="A1:{_letters(len(names))}{last}"/></worksheet>'.encode()


def _letters(number: int) -> str:
    """What Excel calls a column, by its number from 1."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _storable(xml: bytes) -> bytes:
    """Replace what XML cannot hold, and write what its readers would change in a way that they do not."""
    # A look at all bytes is much quicker than a regular expression, and mostly finds nothing.
    if len(xml.translate(None, _CONTROLS)) != len(xml) or b"\xef\xbf" in xml:
        xml = _CONTROL.sub(b"\xef\xbf\xbd", xml)
    if b"\r" in xml:
        xml = xml.replace(b"\r", b"&#13;")
    # Excel takes `_x0041_` for an A (ECMA-376, 22.9.2.19); the escape of its first character keeps it as it is.
    return _LIKE_ESCAPE.sub(b"_x005F_", xml) if b"_x" in xml else xml


_BEGIN = 11 + 4
_FIELD = struct.Struct(">hi")


def _values(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The values of a binary COPY of one column (PostgreSQL manual, COPY, "Binary Format"), as many as a block holds.

    Nothing is escaped in this format, so that texts with line ends need no second look.
    """
    held = b""
    begun = False
    for block in blocks:
        held += block
        place = 0
        if not begun:
            if len(held) < _BEGIN + 4:
                continue
            place = _BEGIN + 4 + int.from_bytes(held[_BEGIN : _BEGIN + 4])
            begun = True
        values = []
        while len(held) - place >= _FIELD.size:
            _, length = _FIELD.unpack_from(held, place)
            end = place + _FIELD.size + length
            if end > len(held):
                break
            values.append(held[place + _FIELD.size : end])
            place = end
        held = held[place:]
        if values:
            yield b"".join(values)
