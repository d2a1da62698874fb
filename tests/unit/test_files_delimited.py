"""CSV and TSV: delimiters, headers, quotes, ragged rows and the places of their errors."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files import FileError, FileReader, FileRow, Limits, ReadOptions, TooLargeFile, UnreadableFile, open_file

LIMITS = Limits(max_rows=1000, max_columns=50, max_text_chars=2000)
LARGE = Limits(max_rows=10**6, max_columns=50, max_text_chars=2000)


def opened(data: str | bytes, name: str | None = "posts.csv", limits: Limits = LIMITS, **options: Any) -> FileReader:
    raw = data if isinstance(data, bytes) else data.encode()
    return open_file(io.BytesIO(raw), name, None, ReadOptions(**options), limits)


def rows(data: str | bytes, **kwargs: Any) -> list[FileRow]:
    return list(opened(data, **kwargs))


def refusal(data: str | bytes, **kwargs: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        rows(data, **kwargs)
    return caught.value


def codes(data: str | bytes, **kwargs: Any) -> list[str | None]:
    return [row.error.code.value if row.error else None for row in rows(data, **kwargs)]


def test_fields_are_mapped_and_other_columns_kept_in_order() -> None:
    data = "b,doc_text,image2text,speech2text,custom_id,a\n1,привет,фото,речь,x7,2\n"
    (row,) = rows(data)
    assert row == FileRow(1, "привет", "фото", "речь", "x7", {"b": "1", "a": "2"}, None)
    assert list(row.extra) == ["b", "a"]
    layout = opened(data).layout
    assert layout.columns == ("b", "doc_text", "image2text", "speech2text", "custom_id", "a")
    assert (layout.format, layout.encoding, layout.delimiter, layout.guessed) == ("csv", "utf-8", ",", False)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_when_texts_are_full_of_the_others(delimiter: str) -> None:
    others = "".join({",", ";", "\t", "|"} - {delimiter})
    data = delimiter.join(["date", "text", "n"]) + "\n" + delimiter.join(["2024", f"а{others}б", "1"]) + "\n"
    reader = opened(data)
    assert reader.layout.delimiter == delimiter
    assert [row.doc_text for row in reader] == [f"а{others}б"]


def test_delimiter_within_quotes_of_the_header_is_no_delimiter() -> None:
    reader = opened('"a,b,c";text\n1;да\n')
    assert reader.layout.columns == ("a,b,c", "text")


def test_one_column_needs_no_delimiter_and_keeps_commas() -> None:
    reader = opened('text\nпривет, мир; да\n"в, кавычках"\n')
    assert reader.layout.delimiter is None
    assert [row.doc_text for row in reader] == ["привет, мир; да", "в, кавычках"]


def test_explicit_delimiter_wins() -> None:
    reader = opened("text#id\nа,б#1\n", delimiter="#")
    assert next(iter(reader)).doc_text == "а,б"
    assert opened("text\tid\nа\t1\n", delimiter="tab").layout.delimiter == "\t"
    for bad in ("ab", '"', "\n", "x", "\x00"):
        assert refusal("text\nа\n", delimiter=bad).code == "bad_delimiter"


def test_sep_line_of_excel_is_followed_and_is_not_the_header() -> None:
    reader = opened("sep=|\r\ntext|a,b\r\nда|1\r\n")
    assert reader.layout.columns == ("text", "a,b")
    assert [(row.row_no, row.doc_text) for row in reader] == [(1, "да")]


def test_tsv_by_name_uses_tabs_even_where_commas_agree() -> None:
    reader = opened("a,b\ttext\n1,2\tда\n", name="posts.tsv")
    assert (reader.layout.format, reader.layout.delimiter) == ("tsv", "\t")
    assert next(iter(reader)).doc_text == "да"
    assert opened("text,a\nда,1\n", name="posts.tsv").layout.delimiter == ","


@pytest.mark.parametrize("header", ["Текст", " TEXT ", "message", "Текст поста", "\ufeffpost", "full-text"])
def test_column_of_texts_is_found_by_name_or_guessed(header: str) -> None:
    reader = opened(f"id,{header}\n1,да\n")
    assert next(iter(reader)).doc_text == "да"
    assert reader.layout.guessed == (header.strip().lower() != "text")


def test_guess_takes_the_likeliest_and_a_name_beats_it() -> None:
    assert opened("description,message\nа,б\n").layout.mapping == {"doc_text": "message"}
    assert opened("message,text\nа,б\n").layout.mapping == {"doc_text": "text"}
    assert opened("text,doc_text\nа,б\n").layout.mapping == {"doc_text": "doc_text"}


def test_id_is_not_taken_for_custom_id() -> None:
    (row,) = rows("id,text\n5,да\n")
    assert (row.custom_id, row.extra) == (None, {"id": "5"})


def test_explicit_columns_win_and_the_rest_is_still_found() -> None:
    (row,) = rows("id,a,text,image2text\n5,да,нет,фото\n", columns={"doc_text": "A", "custom_id": "id"})
    assert row == FileRow(1, "да", "фото", "", "5", {"text": "нет"}, None)


def test_explicit_columns_must_be_there_once() -> None:
    missing = refusal("id,text\n1,да\n", columns={"doc_text": "body"})
    assert (missing.code, missing.column) == ("missing_column", "body")
    assert "'text'" in missing.message
    assert refusal("id,text\n1,да\n", columns={"title": "id"}).code == "unknown_field"
    twice = refusal("id,text\n1,да\n", columns={"doc_text": "text", "image2text": "text"})
    assert twice.code == "duplicate_column"


def test_no_column_of_texts_lists_the_columns() -> None:
    error = refusal("number,date\n1,2\n")
    assert isinstance(error, UnreadableFile)
    assert error.code == "no_text_column"
    assert error.columns == ("number", "date")
    assert "'number', 'date'" in error.message
    assert "`columns`" in error.message


def test_a_field_that_is_called_nothing_gets_no_column() -> None:
    data = "text,image2text,post\nа,б,в\n"
    assert opened(data, columns={"image2text": ""}).layout.mapping == {"doc_text": "text"}
    reader = opened(data, columns={"doc_text": ""})
    assert reader.layout.mapping == {"image2text": "image2text"}
    assert [row.extra for row in reader] == [{"text": "а", "post": "в"}]
    assert refusal(data, columns={"doc_text": "", "image2text": ""}).code == "no_text_column"


def test_duplicate_names_are_numbered_unless_they_decide() -> None:
    reader = opened("tag,tag,,text,tag_2,\nа,б,в,да,г,д\n")
    assert reader.layout.columns == ("tag", "tag_3", "column_3", "text", "tag_2", "column_6")
    assert next(iter(reader)).extra == {"tag": "а", "tag_3": "б", "column_3": "в", "tag_2": "г", "column_6": "д"}
    assert refusal("text,Text\nа,б\n").code == "duplicate_column"
    assert next(iter(opened("text,text\nа,б\n", columns={"doc_text": "text_2"}))).doc_text == "б"


def test_ragged_rows_are_errors_of_their_own() -> None:
    found = rows("id,text\n1,да\n2\n3,а,б\n4,нет,,\n5,ещё\n")
    assert [row.error and row.error.code.value for row in found] == [None, "broken_row", "broken_row", None, None]
    problem = found[1].error
    assert problem is not None
    assert problem.line == 3
    assert "2 cells" in problem.message
    assert found[1].extra == {"id": "2"}
    assert found[4].row_no == 5


def test_unnamed_columns_at_the_end_may_be_missing() -> None:
    assert codes("id,text,,\n1,да\n2,нет,x,y\n3\n") == [None, None, "broken_row"]


def test_quotes_line_ends_and_blank_lines() -> None:
    data = 'text,n\r\n"две\nстроки",1\r\n\r\nа "б" в,2\r"да ""нет""",3\n"хвост"ы,4'
    found = rows(data)
    assert [row.doc_text for row in found] == ["две\nстроки", 'а "б" в', 'да "нет"', "хвосты"]
    assert [row.row_no for row in found] == [1, 2, 3, 4]


