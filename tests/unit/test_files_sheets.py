"""Spreadsheets: what their cells become, which sheet is read, and what hostile ones cannot do."""

import gzip
import io
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from api.files import FileError, FileReader, FileRow, Limits, ReadOptions, TooLargeFile, UnsupportedFile, open_file
from tests.sheets import DATE, DURATION, TIME, Cell, cell_xml, ods, sheet_xml, xls, xlsx, zipped
from tests.support import memory_of

LIMITS = Limits(max_rows=100_000, max_columns=50, max_text_chars=100_000, max_parser_bytes=1 << 30)
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def opened(data: bytes, limits: Limits = LIMITS, **options: Any) -> FileReader:
    return open_file(io.BytesIO(data), None, None, ReadOptions(**options), limits)


def refusal(data: bytes, limits: Limits = LIMITS, **options: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        list(opened(data, limits, **options))
    return caught.value


def book(*rows: Sequence[Cell]) -> bytes:
    return xlsx({"Лист1": sheet_xml(dict(enumerate(rows, 1)))})


def read(data: bytes, **options: Any) -> list[FileRow]:
    return list(opened(data, **options))


# --- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "kept", "shown"),
    [
        (5, 5, "5"),
        (5.0, 5, "5"),
        (-2.5, -2.5, "-2.5"),
        (2.0**53, 2.0**53, "9007199254740992.0"),
        (True, True, "true"),
        (False, False, "false"),
        ((45293.0, DATE), "2024-01-02", "2024-01-02"),
        ((45293.5, DATE), "2024-01-02T12:00:00", "2024-01-02T12:00:00"),
        ((0.25, TIME), "06:00:00", "06:00:00"),
        ((1.5, DURATION), "36:00:00", "36:00:00"),
        ("#REF!", None, ""),
        ("  Сегодня\nматч 👍 ", "  Сегодня\nматч 👍 ", "  Сегодня\nматч 👍 "),
        ("=1+1", "=1+1", "=1+1"),
        (None, None, ""),
    ],
)
def test_a_cell_is_kept_with_its_type_and_is_read_as_a_person_sees_it(cell: Cell, kept: object, shown: str) -> None:
    row = read(book(["doc_text", "image2text", "other"], ["пост", cell, cell]))[0]
    assert row.extra == {"other": kept}
    assert type(row.extra["other"]) is type(kept)
    assert row.image2text == shown


def test_characters_that_xml_cannot_hold_come_as_excel_writes_them() -> None:
    rows = read(book(["text", "a"], ["строка_x000D_\n_x005F_x0041_", "нуль _x0000_"], ["нуль _x0000_", None]))
    assert rows[0].doc_text == "строка\r\n_x0041_"
    assert rows[0].extra == {"a": "нуль \ufffd"}
    assert rows[1].error is not None
    assert rows[1].error.code == "invalid_characters"


def test_shared_and_rich_texts_are_texts() -> None:
    shared = f'<sst xmlns="{_MAIN}"><si><t>text</t></si><si><r><t>Сего</t></r><r><t>дня</t></r></si></sst>'
    sheet = (
        f'<worksheet xmlns="{_MAIN}"><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row>'
        '<row r="2"><c r="A2" t="s"><v>1</v></c></row></sheetData></worksheet>'
    )
    assert [row.doc_text for row in read(xlsx({"A": sheet}, {"xl/sharedStrings.xml": shared.encode()}))] == ["Сегодня"]


# --- rows and columns -----------------------------------------------------------------------------------------------


def test_rows_are_told_by_the_numbers_that_excel_shows() -> None:
    data = xlsx({"A": sheet_xml({3: ["text"], 4: ["раз"], 7: [""], 9: ["два"], 500: [None], 900: ["", None]})})
    rows = read(data)
    assert [(row.row_no, row.doc_text) for row in rows] == [(1, "раз"), (2, "два")]
    long = xlsx({"A": sheet_xml({3: ["text"], 4: ["раз"], 9: ["x" * 200_000]})})
    problem = read(long)[1].error
    assert problem is not None
    assert (problem.code, problem.line) == ("text_too_long", 9)


def test_columns_without_a_name_are_kept_and_empty_rows_do_not_count() -> None:
    rows = read(book(["id", None, "text"], [1, "заметка", "раз"], [], [2, None, "два", "на полях"]))
    assert rows[0].extra == {"id": 1, "column_2": "заметка", "column_4": None}
    assert rows[1].extra == {"id": 2, "column_2": None, "column_4": "на полях"}


