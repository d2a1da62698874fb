"""Spreadsheets for tests, made byte by byte: no program that writes good files writes the ones that are needed here."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"

DATE, TIME, DURATION = 14, 21, 46
"""Built-in formats of numbers in Excel: a day, a time of day, and hours beyond a day."""

Cell = str | int | float | bool | None | tuple[float, int]
"""As it is written: a pair is a number with one of the formats above, a text that begins with `#` is an error."""


def cell_xml(place: str, cell: Cell) -> str:
    """The XML of one cell, or nothing for an empty one."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, tuple):
        return f'<c r="{place}" s="{(DATE, TIME, DURATION).index(cell[1]) + 1}"><v>{cell[0]}</v></c>'
    if isinstance(cell, int | float):
        return f'<c r="{place}"><v>{cell!r}</v></c>'
    if cell.startswith("#"):
        return f'<c r="{place}" t="e"><f>1/0</f><v>{cell}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'


def sheet_xml(rows: Mapping[int, Sequence[Cell]]) -> str:
    """A sheet with these rows, by the number that Excel shows."""
    lines = "".join(
        f'<row r="{number}">{"".join(cell_xml(f"{chr(65 + place)}{number}", cell) for place, cell in enumerate(cells))}'
        "</row>"
        for number, cells in rows.items()
    )
    return f'<worksheet xmlns="{_MAIN}"><sheetData>{lines}</sheetData></worksheet>'


def xlsx(sheets: Mapping[str, str], extra: Mapping[str, bytes] | None = None) -> bytes:
    """A workbook of sheets given as XML, with further entries in the archive."""
    count = range(1, len(sheets) + 1)
    names = list(sheets)
    formats = "".join(f'<xf numFmtId="{number}" applyNumberFormat="1"/>' for number in (0, DATE, TIME, DURATION))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="r1" Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>'
        + "".join(f'<sheet name="{escape(names[n - 1])}" sheetId="{n}" r:id="r{n}"/>' for n in count)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
        + "".join(
            f'<Relationship Id="r{n}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in count
        )
        + f'<Relationship Id="r0" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs count="4">{formats}</cellXfs></styleSheet>',
    }
    entries = {name: text.encode() for name, text in parts.items()}
    entries |= {f"xl/worksheets/sheet{n}.xml": xml.encode() for n, xml in enumerate(sheets.values(), 1)}
    return zipped(entries | dict(extra or {}))


def zipped(entries: Mapping[str, bytes]) -> bytes:
    """A ZIP archive, the first entry first."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            # OpenDocument wants its type readable at the very beginning.
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else None)
    return target.getvalue()


def ods(name: str, rows: Sequence[Sequence[str | float]]) -> bytes:
    """An OpenDocument sheet."""
    office = "urn:oasis:names:tc:opendocument:xmlns"
    lines = ""
    for row in rows:
        lines += "<table:table-row>"
        for cell in row:
            if isinstance(cell, str):
                lines += (
                    f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>'
                )
            else:
                lines += f'<table:table-cell office:value-type="float" office:value="{cell}"/>'
        lines += "</table:table-row>"
    content = (
        f'<office:document-content xmlns:office="{office}:office:1.0" xmlns:table="{office}:table:1.0" '
        f'xmlns:text="{office}:text:1.0"><office:body><office:spreadsheet><table:table table:name="{name}">{lines}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = f'<manifest:manifest xmlns:manifest="{office}:manifest:1.0"/>'
    return zipped(
        {
            "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": content.encode(),
            "META-INF/manifest.xml": manifest.encode(),
        }
    )


def xls(name: str, rows: Sequence[Sequence[str | float]]) -> bytes:
    """A sheet of Excel 95 (BIFF5) in Windows-1251, in its compound file ([MS-XLS], [MS-CFB])."""

    def record(kind: int, body: bytes = b"") -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    def begin(kind: int) -> bytes:
        return record(0x0809, struct.pack("<HHHH", 0x0500, kind, 0x0DBB, 1995))

    title = name.encode("cp1251")
    head = begin(0x0005) + record(0x0042, struct.pack("<H", 1251))
    size = len(head) + 4 + 7 + len(title) + 4
    bound = record(0x0085, struct.pack("<LHB", size, 0, len(title)) + title)
    sheet = begin(0x0010)
    sheet += record(0x0200, struct.pack("<HHHHH", 0, len(rows), 0, max(map(len, rows)), 0))
    for number, row in enumerate(rows):
        for place, cell in enumerate(row):
            where = struct.pack("<HHH", number, place, 0)
            if isinstance(cell, str):
                text = cell.encode("cp1251")
                sheet += record(0x0204, where + struct.pack("<H", len(text)) + text)
            else:
                sheet += record(0x0203, where + struct.pack("<d", cell))
    return _compound("Book", head + bound + record(0x000A) + sheet + record(0x000A))


def _compound(name: str, stream: bytes) -> bytes:
    """A compound file of one stream, in sectors of 512 bytes: header, allocation table, directory, stream."""
    free, end, table = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    # A stream shorter than 4,096 bytes would be kept in a smaller table of its own.
    stream = stream.ljust(4096, b"\0")
    stream = stream.ljust(-(-len(stream) // 512) * 512, b"\0")
    sectors = len(stream) // 512
    chain = [table, end, *range(3, sectors + 2), end]
    assert len(chain) <= 128
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<LLLLLLLLL", 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109L", 0, *[free] * 108)

    def entry(called: str, kind: int, child: int, start: int, length: int) -> bytes:
        text = called.encode("utf-16-le") + b"\0\0"
        body = text.ljust(64, b"\0") + struct.pack("<HBBLLL", len(text), kind, 1, free, free, child)
        return body + bytes(36) + struct.pack("<LQ", start, length)

    directory = entry("Root Entry", 5, 1, end, 0) + entry(name, 2, free, 2, len(stream))
    directory += (bytes(68) + struct.pack("<LLL", free, free, free) + bytes(48)) * 2
    return header + struct.pack(f"<{len(chain)}L", *chain).ljust(512, b"\xff") + directory + stream
