"""What a file is and how its bytes are read: foreign formats, names that lie, encodings, and bounded memory."""

import io
import json
import re
import tracemalloc
import zipfile
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.files import FileError, FileReader, FileRow, Limits, ReadOptions, UnreadableFile, UnsupportedFile, open_file

LIMITS = Limits(max_rows=100_000, max_columns=50, max_text_chars=2000)
RUSSIAN = "id;text\n1;Сегодня в городе открылся новый стадион.\n2;«Зенит» выиграл — ура!\n"


def opened(data: bytes, name: str | None = None, media_type: str | None = None, **options: Any) -> FileReader:
    return open_file(io.BytesIO(data), name, media_type, ReadOptions(**options), LIMITS)


def refusal(data: bytes, name: str | None = None, media_type: str | None = None, **options: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        list(opened(data, name, media_type, **options))
    return caught.value


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (zipped("[Content_Types].xml", "word/document.xml"), "looks_like_document"),
        (zipped("posts.csv"), "looks_like_archive"),
        (b"%PDF-1.7\n...", "looks_like_document"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "looks_like_media"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "looks_like_media"),
        (b"\x00\x00\x00\x18ftypmp42\x00", "looks_like_media"),
        (b"\n <!DOCTYPE html>\n<html>", "looks_like_html"),
        (b"<TABLE><tr><td>text", "looks_like_html"),
        (bytes(range(256)) * 10, "looks_like_binary"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08text", "looks_like_binary"),
    ],
)
@pytest.mark.parametrize("name", ["posts.csv", "posts.ndjson", None])
def test_foreign_formats_are_named_whatever_the_file_is_called(data: bytes, code: str, name: str | None) -> None:
    error = refusal(data, name)
    assert isinstance(error, UnsupportedFile)
    assert error.code == code


@pytest.mark.parametrize("header", ["PAR1", "BZh", "ID3", "GIF8", "abc,ftyp", "RIFF"])
def test_a_header_that_begins_like_a_foreign_format_is_a_header(header: str) -> None:
    assert len(list(opened(f"{header},text\n1,2,3\n1,2\n1,2,3\n".encode()))) == 3


@pytest.mark.parametrize(
    ("name", "media_type", "data", "expected"),
    [
        ("a.csv", None, b"text,a\n1,2\n", "csv"),
        ("A.CSV", "application/octet-stream", b"text,a\n1,2\n", "csv"),
        (None, "text/csv; charset=utf-8", b"text,a\n1,2\n", "csv"),
        (None, None, b"text,a\n1,2\n", "csv"),
        ("a.xls", "application/vnd.ms-excel", b"text,a\n1,2\n", "csv"),
        (None, "text/tab-separated-values", b"text\ta\n1\t2\n", "tsv"),
        ("a.tsv", "text/csv", b"text\ta\n1\t2\n", "tsv"),
        ("a.jsonl", None, b'{"text":"1"}\n', "ndjson"),
        ("a.json", None, b'{"text":"1"}\n{"text":"2"}\n', "ndjson"),
        ("a.csv", None, b'{"text":"1", "a": "b"}\n', "ndjson"),
        (None, None, b'{"text":"1"}', "ndjson"),
        ("a.ndjson", None, b'[{"text":"1"},\n{"text":"2"}]', "json"),
        (None, "application/json", b' [\n{"text":"1"}]', "json"),
        ("a.csv", None, b'[{"text":"1"}]', "json"),
        ("a.txt", None, b"text and more, really\nno\n", "text"),
        (None, "text/plain", b'{"text":"1"}', "text"),
        ("a.txt", None, "текст\tдата\nда\t1\n".encode(), "csv"),
        ("../../" + "x" * 10_000 + "\r\n\x00.csv", None, b"text,a\n1,2\n", "csv"),
    ],
)
def test_kind_by_content_name_and_media_type(
    name: str | None, media_type: str | None, data: bytes, expected: str
) -> None:
    reader = opened(data, name, media_type)
    assert reader.layout.format == expected
    assert all(row.error is None for row in reader)


