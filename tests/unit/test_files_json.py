"""NDJSON, JSON arrays and plain text."""

import io
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files import FileError, FileReader, FileRow, Limits, ReadOptions, UnreadableFile, open_file

LIMITS = Limits(max_rows=5000, max_columns=50, max_text_chars=2000)


def opened(data: str, name: str = "posts.ndjson", limits: Limits = LIMITS, **options: Any) -> FileReader:
    return open_file(io.BytesIO(data.encode()), name, None, ReadOptions(**options), limits)


def refusal(data: str, name: str = "posts.ndjson", **options: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        list(opened(data, name, **options))
    return caught.value


def codes(reader: Iterable[FileRow]) -> list[str | None]:
    return [row.error.code.value if row.error else None for row in reader]


def test_fields_are_read_and_other_keys_kept_as_they_are() -> None:
    line = '{"id": 7, "doc_text": "да", "speech2text": null, "custom_id": 12, "tags": ["а", {"б": 1.5}], "ok": true}'
    reader = opened(line + "\n")
    (row,) = reader
    extra = {"id": 7, "tags": ["а", {"б": 1.5}], "ok": True}
    assert row == FileRow(1, "да", "", "", "12", extra, None)
    assert reader.layout.columns == ("id", "doc_text", "speech2text", "custom_id", "tags", "ok")
    assert reader.layout.mapping == {"doc_text": "doc_text", "speech2text": "speech2text", "custom_id": "custom_id"}


def test_rare_keys_are_still_fields() -> None:
    lines = ['{"text": "да"}'] * 1500 + ['{"text": "нет", "image2text": "фото"}']
    assert list(opened("\n".join(lines)))[-1].image2text == "фото"


@pytest.mark.parametrize("name", ["posts.ndjson", "posts.json"])
def test_keys_that_come_up_late_are_columns_as_far_as_the_limits_allow(name: str) -> None:
    late = [{"image2text": "фото", "n": 1}, {"я" * 201: 1, "\x00": 2, "ы" * 15: 3}, {"m": 4, "k": 5}]
    posts = [{"text": "да"}] * 1500 + late
    text = json.dumps(posts) if name == "posts.json" else "\n".join(map(json.dumps, posts))
    reader = opened(text, name, Limits(max_rows=5000, max_columns=4, max_text_chars=2000, max_header_chars=29))
    assert reader.layout.columns == ("text",)
    assert len(list(reader)) == 1503
    assert reader.layout.columns == ("text", "image2text", "n", "m")
    assert reader.layout.mapping == {"doc_text": "text", "image2text": "image2text"}


@pytest.mark.parametrize("name", ["posts.ndjson", "posts.json"])
def test_a_field_that_is_called_nothing_is_a_key_like_others(name: str) -> None:
    post = '{"text": "да", "image2text": "фото"}'
    reader = opened(post if name == "posts.ndjson" else f"[{post}]", name, columns={"image2text": ""})
    (row,) = reader
    assert (row.image2text, row.extra) == ("", {"image2text": "фото"})
    assert reader.layout.mapping == {"doc_text": "text"}


def test_a_key_that_is_one_field_is_not_another_too() -> None:
    (row,) = opened('{"image2text": "да"}', columns={"doc_text": "image2text"})
    assert (row.doc_text, row.image2text) == ("да", "")


def test_broken_lines_are_errors_of_their_own() -> None:
    lines = [
        '{"text": "да"}',
        '{"text": "да"',
        "[1, 2]",
        '"да"',
        "",
        '{"text": "да"} {"text": "нет"}',
        '{"text": NaN}',
        '{"text": "да", "n": -Infinity}',
        '{"text": "да", "n": 1e999}',
        '{"text": "да", "n": ' + "1" * 5000 + "}",
        '{"text": "да", "n": ' + "[" * 200_000 + "]" * 200_000 + "}",
        '{"text": "да", "n": ' + "[" * 200_000,
        '{"text": "да", "n": "' + "[" * 100 + '"}',
        '{"text": "\tда"}',
        '{"text": "' + "а" * 3_000_000 + '"}',
        '{"text": "нет"}',
    ]
    found = list(opened("\n".join(lines)))
    good = [row.row_no for row in found if row.error is None]
    assert good == [1, 12, 15]
    assert {row.error.code.value for row in found if row.error} == {"broken_row"}
    problem = found[1].error
    assert problem is not None
    assert problem.line == 2
    assert "line 2" in problem.message
    assert "character 14" in problem.message


@pytest.mark.parametrize("value", ["5", "1.5", "true", "[]", '{"a": "b"}'])
def test_fields_must_be_text(value: str) -> None:
    row, _ = opened(f'{{"text": {value}, "a": 1}}\n{{"text": "да"}}')
    assert row.error is not None
    assert (row.error.code.value, row.error.column, row.error.line) == ("not_text", "text", 1)
    assert row.extra == {"a": 1}


def test_custom_id_may_be_a_number_and_nothing_stranger() -> None:
    lines = ['{"text":"а","custom_id":5}', '{"text":"а","custom_id":true}', '{"text":"а","custom_id":{}}']
    found = list(opened("\n".join(lines)))
    assert [row.custom_id for row in found] == ["5", None, None]
    assert codes(found) == [None, "not_text", "not_text"]


def test_characters_that_cannot_be_stored() -> None:
    lines = [
        r'{"text": "\ud83d\ude00"}',
        r'{"text": "а\ud800"}',
        r'{"text": "\u0000"}',
        r'{"text": "а", "\u0000k": ["\udc00", {"\ud800": "\u0000"}], "custom_id": "\ud800"}',
    ]
    found = list(opened("\n".join(lines)))
    assert codes(found) == [None, "invalid_characters", "invalid_characters", None]
    assert found[0].doc_text == "😀"
    assert found[1].doc_text == "а\ufffd"
    assert found[3].extra == {"\ufffdk": ["\ufffd", {"\ufffd": "\ufffd"}]}
    assert found[3].custom_id == "\ufffd"


def test_empty_and_long_texts() -> None:
    reader = opened('{"text": ""}\n{"a": 1}\n{"text": " "}\n{"text": "' + "а" * 2001 + '"}\n{"text": "да"}')
    assert codes(reader) == ["empty_text", "empty_text", "empty_text", "text_too_long", None]


def test_too_many_keys_are_an_error_of_the_row() -> None:
    wide = json.dumps({f"k{n}": n for n in range(100)} | {"text": "да"})
    assert codes(opened(f'{{"text": "да"}}\n{wide}')) == [None, "broken_row"]


def test_a_file_of_other_things_is_refused_with_the_first_problem() -> None:
    error = refusal("привет\nмир\n")
    assert (error.code, error.line) == ("no_readable_row", 1)
    assert "line 1" in error.message
    assert refusal('{"text": 1}\n{"text": 2}').code == "no_readable_row"
    assert refusal('{"a": 1}\n{"b": 2}').code == "no_text_column"
    assert refusal('{"a": 1}', columns={"doc_text": "b"}).code == "missing_column"
    failed = refusal('{"text": "да"}\n{"text": 2}', on_error="fail")
    assert isinstance(failed, UnreadableFile)
    assert (failed.code, failed.line, failed.column) == ("not_text", 2, "text")


def test_a_line_that_is_an_array_is_a_broken_row_of_ndjson() -> None:
    assert codes(opened('[[[\n{"text": "да"}\n[1]\n')) == ["broken_row", None, "broken_row"]


def test_array_is_read_with_its_lines() -> None:
    data = '\n[\n  {"text": "да",\n "a": 1},\n\n {"text": 5}, 7, {"text": null}\n]\n'
    reader = opened(data, "posts.json")
    assert (reader.layout.format, reader.layout.columns) == ("json", ("text", "a"))
    found = list(reader)
    assert codes(found) == [None, "not_text", "broken_row", "empty_text"]
    assert [row.error.line if row.error else None for row in found] == [None, 6, 6, 6]
    assert found[0].extra == {"a": 1}


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        ('[{"text": "да"},\n{"text": }]', "broken_json", 2),
        ('[{"text": "да"}\n{"text": "да"}]', "broken_json", 2),
        ('[{"text": "да"},\n]', "broken_json", 2),
        ('[{"text": "да"}', "broken_json", 1),
        ('[\n{"text": "да"},\n"нет', "broken_json", 3),
        ('[{"text": "да"}]\n[]', "broken_json", 2),
        ("[" * 200_000, "broken_json", 1),
        ('[{"text": NaN}]', "broken_json", 1),
        ('{\n"text": "да"}', "not_an_array", 1),
        ("[]", "no_rows", None),
        (" ", "empty_file", None),
        ('[{"a": 1}]', "no_text_column", None),
    ],
)
def test_arrays_that_cannot_be_read(data: str, code: str, line: int | None) -> None:
    error = refusal(data, "posts.json")
    assert (error.code, error.line) == (code, line)


