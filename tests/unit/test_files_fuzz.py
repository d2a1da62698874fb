"""Good files of every format, damaged at random and handed over in pieces of any size: nothing but rows and refusals.

What comes out never depends on where the stream was cut, and takes little memory whatever went in. The long run tries
many more; a failure prints the seed by which `make test-long SEED=...` repeats it.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

import pytest
from arro3.core import Array, DataType, RecordBatch
from arro3.io import write_parquet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.files import FileCode, FileError, FileRow, Limits, ReadOptions, open_file
from jobs.states import RowError
from tests.sheets import ods, sheet_xml, xls, xlsx
from tests.support import memory_of

LIMITS = Limits(max_rows=2000, max_columns=30, max_text_chars=2000, max_parser_bytes=1 << 30)
MEMORY = 30_000_000
"""Bytes of Python's own objects. The files here have at most some kilobytes, and a row at most a few megabytes."""

TEXTS = ("Сегодня матч, все на «стадион»", 'Он сказал: "да";\tи ушёл', "=1+1", "👍\u2028конец", "a" * 300)
ROWS = [{"id": str(number), "text": text, "image2text": ""} for number, text in enumerate(TEXTS * 3)]


def delimited(delimiter: str, codec: str) -> bytes:
    lines = ["id", "text", "image2text"], *(list(row.values()) for row in ROWS)
    quoted = (delimiter.join('"{}"'.format(cell.replace('"', '""')) for cell in line) for line in lines)
    return "\r\n".join(quoted).encode(codec, "replace")


def parquet() -> bytes:
    columns = {name: Array([row[name] for row in ROWS], DataType.utf8()) for name in ROWS[0]}
    target = io.BytesIO()
    write_parquet(RecordBatch.from_pydict(columns), target)
    return target.getvalue()


TABLE = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
IN_PROCESS = {
    "a.csv": delimited(",", "utf-8-sig"),
    "semicolons.csv": delimited(";", "cp1251"),
    "a.tsv": delimited("\t", "utf-16"),
    "a.ndjson": LINES.encode(),
    "a.json": json.dumps(ROWS, indent=1).encode(),
    "a.txt": "\n".join(TEXTS).encode(),
    "a.csv.gz": gzip.compress(delimited(",", "utf-8")),
    "a.ndjson.gz": gzip.compress(LINES.encode()[:700]) + gzip.compress(LINES.encode()[700:]),
}
IN_A_SANDBOX = {
    "a.xlsx": xlsx({"Лист1": sheet_xml(dict(enumerate(TABLE, 1)))}),
    "a.xls": xls(
        "Sheet1", [[cell.encode("cp1251", "ignore").decode("cp1251")[:200] for cell in line] for line in TABLE]
    ),
    "a.ods": ods("Sheet1", TABLE),
    "a.parquet": parquet(),
}
HOSTILE = (
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"\n", b"\r", b"\r\n", b",", b";", b"\t", b"'", b"\\"),
    *(b"\\u0000", b"\\ud800", b"[" * 100, b"{", b"}", b"NaN", b"1e999", b"-" * 50, b"sep=;\n", b"\xed\xa0\x80"),
    *(b"\x1f\x8b\x08", b"PK\x03\x04", b"PAR1", b"<!ENTITY a 'b'>", b"\x00" * 64, b"a" * 3000, b"\xd0"),
)


@dataclass(frozen=True)
class Damage:
    """What is done to a file at a place, which is a share of its length."""

    place: float
    kind: str
    length: int
    piece: bytes

    def __call__(self, data: bytes) -> bytes:
        start = int(self.place * len(data))
        head, tail = data[:start], data[start:]
        return {
            "insert": head + self.piece + tail,
            "overwrite": head + self.piece + tail[len(self.piece) :],
            "remove": head + tail[self.length :],
            "repeat": head + tail[: self.length] * 20 + tail,
            "cut": head,
            "flip": head + bytes(byte ^ 1 << self.length % 8 for byte in tail[:1]) + tail[1:],
        }[self.kind]


DAMAGES = st.lists(
    st.builds(
        Damage,
        place=st.floats(0, 1),
        kind=st.sampled_from(["insert", "overwrite", "remove", "repeat", "cut", "flip"]),
        length=st.integers(1, 500),
        piece=st.sampled_from(HOSTILE) | st.binary(max_size=20),
    ),
    max_size=6,
)


class Pieces:
    """A stream that cannot go back and gives as many bytes at a time as it likes."""

    def __init__(self, data: bytes, seed: int | None) -> None:
        self._stream = io.BytesIO(data)
        self._sizes = None if seed is None else Random(seed)

    def read(self, size: int, /) -> bytes:
        most = size if self._sizes is None else self._sizes.choice((1, 1, 2, 3, 13, 64, 1000, 70_000))
        return self._stream.read(min(size, most))


Outcome = tuple[list[FileRow], tuple[object, ...] | None]


def outcome(data: bytes, name: str, options: ReadOptions, seed: int | None) -> Outcome:
    """The rows up to the end or to the refusal, and the refusal: its code, place and sentence."""
    found: list[FileRow] = []
    try:
        for row in open_file(Pieces(data, seed), name, None, options, LIMITS):
            found.append(row)  # noqa: PERF402  (what came before a refusal counts)
    except FileError as error:
        return found, (error.code, error.line, error.byte, error.column, error.message)
    return found, None


