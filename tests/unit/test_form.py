"""Multipart forms as they come in: in any pieces, and in every way wrong."""

import io
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.form import Form, Part
from api.problems import ProblemError

TYPE = "multipart/form-data; boundary=edge"


class Dribble:
    """A stream that gives as many bytes at a time as it likes."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._stream = io.BytesIO(data)
        self._sizes = random.Random(seed)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._sizes.choice((1, 3, 8, 50, 5000))))


def form_of(data: bytes, content_type: str = TYPE, seed: int = 0) -> Form:
    return Form(Dribble(data, seed), content_type, max_parts=10, max_field_bytes=2000)


def field(head: str, value: bytes) -> bytes:
    return f"--edge\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"


def refusal(data: bytes, content_type: str = TYPE) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        read_all(form_of(data, content_type))
    return caught.value


def read_all(form: Form) -> list[tuple[Part, bytes]]:
    found = []
    while (part := form.next_part()) is not None:
        value = b""
        while block := form.read(77):
            assert len(block) <= 77
            value += block
        found.append((part, value))
    return found


def test_fields_come_in_their_order_with_what_is_said_of_them() -> None:
    data = (
        b"preamble\r\n"
        + field('name="name"', "Посты".encode())
        + b'--edge\r\ncontent-type: text/csv; charset=x\r\nContent-Disposition: form-data; name="file"; '
        + 'filename="посты.csv"\r\n\r\na\r\n--edg\r\n\r\n'.encode()
        + field("filename=nameless", b"")
        + b"--edge--\r\nepilogue"
    )
    assert read_all(form_of(data)) == [
        (Part("name", None, None), "Посты".encode()),
        (Part("file", "посты.csv", "text/csv"), b"a\r\n--edg\r\n"),
        (Part("", "nameless", None), b""),
    ]


@given(
    values=st.lists(
        st.lists(st.sampled_from([b"\r\n", b"\n", b"--", b"--edge", b"edge", b"\r", b"a", b"-" * 20])).map(b"".join),
        min_size=1,
        max_size=9,
    ),
    seed=st.integers(0, 1000),
)
def test_values_come_back_whatever_is_in_them(values: list[bytes], seed: int) -> None:
    # A line that is the boundary itself, or begins with it, ends a field: that is what it is for.
    values = [value.replace(b"--edge", b"--egde") for value in values]
    data = b"".join(field(f'name="{n}"', value) for n, value in enumerate(values)) + b"--edge--\r\n"
    assert [value for _, value in read_all(form_of(data, seed=seed))] == values


def test_what_is_not_read_of_a_field_is_passed_over() -> None:
    data = field('name="a"', b"1" * 10_000) + field('name="b"', b"2") + b"--edge--"
    form = form_of(data)
    assert form.next_part() == Part("a", None, None)
    assert form.read(5) in {b"1" * size for size in range(1, 6)}
    assert form.next_part() == Part("b", None, None)
    assert form.value("b") == "2"
    assert (form.next_part(), form.next_part(), form.read(10)) == (None, None, b"")


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", f"{TYPE[:-4]}", f"{TYPE}{'x' * 300}", f'{TYPE[:-4]}"ё"']
)
def test_a_form_needs_a_boundary(content_type: str) -> None:
    error = refusal(field('name="a"', b"1") + b"--edge--", content_type)
    assert (error.status, error.code) == (400, "invalid_form")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ends before its last boundary"),
        (b"text\na\n", "ends before its last boundary"),
        (b"text\na\n" * 100_000, "does not occur"),
        (field('name="a"', b"1"), "ends before its last boundary"),
        (field('name="file"; filename="a.csv"', b"text\n" * 1000)[:-100], "ends before its last boundary"),
        (b"--edge\r\nContent-Type: text/csv\r\n\r\na\r\n--edge--", "Content-Disposition"),
        (b"--edge\r\n\xff\xfe: a\r\n\r\na\r\n--edge--", "Content-Disposition"),
        (b"--edge\r\nContent-Dispos", "ends before its last boundary"),
    ],
)
def test_a_form_that_cannot_be_read_is_400(data: bytes, words: str) -> None:
    error = refusal(data)
    assert (error.status, error.code) == (400, "invalid_form")
    assert words in str(error)


@pytest.mark.parametrize(
    ("data", "code", "number"),
    [
        (field('name="a"', b"1") * 100_000, "too_many_fields", "10"),
        (b"--edge\r\n" + b"X-Long: " + b"x" * 30_000_000, "field_too_long", "2000"),
        (b"--edge\r\n" + b"X-A: b\r\n" * 3_000_000, "field_too_long", "2000"),
    ],
)
def test_a_form_over_a_limit_is_413_in_little_memory(data: bytes, code: str, number: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProblemError) as caught:
            read_all(Form(io.BytesIO(data), TYPE, max_parts=10, max_field_bytes=2000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (caught.value.status, caught.value.code) == (413, code)
    assert number in str(caught.value)
    assert peak < 3_000_000


def test_an_option_has_a_limit_and_a_file_has_none_here() -> None:
    long = field('name="columns"', b"x" * 2001) + b"--edge--"
    form = form_of(long)
    form.next_part()
    with pytest.raises(ProblemError, match="columns is longer than the limit of 2000 bytes"):
        form.value("columns")
    assert len(read_all(form_of(long))[0][1]) == 2001
