"""One pass over a file: it is never read twice, wherever its parts are cut and wherever its encoding shows."""

import io
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files import FileReader, FileRow, Limits, ReadOptions, TooLargeFile, UnreadableFile, open_file
from api.files.source import lines_of
from api.files.spool import spooled
from api.files.stream import Peekable

LIMITS = Limits(max_rows=100_000, max_columns=50, max_text_chars=2000)


class Dribble:
    """A stream that cannot go back and gives as many bytes at a time as it likes."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._stream = io.BytesIO(data)
        self._sizes = random.Random(seed)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._sizes.choice((1, 2, 7, 1000, 70_000))))


def dribbled(data: bytes, name: str, seed: int = 0) -> FileReader:
    return open_file(Dribble(data, seed), name, None, ReadOptions(), LIMITS)


def found(data: bytes, name: str) -> list[FileRow]:
    return list(open_file(io.BytesIO(data), name, None, ReadOptions(), LIMITS))


@given(
    data=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30), min_size=1
    ),
    name=st.sampled_from(["a.csv", "a.ndjson", "a.json"]),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    seed=st.integers(0, 1000),
)
def test_rows_are_the_same_however_the_bytes_come(data: list[str], name: str, codec: str, seed: int) -> None:
    objects = [{"text": text or "a", "n": n} for n, text in enumerate(data)]
    lines = [json.dumps(item, ensure_ascii=False) for item in objects]
    content = {
        "a.csv": "text,n\n" + "".join('"{}",{}\n'.format(o["text"].replace('"', '""'), o["n"]) for o in objects),  # type: ignore[attr-defined]
        "a.ndjson": "\n".join(lines),
        "a.json": f"[{','.join(lines)}]",
    }[name].encode(codec)
    rows = list(dribbled(content, name, seed))
    assert rows == found(content, name)
    assert [row.doc_text for row in rows] == [item["text"] for item in objects]


@pytest.mark.parametrize("plain_lines", [0, 1, 3000, 40_000])
@pytest.mark.parametrize("codec", ["utf-8", "cp1251"])
def test_the_encoding_is_decided_where_ascii_ends(plain_lines: int, codec: str) -> None:
    lines = ["only english here"] * plain_lines + ["и тут вдруг по-русски, ещё и ещё"] * 9000
    data = ("text\n" + "\n".join(lines)).encode(codec)
    reader = dribbled(data, "posts.txt")
    assert [row.doc_text for row in reader] == ["text", *lines]
    assert reader.layout.encoding == ("utf-8" if codec == "utf-8" else "windows-1251")


@pytest.mark.parametrize(("codec", "bad"), [("utf-8", b"\xff"), ("cp1251", b"\x98"), ("utf-8", b"\xd0")])
@pytest.mark.parametrize("lines", [5, 9000, 50_000])
def test_a_byte_that_does_not_fit_later_is_refused_with_its_place(codec: str, bad: bytes, lines: int) -> None:
    data = b"text\n" + ("привет, мир, как дела\n" * lines).encode(codec)
    with pytest.raises(UnreadableFile) as caught:
        list(dribbled(data + bad + b"\nthe end\n", "posts.csv"))
    error = caught.value
    assert (error.code, error.byte) == ("bad_encoding", len(data))
    assert f"0x{bad.hex().upper()}" in error.message
    assert "`encoding`" in error.message


def test_a_long_beginning_that_tells_nothing_is_no_end() -> None:
    blank = b" " * 8_000_000
    assert [row.doc_text for row in dribbled(b"[" + blank + b'{"text": "a"}]', "a.json")] == ["a"]
    with pytest.raises(UnreadableFile, match="millions of blank"):
        dribbled(blank + b"text\na\n", "a.csv")


def test_the_first_rows_may_be_as_long_as_rows_may_be() -> None:
    long = "ж" * (LIMITS.max_row_chars - 1000)
    limits = Limits(100, 50, LIMITS.max_row_chars)
    for name, data in (
        ("a.csv", f'n,text\n"{long}",a\n"{long}",b\n'),
        ("a.ndjson", f'{{"text": "a", "n": "{long}"}}\n{{"n": "{long}", "text": "b"}}\n'),
        ("a.json", f'[{{"text": "a", "n": "{long}"}}, {{"n": "{long}", "text": "b"}}]'),
    ):
        rows = list(open_file(io.BytesIO(data.encode()), name, None, ReadOptions(), limits))
        assert [(row.doc_text, row.extra, row.error) for row in rows] == [(text, {"n": long}, None) for text in "ab"]


def test_what_was_peeked_at_is_read() -> None:
    stream = Peekable(Dribble(b"0123456789" * 100, 3))
    assert stream.peek(15) == b"012345678901234"
    assert stream.peek(3) == b"012"
    taken = b""
    while block := stream.read(7):
        taken += block
    assert taken == b"0123456789" * 100
    assert stream.peek(5) == b""


def test_a_spooled_file_is_whole_and_has_a_limit() -> None:
    data = random.Random(2).randbytes(3_000_000)
    with spooled(Dribble(data, 4), len(data)) as file:
        assert file.read() == data
        file.seek(10)
        assert file.read(5) == data[10:15]
    with pytest.raises(TooLargeFile, match="limit of 2999999 bytes"):
        spooled(Dribble(data, 4), len(data) - 1)


@pytest.mark.parametrize(
    ("limits", "name", "data", "code"),
    [
        (Limits(10, 50, 100, max_header_chars=10), "a.csv", "text,seven77\na,b\n", "too_many_columns"),
        (Limits(10, 50, 100, max_depth=3), "a.ndjson", '{"text": "a", "b": [[[1]]]}\n', "no_readable_row"),
        (Limits(10, 50, 100, max_depth=3), "a.json", '[{"text": "a", "b": [[[1]]]}]', "no_readable_row"),
        (Limits(10, 3, 100), "a.csv", "text,a,b,c\na,b,c,d\n", "too_many_columns"),
    ],
)
def test_limits_are_answered_with_their_numbers(limits: Limits, name: str, data: str, code: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        list(open_file(io.BytesIO(data.encode()), name, None, ReadOptions(), limits))
    assert caught.value.code == code
    assert "10" in caught.value.message or "3" in caught.value.message


def test_depth_within_the_limit_is_kept() -> None:
    (row,) = open_file(
        io.BytesIO(b'{"text": "a", "b": [[1]]}'), "a.ndjson", None, ReadOptions(), Limits(10, 50, 100, max_depth=3)
    )
    assert row.extra == {"b": [[1]]}


@given(st.text("ab\n\r\x0b\x0c\x1c\x85\u2028", max_size=30))
def test_lines_end_where_files_end_them(block: str) -> None:
    assert list(lines_of(block)) == list(io.StringIO(block, newline=""))