def test_columns_are_named_and_guessed_as_in_a_csv() -> None:
    data = book(["№", "Текст поста", "Картинка"], [1, "раз", "два"])
    reader = opened(data)
    assert reader.layout.guessed
    assert reader.layout.mapping == {"doc_text": "Текст поста"}
    row = read(data, columns={"doc_text": "Текст поста", "image2text": "Картинка", "custom_id": "№"})[0]
    assert (row.doc_text, row.image2text, row.custom_id, row.extra) == ("раз", "два", "1", {})
    assert refusal(book(["a", "b"], [1, 2])).code == "no_text_column"
    assert refusal(book(["text"] + ["x"] * 10, ["a"]), replace(LIMITS, max_columns=10)).code == "too_many_columns"


def test_rows_that_cannot_be_used_follow_on_error() -> None:
    data = book(["text", "a"], ["раз", 1], [None, 2], ["три", 3])
    assert [row.error and row.error.code for row in read(data)] == [None, "empty_text", None]
    error = refusal(data, on_error="fail")
    assert (error.code, error.line) == ("empty_text", 3)


# --- sheets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "раз"),
        ("1", "раз"),
        ("2", "два"),
        ("Второй & последний", "два"),
        ("Первый", "раз"),
        ("03", "три"),
        ("3", "имя"),
    ],
)
def test_a_sheet_is_chosen_by_name_or_number_and_the_first_is_the_default(wanted: str | None, found: str) -> None:
    names = ["Первый", "Второй & последний", "5", "3"]
    texts = ["раз", "два", "три", "имя"]
    data = xlsx({name: sheet_xml({1: ["text"], 2: [text]}) for name, text in zip(names, texts, strict=True)})
    reader = opened(data, sheet=wanted)
    assert reader.layout.sheets == tuple(names)
    assert [row.doc_text for row in reader] == [found]
    assert reader.layout.sheet == names[texts.index(found)]


@pytest.mark.parametrize("wanted", ["Третий", "0", "3", "-1", "9" * 50, "², "])
def test_an_unknown_sheet_is_refused_with_those_there_are(wanted: str) -> None:
    data = xlsx({name: sheet_xml({1: ["text"], 2: ["раз"]}) for name in ("Первый", "Второй")})
    error = refusal(data, sheet=wanted)
    assert error.code == "unknown_sheet"
    assert "'Первый', 'Второй'" in error.message


@pytest.mark.parametrize("rows", [{}, {1: [None]}, {5: ["", None]}])
def test_an_empty_sheet_is_refused(rows: dict[int, list[Cell]]) -> None:
    assert refusal(xlsx({"A": sheet_xml(rows)})).code == "empty_file"


def test_a_sheet_of_nothing_but_a_header_is_refused() -> None:
    assert refusal(book(["text"])).code == "no_rows"


# --- formats --------------------------------------------------------------------------------------------------------

OLD: list[list[str | float]] = [["text", "n"], ["Сегодня «матч»", 5.0], ["ещё", 2.5]]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (xls("Лист", OLD), "xls"),
        (ods("Лист", OLD), "ods"),
        (xlsx({"Лист": sheet_xml(dict(enumerate(OLD, 1)))}), "xlsx"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_old_excel_in_windows_1251_and_opendocument_are_read_too(data: bytes, form: str, packed: bool) -> None:
    reader = opened(gzip.compress(data) if packed else data)
    assert (reader.layout.format, reader.layout.encoding, reader.layout.sheet) == (form, None, "Лист")
    assert [(row.doc_text, row.extra) for row in reader] == [("Сегодня «матч»", {"n": 5}), ("ещё", {"n": 2.5})]


def test_macros_are_no_hindrance_and_stay_where_they_are() -> None:
    data = xlsx({"A": sheet_xml({1: ["text"], 2: ["раз"]})}, {"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0"})
    assert [row.doc_text for row in read(data)] == ["раз"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.bin": b"x"}), "looks_like_excel"),
        (zipped({"[Content_Types].xml": b"<x/>", "ppt/presentation.xml": b"<x/>"}), "looks_like_document"),
        (zipped({"xl/other.xml": b"<x/>"}), "looks_like_archive"),
    ],
)
def test_archives_that_hold_something_else_are_named(data: bytes, code: str) -> None:
    error = refusal(data)
    assert isinstance(error, UnsupportedFile)
    assert error.code == code


GOOD = book(["text", "n"], *[[f"Сегодня матч {number}", number] for number in range(50)])