def test_an_element_nested_too_deep_is_an_error_of_its_row() -> None:
    deep = "[" * 100 + "]" * 100
    assert codes(opened(f'[{{"text": "да", "a": {deep}}}, {{"text": "да"}}]', "a.json")) == ["broken_row", None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


@given(posts=st.lists(st.tuples(STORABLE, JSON), min_size=1, max_size=10), escaped=st.booleans(), indent=st.booleans())
def test_objects_are_read_back(posts: list[tuple[str, object]], escaped: bool, indent: bool) -> None:
    objects = [{"text": text, "kept": kept} for text, kept in posts]
    lines = "\n".join(json.dumps(value, ensure_ascii=escaped) for value in objects)
    array = json.dumps(objects, ensure_ascii=escaped, indent=2 if indent else None)
    for data, name in ((lines, "a.ndjson"), (array, "a.json")):
        found = list(opened(data, name))
        assert [row.doc_text for row in found] == [text for text, _ in posts]
        expected = [json.loads(json.dumps(kept).replace("\\u0000", "\\ufffd")) for _, kept in posts]
        assert [row.extra["kept"] for row in found] == expected


@pytest.mark.parametrize("length", [1, 100, 1900])
def test_arrays_longer_than_a_block_are_read_whole(length: int) -> None:
    objects = [{"text": "ж" * length, "n": n} for n in range(2000)]
    found = list(opened(json.dumps(objects, ensure_ascii=False), "a.json"))
    assert [row.extra["n"] for row in found] == list(range(2000))
    assert {row.doc_text for row in found} == {"ж" * length}


def test_plain_text_is_a_post_a_line() -> None:
    reader = opened('первый, "да"\r\n\n второй\n \n' + "а" * 2001 + "\nда\x00\nпоследний", "posts.txt")
    assert (reader.layout.format, reader.layout.columns) == ("text", ("text",))
    found = list(reader)
    assert [row.doc_text for row in found[:2]] == ['первый, "да"', " второй"]
    assert codes(found) == [None, None, "text_too_long", "invalid_characters", None]
    assert found[2].error is not None
    assert found[2].error.line == 5


def test_a_line_of_plain_text_that_is_too_long_to_hold_is_passed_over() -> None:
    found = list(opened("да\n" + "а" * 3_000_000 + "\r\nнет\n", "posts.txt"))
    assert [row.doc_text for row in found] == ["да", "", "нет"]
    assert found[1].error is not None
    assert (found[1].error.code.value, found[1].error.line) == ("text_too_long", 2)