def texts_in(value: object) -> Iterator[str]:
    """All texts in a value of JSON, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)


def assert_sound(found: list[FileRow], refused: tuple[object, ...] | None) -> None:
    """Rows are numbered and can be stored and sent; a refusal has a code and a sentence."""
    assert [row.row_no for row in found] == list(range(1, len(found) + 1))
    for row in found:
        kept = (row.doc_text, row.image2text, row.speech2text, row.custom_id, row.extra)
        assert not any("\x00" in text for text in texts_in(kept))
        json.dumps(kept, ensure_ascii=False, allow_nan=False).encode()
        assert row.error is not None or any(text.strip() for text in (row.doc_text, row.image2text, row.speech2text))
        assert row.error is None or row.error.code in set(RowError)
    if refused is None:
        assert found
    else:
        assert refused[0] in {*FileCode, *RowError}
        assert str(refused[-1]).encode()


def assert_same(pieces: Outcome, whole: Outcome) -> None:
    """Both ways of reading end alike. Where packed data is damaged is known to about a block, in both of them."""
    (some, refused), (others, refused_too) = pieces, whole
    if refused and refused_too and refused[0] == refused_too[0] == FileCode.BROKEN_GZIP:
        least = min(len(some), len(others))
        assert some[:least] == others[:least]
        return
    assert pieces == whole


def damaged(data: bytes, damages: list[Damage]) -> bytes:
    for damage in damages:
        data = damage(data)
    return data


def quiet(**limits: int) -> settings:
    return settings(deadline=None, suppress_health_check=list(HealthCheck), **limits)


def try_in_process(name: str, damages: list[Damage], inside: bool, on_error: str, seed: int) -> None:
    data = IN_PROCESS[name]
    if inside and name.endswith(".gz"):
        # What is damaged before it was packed is damaged as a whole; what was packed, for the unpacker alone.
        data = gzip.compress(damaged(gzip.decompress(data), damages))
    else:
        data = damaged(data, damages)
    options = ReadOptions(on_error=on_error)  # type: ignore[arg-type]
    whole, peak = memory_of(lambda: outcome(data, name, options, None))
    assert peak < MEMORY
    assert_sound(*whole)
    assert_same(outcome(data, name, options, seed), whole)


ARGUMENTS = {
    "name": st.sampled_from(sorted(IN_PROCESS)),
    "damages": DAMAGES,
    "inside": st.booleans(),
    "on_error": st.sampled_from(["skip", "fail"]),
    "seed": st.integers(0, 1000),
}


@quiet(max_examples=150)
@given(**ARGUMENTS)
@example(name="a.csv", damages=[], inside=False, on_error="fail", seed=0)
def test_damaged_texts_are_rows_or_refusals_wherever_they_are_cut(
    name: str, damages: list[Damage], inside: bool, on_error: str, seed: int
) -> None:
    try_in_process(name, damages, inside, on_error, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@quiet(max_examples=20_000)
@given(**ARGUMENTS)
def test_damaged_texts_for_long(name: str, damages: list[Damage], inside: bool, on_error: str, seed: int) -> None:
    try_in_process(name, damages, inside, on_error, seed)


@pytest.mark.parametrize("name", sorted(IN_PROCESS))
def test_the_files_that_are_damaged_are_good_ones(name: str) -> None:
    found, refused = outcome(IN_PROCESS[name], name, ReadOptions(on_error="fail"), None)
    assert refused is None
    assert len(found) >= len(TEXTS)


# --- spreadsheets and Parquet, which a process of their own reads ---------------------------------------------------


def try_in_a_sandbox(name: str, damages: list[Damage], seed: int) -> None:
    data = damaged(IN_A_SANDBOX[name], damages)
    whole, peak = memory_of(lambda: outcome(data, name, ReadOptions(), None))
    assert peak < MEMORY, "in this process; what the parser may take is a limit of its own process"
    assert_sound(*whole)
    assert_same(outcome(data, name, ReadOptions(), seed), whole)


SANDBOX_ARGUMENTS = {
    "name": st.sampled_from(sorted(IN_A_SANDBOX)),
    "damages": DAMAGES,
    "seed": st.integers(0, 1000),
}


@quiet(max_examples=12)
@given(**SANDBOX_ARGUMENTS)
def test_damaged_sheets_and_parquet_are_rows_or_refusals(name: str, damages: list[Damage], seed: int) -> None:
    try_in_a_sandbox(name, damages, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@quiet(max_examples=600)
@given(**SANDBOX_ARGUMENTS)
def test_damaged_sheets_and_parquet_for_long(name: str, damages: list[Damage], seed: int) -> None:
    try_in_a_sandbox(name, damages, seed)


@pytest.mark.parametrize("name", sorted(IN_A_SANDBOX))
def test_the_sheets_that_are_damaged_are_good_ones(name: str) -> None:
    found, refused = outcome(IN_A_SANDBOX[name], name, ReadOptions(on_error="fail"), 1)
    assert (refused, len(found)) == (None, len(ROWS))


@quiet(max_examples=40)
@given(head=st.binary(max_size=30), pattern=st.sampled_from(HOSTILE), level=st.integers(1, 9))
def test_a_packed_file_of_one_pattern_takes_little_memory(head: bytes, pattern: bytes, level: int) -> None:
    packer = zlib.compressobj(level, wbits=31)
    data = packer.compress(head + pattern * (8_000_000 // len(pattern))) + packer.flush()
    limits = replace(LIMITS, max_unpacked_bytes=4_000_000)

    def read() -> Outcome:
        found = []
        try:
            found = list(open_file(Pieces(data, None), "a.csv.gz", None, ReadOptions(), limits))
        except FileError as error:
            return found, (error.code,)
        return found, None

    _, peak = memory_of(read)
    assert peak < 2 * MEMORY