@pytest.mark.parametrize(
    "data",
    [
        GOOD[: len(GOOD) // 2],
        GOOD[:-10],
        GOOD[:200] + bytes(200) + GOOD[400:],
        xls("Лист", OLD)[:1500],
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
        b"PK\x03\x04" + b"[Content_Types].xml" + bytes(100),
        xlsx({"A": "<worksheet><sheetData><row><c"}),
        xlsx({"A": "это не XML"}),
        zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}),
    ],
)
def test_damaged_files_are_refused_with_a_sentence(data: bytes) -> None:
    error = refusal(data)
    assert error.code in {"broken_sheet", "empty_file"}
    assert error.message.endswith(".")


# --- bombs ----------------------------------------------------------------------------------------------------------


def entities() -> bytes:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    sheet = sheet_xml({1: ["text"], 2: ["HERE"]}).replace("HERE", "&l9;")
    return xlsx({"A": f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY l0 "lol">{laughs}]>{sheet}'})


def blank_rows(number: int) -> bytes:
    return xlsx({"A": sheet_xml({1: ["text"]}).replace("</sheetData>", "<row/>" * number + "</sheetData>")})


def lying(data: bytes) -> bytes:
    """The same archive, and its directory says that each entry unpacks to ten bytes."""
    changed = bytearray(data)
    place = data.find(b"PK\1\2")
    while place >= 0:
        changed[place + 24 : place + 28] = struct.pack("<L", 10)
        place = data.find(b"PK\1\2", place + 1)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "limits", "code"),
    [
        (xlsx({"A": "<x/>"}, {f"xl/{n}": b"" for n in range(60)}), {"max_archive_entries": 50}, "too_many_entries"),
        (blank_rows(100_000), {"max_unpacked_bytes": 500_000}, "too_many_bytes"),
        (lying(blank_rows(100_000)), {"max_unpacked_bytes": 500_000}, "too_many_bytes"),
        (blank_rows(3_000_000), {}, "unpacks_too_far"),
        (book(["text"], *[["раз"]] * 20), {"max_rows": 10}, "too_many_rows"),
        # Two cells, and the table between them would have seventeen thousand million.
        (
            xlsx(
                {
                    "A": sheet_xml({1: ["text"]}).replace(
                        "</sheetData>", f"<row>{cell_xml('XFD1048576', 'x')}</row></sheetData>"
                    )
                }
            ),
            {},
            "too_much_memory",
        ),
    ],
)
def test_bombs_are_refused_by_a_limit(data: bytes, limits: dict[str, int], code: str) -> None:
    error = refusal(data, replace(LIMITS, **limits))
    assert isinstance(error, TooLargeFile)
    assert error.code == code
    assert any(letter.isdigit() for letter in error.message), "the limit is told"


@pytest.mark.parametrize("place", ["A1048577", "A4000000000", "A99999999999", "XFE2"])
def test_a_cell_outside_of_any_sheet_is_refused_before_the_way_there_is_gone(place: str) -> None:
    # A kilobyte would else keep a core for as long as a parser may take.
    sheet = sheet_xml({}).replace("</sheetData>", f"<row>{cell_xml(place, 'text')}</row></sheetData>")
    error = refusal(xlsx({"A": sheet}))
    assert error.code == "broken_sheet"
    assert "outside" in error.message


def test_the_last_row_of_a_sheet_is_one() -> None:
    last = f"<row>{cell_xml('A1048575', 'text')}</row><row>{cell_xml('A1048576', 'раз')}</row></sheetData>"
    sheet = sheet_xml({}).replace("</sheetData>", last)
    [row] = read(xlsx({"A": sheet}))
    assert row.doc_text == "раз"


def test_entities_of_their_own_are_refused() -> None:
    assert refusal(entities()).code == "broken_sheet"


def test_a_text_that_is_shared_by_all_cells_cannot_fill_the_memory() -> None:
    shared = f'<sst xmlns="{_MAIN}"><si><t>text</t></si><si><t>{"много " * 1_000_000}</t></si></sst>'
    cells = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>1</v></c></row>' for n in range(2, 2000))
    head = f'<worksheet xmlns="{_MAIN}"><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row>'
    sheet = f"{head}{cells}</sheetData></worksheet>"
    data = xlsx({"A": sheet}, {"xl/sharedStrings.xml": shared.encode()})
    error, peak = memory_of(lambda: refusal(data, replace(LIMITS, max_unpack_ratio=10_000)))
    assert error.code == "too_much_memory"
    assert str(LIMITS.max_parser_bytes) in error.message
    assert peak < 50_000_000, "in this process"


def test_an_archive_packed_in_an_unknown_way_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("[Content_Types].xml", b"x" * 1000)
        archive.writestr("xl/workbook.xml", b"x" * 1000)
    assert refusal(target.getvalue()).code == "broken_sheet"