def test_quotes_stay_in_a_file_of_tabs_that_writes_none_around_cells() -> None:
    data = 'id\ttext\n1\t"Спартак" победил\n2\t"Зенит сыграл\n3\tвничью" сказал тренер\n4\t"пока"\n'
    texts = ['"Спартак" победил', '"Зенит сыграл', 'вничью" сказал тренер', '"пока"']
    assert [row.doc_text for row in rows(data)] == texts
    # One that is longer than what is looked at, and ends without a line end.
    found = [row.doc_text for row in rows(data + "5\tда\n" * 90_000 + '6\t"да', limits=LARGE)]
    assert [*found[:4], found[-1]] == [*texts, '"да']


@pytest.mark.parametrize("told", ['"две\tчасти"', '"две\nстр\tоки"', '"да ""нет"""', '"две\nстроки"'])
def test_quotes_are_around_cells_of_a_file_of_tabs_where_one_needs_them(told: str) -> None:
    (first, second) = rows(f'id\ttext\n1\t"хвост"ы\n2\t{told}')
    assert first.doc_text == "хвосты"
    assert second.doc_text == told[1:-1].replace('""', '"')


def test_lines_of_errors_count_lines_of_the_file() -> None:
    found = rows('text,n\n"а\nб",1\n\n,2\n')
    assert found[1].error is not None
    assert found[1].error.line == 5


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('text,n\nа,1\n"б,2\nв,3\n', 3),
        ('text,n\n"а\nб","в\n', 3),
        ('text,n\nа,"', 2),
        ('text,n\r\nа,1\r\n"\r\n\r\n', 3),
    ],
)
def test_open_quote_names_the_line_where_it_was_opened(data: str, line: int) -> None:
    error = refusal(data)
    assert (error.code, error.line) == ("open_quote", line)


def test_open_quote_in_a_long_file_is_refused_without_reading_it_into_memory() -> None:
    data = 'text,n\nа,1\n"б,2\n' + "в,3\n" * 500_000
    error = refusal(data, limits=Limits(10**7, 50, 1000))
    assert (error.code, error.line) == ("row_too_long", 3)