def test_a_picture_by_media_type_is_refused() -> None:
    assert refusal(b"text\nabc\n", None, "image/png").code == "unsupported_media_type"
    assert len(list(opened(b"text\nabc\n", "a.csv", "image/png"))) == 1


@pytest.mark.parametrize(
    ("codec", "mark", "expected"),
    [
        ("utf-8", b"", "utf-8"),
        ("utf-8", b"\xef\xbb\xbf", "utf-8"),
        ("utf-16-le", b"\xff\xfe", "utf-16"),
        ("utf-16-be", b"\xfe\xff", "utf-16"),
        ("utf-16-le", b"", "utf-16"),
        ("utf-16-be", b"", "utf-16"),
        ("utf-32-le", b"\xff\xfe\x00\x00", "utf-32"),
        ("cp1251", b"", "windows-1251"),
    ],
)
def test_encodings_are_found(codec: str, mark: bytes, expected: str) -> None:
    reader = opened(mark + RUSSIAN.encode(codec), "posts.csv")
    assert (reader.layout.encoding, reader.layout.columns) == (expected, ("id", "text"))
    assert [row.doc_text for row in reader] == ["Сегодня в городе открылся новый стадион.", "«Зенит» выиграл — ура!"]


def test_windows_1251_is_found_when_russian_begins_late() -> None:
    data = "text\n" + "only english here\n" * 20_000 + "и тут вдруг по-русски\n"
    reader = opened(data.encode("cp1251"), "posts.csv")
    assert reader.layout.encoding == "utf-8"
    assert list(reader)[-1].doc_text == "и тут вдруг по-русски"
    assert reader.layout.encoding == "windows-1251"


@pytest.mark.parametrize("codec", ["koi8-r", "cp866", "iso8859-5"])
def test_other_cyrillic_encodings_are_not_taken_for_windows_1251(codec: str) -> None:
    error = refusal(RUSSIAN.replace("«", "").replace("»", "").replace("—", "").encode(codec), "posts.csv")
    assert (error.code, error.byte) == ("bad_encoding", len("id;text\n1;"))
    assert codec in error.message
    reader = opened("text\nпривет\n".encode(codec), "posts.csv", encoding="iso-8859-5" if "iso" in codec else codec)
    assert next(iter(reader)).doc_text == "привет"


@pytest.mark.parametrize(
    "data",
    [
        "text\ndéjà vu à la carte\n".encode("latin-1"),
        "text\nпривет, мир\n".encode() + b"\xd0",
        b"text\n" + "привет, мир\n".encode() * 50_000 + b"\xff" + "ещё\n".encode(),
    ],
)
def test_bytes_in_no_known_encoding_are_refused_with_their_place(data: bytes) -> None:
    error = refusal(data, "posts.csv")
    assert isinstance(error, UnreadableFile)
    assert error.code == "bad_encoding"
    with pytest.raises(UnicodeDecodeError) as expected:
        data.decode("utf-8")
    assert error.byte == expected.value.start
    assert f"Byte {error.byte}" in error.message


def test_named_encoding_is_held_to() -> None:
    error = refusal("text\nпривет\n".encode("cp1251"), "a.csv", encoding="UTF-8")
    assert (error.code, error.byte) == ("bad_encoding", 5)
    assert refusal(b"text\nabc\n", "a.csv", encoding="zlib_codec").code == "unknown_encoding"
    assert refusal("text\nпривет\n".encode("utf-16")[:-1], "a.csv").code == "bad_encoding"
    reader = opened("text\nа,б\n".encode("utf-16"), "a.csv", encoding="utf-16")
    assert [row.doc_text for row in reader] == ["а,б"]