def test_long_line_is_refused_at_its_line() -> None:
    error = refusal("text,n\nа,1\n" + "б" * 1_500_000, limits=Limits(10**7, 50, 1000))
    assert (error.code, error.line) == ("row_too_long", 3)


def test_row_errors_of_texts() -> None:
    data = f"text,image2text\n,\n \t, \n{'а' * 1500},{'б' * 501}\n{'а' * 2000},\nда\x00,нет\n,фото\n"
    assert codes(data) == ["empty_text", "empty_text", "text_too_long", None, "invalid_characters", None]


def test_failed_rows_can_be_stored() -> None:
    long, nul = rows(f"text,n\n{'а' * 2500},1\nда\x00нет,\x00\n")
    assert len(long.doc_text) == LIMITS.max_text_chars
    assert (nul.doc_text, nul.extra) == ("да\ufffdнет", {"n": "\ufffd"})
    assert nul.error is not None
    assert nul.error.column == "text"


def test_nul_beside_the_texts_is_replaced_and_no_error() -> None:
    (row,) = rows("text,custom_id,n\nда,a\x00b,\x00\n")
    assert (row.error, row.custom_id, row.extra) == (None, "a\ufffdb", {"n": "\ufffd"})


def test_on_error_fail_refuses_at_the_first_problem() -> None:
    error = refusal("text,n\nда,1\nда\x00,2\n", on_error="fail")
    assert isinstance(error, UnreadableFile)
    assert (error.code, error.line, error.column) == ("invalid_characters", 3, "text")
    assert refusal("text,n\nда,1\nнет\n", on_error="fail").code == "broken_row"


def test_limits_are_named_with_their_numbers() -> None:
    too_many = refusal("text\n" + "да\n" * 4, limits=Limits(3, 50, 100))
    assert isinstance(too_many, TooLargeFile)
    assert (too_many.code, "3 rows" in too_many.message) == ("too_many_rows", True)
    assert len(rows("text\n" + "да\n" * 3, limits=Limits(3, 50, 100))) == 3
    wide = refusal("text" + ",a" * 100_000 + "\n1\n")
    assert wide.code == "too_many_columns"
    assert "100001" in wide.message
    assert "50" in wide.message


def test_names_of_columns_are_cut_and_bounded_together() -> None:
    assert opened("text," + "я" * 5000 + "\nа,б\n").layout.columns == ("text", "я" * 200)
    names = ",".join(f"{n:03}" + "я" * 197 for n in range(300))
    assert refusal(f"text,{names}\nа\n", limits=Limits(10, 500, 100)).code == "too_many_columns"


@pytest.mark.parametrize("data", ["", " \r\n\r\n ", "\ufeff", "\ufeff\n"])
def test_nothing_is_an_empty_file(data: str) -> None:
    assert refusal(data).code == "empty_file"


@pytest.mark.parametrize("data", ["text", "text,n\n", "text\n\n\n"])
def test_a_header_alone_has_no_rows(data: str) -> None:
    assert refusal(data).code == "no_rows"


def test_a_file_without_a_readable_row_is_refused_with_the_first_problem() -> None:
    error = refusal("text,n\nа\nб\n")
    assert (error.code, error.line) == ("no_readable_row", 2)
    assert "line 2" in error.message
    limits = Limits(10**6, 50, 100)
    seen: list[FileRow] = []
    with pytest.raises(UnreadableFile, match="first 1000 rows"):
        seen.extend(opened("text,n\n" + "а\n" * 100_000, limits=limits))
    assert codes("text,n\n,1\n,2\n") == ["empty_text", "empty_text"]


def test_a_reader_is_read_once() -> None:
    reader = opened("text,n\nа,1\nб,2\n")
    assert len(list(reader)) == 2
    with pytest.raises(RuntimeError, match="once"):
        list(reader)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(
    data=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_csv_writes_is_read_back(
    data: list[tuple[str, str, str]], delimiter: str, encoding: str, line_end: str
) -> None:
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("n", "text", "speech2text"), *data])
    found = rows(target.getvalue().encode(encoding))
    assert [(row.extra["n"], row.doc_text, row.speech2text) for row in found] == data
    assert [row.row_no for row in found] == list(range(1, len(data) + 1))


@given(data=st.lists(CELLS, min_size=1, max_size=20), line_end=st.sampled_from(["\n", "\r\n"]))
def test_one_column_is_read_back(data: list[str], line_end: str) -> None:
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
        [("text",), *((text,) for text in data)]
    )
    assert [row.doc_text for row in rows(target.getvalue())] == data


@given(
    data=st.lists(st.tuples(st.text("аяАЯёЁ«»—,; \n", max_size=20), st.text("xyz1", max_size=5)), min_size=1),
    delimiter=st.sampled_from(",;\t|"),
)
def test_windows_1251_is_read_back_when_named(data: list[tuple[str, str]], delimiter: str) -> None:
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter).writerows([("text", "n"), *data])
    found = rows(target.getvalue().encode("cp1251"), encoding="windows-1251")
    assert [(row.doc_text, row.extra["n"]) for row in found] == data