class Endless(io.RawIOBase):
    """A file of a repeated pattern behind a beginning, which takes no memory itself."""

    def __init__(self, beginning: bytes, pattern: bytes, size: int) -> None:
        super().__init__()
        self._beginning, self._pattern, self._size, self._place = beginning, pattern * 4096, size, 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        assert whence == 0
        self._place = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        size = min(size, self._size - self._place)
        begun = self._beginning[self._place : self._place + size]
        shift = max(self._place - len(self._beginning), 0) % len(self._pattern)
        missing = size - len(begun)
        repeats = (shift + missing) // len(self._pattern) + 1
        self._place += size
        return begun + (self._pattern * repeats)[shift : shift + missing]


def outcome(reader: FileReader) -> tuple[list[FileRow], FileError | None]:
    """The rows up to the end or to the refusal, and the refusal."""
    found: list[FileRow] = []
    try:
        found.extend(reader)
    except FileError as error:
        return found, error
    return found, None


@pytest.mark.parametrize(
    ("name", "beginning", "pattern", "expected"),
    [
        ("one-line.csv", b"text\n", b"a", "row_too_long"),
        ("quote.csv", b'text,n\n"', b"a\n", "row_too_long"),
        ("cells.csv", b"text,n\n", b",a", "row_too_long"),
        ("header.csv", b"text", b",a", "row_too_long"),
        ("one-line.ndjson", b"", b"a", "no_readable_row"),
        ("string.ndjson", b'{"text":"', b"a", "no_readable_row"),
        ("nested.ndjson", b'{"text":', b"[", "no_readable_row"),
        ("string.json", b'[{"text":"', b"a", "broken_json"),
        ("nested.json", b"[", b"[", "broken_json"),
        ("blank.json", b"[", b" ", "broken_json"),
        ("one-line.txt", b"", b"a", "text_too_long"),
        ("blank.txt", b"", b"\n", "empty_file"),
        ("rows.txt", b"", b"abc\n", "too_many_rows"),
    ],
)
def test_memory_is_bounded_by_the_limits_and_not_by_the_file(
    name: str, beginning: bytes, pattern: bytes, expected: str
) -> None:
    stream = Endless(beginning, pattern, size=60_000_000)

    def read() -> list[str]:
        reader = open_file(stream, name, None, ReadOptions(), LIMITS)
        return [row.error.code.value for row in reader if row.error]

    tracemalloc.start()
    try:
        try:
            codes = read()
        except FileError as error:
            codes = [error.code]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000
    assert codes == [expected]


PIECES = (
    *(
        b"text",
        b"text,n\n",
        b'{"text":"a"}',
        b"[",
        b"]",
        b"{",
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\xff\xfe",
        b";",
        b"\t",
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"1e999",
        b"1" * 5000,
        b"sep=;",
        b"\xd0\xbf",
        b"PK",
        b":",
    ),
)


@given(
    data=st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)),
    name=st.sampled_from([None, "a.csv", "a.tsv", "a.ndjson", "a.json", "a.txt"]),
    encoding=st.sampled_from([None, "utf-16", "windows-1251", "iso-8859-1"]),
    on_error=st.sampled_from(["skip", "fail"]),
)
@example(data=b"text\n" + b"\xef" * 3, name="a.csv", encoding=None, on_error="skip")
def test_whatever_the_bytes_are_only_file_errors_come_out(
    data: bytes, name: str | None, encoding: str | None, on_error: str
) -> None:
    try:
        reader = opened(data, name, encoding=encoding, on_error=on_error)
        found, refused = outcome(reader)
    except FileError as error:
        found, refused = [], error
    if refused is not None:
        assert re.fullmatch(r"[A-Z`].*[.?]", refused.message, re.DOTALL)
        assert refused.message.encode()
    assert [row.row_no for row in found] == list(range(1, len(found) + 1))
    for row in found:
        texts = (row.doc_text, row.image2text, row.speech2text)
        assert "\\x00" not in repr((texts, row.custom_id, row.extra))
        assert json.dumps((texts, row.custom_id, row.extra), ensure_ascii=False, allow_nan=False).encode()
        assert row.error is not None or any(text.strip() for text in texts)
