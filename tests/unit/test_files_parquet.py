"""Parquet files: their types, their codecs, and what hostile ones cannot do; and the process that parses them."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_json, write_parquet

from api.files import FileError, FileReader, FileRow, Limits, ReadOptions, TooLargeFile, open_file
from api.files.sandbox import ROOT
from api.files.table import TableReader
from tests.support import memory_of, wait_until

LIMITS = Limits(max_rows=100_000, max_columns=50, max_text_chars=100_000, max_parser_bytes=1 << 30)
TEXTS = ["Сегодня матч", "ещё один", None]


def parquet(columns: dict[str, Array], **options: Any) -> bytes:
    target = io.BytesIO()
    write_parquet(RecordBatch.from_pydict(columns), target, **options)
    return target.getvalue()


def texts(values: list[str | None], kind: DataType | None = None) -> Array:
    return Array(values, kind or DataType.utf8())


def nested(values: list[Any], kind: DataType) -> Array:
    """A column of lists or structures, which arro3 makes of JSON only."""
    lines = "".join(json.dumps({"a": value}) + "\n" for value in values)
    (batch,) = read_json(io.BytesIO(lines.encode()), Schema([Field("a", kind, nullable=True)]))
    return batch.column("a")


def opened(data: bytes, limits: Limits = LIMITS, **options: Any) -> FileReader:
    return open_file(io.BytesIO(data), "posts.parquet", None, ReadOptions(**options), limits)


def refusal(data: bytes, limits: Limits = LIMITS, **options: Any) -> FileError:
    with pytest.raises(FileError) as caught:
        list(opened(data, limits, **options))
    return caught.value


def kept(column: Array) -> list[object]:
    """What becomes of a column beside the texts."""
    data = parquet({"text": texts(["пост"] * len(column)), "a": column})
    return [row.extra["a"] for row in opened(data)]


# --- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["uncompressed", "snappy", "gzip(6)", "brotli(3)", "zstd(1)", "lz4_raw"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_texts_come_through_every_codec(compression: str, dictionary: bool) -> None:
    columns = {"id": Array([7, 8, None], DataType.int64()), "text": texts(TEXTS), "source": texts(["вк"] * 3)}
    data = parquet(columns, compression=compression, dictionary_enabled=dictionary, max_row_group_size=2)
    reader = opened(data, columns={"custom_id": "id"})
    assert reader.layout.format == "parquet"
    assert reader.layout.encoding is None
    assert reader.layout.columns == ("id", "text", "source")
    rows = list(reader)
    assert rows[0] == FileRow(1, "Сегодня матч", "", "", "7", {"source": "вк"})
    assert [row.row_no for row in rows] == [1, 2, 3]
    assert rows[2].custom_id is None
    assert rows[2].error is not None
    assert (rows[2].error.code, rows[2].error.line) == ("empty_text", 3)


@pytest.mark.parametrize("kind", [DataType.utf8(), DataType.large_utf8(), DataType.string_view()])
def test_every_type_of_texts_is_text(kind: DataType) -> None:
    data = parquet({"text": texts(["раз"]).cast(kind)})
    assert [row.doc_text for row in opened(data)] == ["раз"]


def test_a_dictionary_of_texts_is_text_and_a_column_of_nothing_is_empty() -> None:
    repeated = texts(["раз", "два", "раз"]).cast(DataType.dictionary(DataType.int32(), DataType.utf8()))
    data = parquet({"text": repeated, "image2text": nested([None] * 3, DataType.null())})
    assert [(row.doc_text, row.image2text) for row in opened(data)] == [("раз", ""), ("два", ""), ("раз", "")]


LIST = DataType.list(Field("item", DataType.utf8(), nullable=True))
DEEP = DataType.struct([Field("x", DataType.int64(), nullable=True), Field("y", LIST, nullable=True)])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (Array([2**62, -1, None], DataType.int64()), [2**62, -1, None]),
        (Array([2**64 - 1], DataType.uint64()), [2**64 - 1]),
        (Array([0.1, float("nan"), float("inf")], DataType.float64()), [0.1, None, None]),
        (Array([True, None], DataType.bool()), [True, None]),
        (Array([b"\x00\xff", b"", None], DataType.binary()), ["00ff", "", None]),
        (nested([["a", None], [], None], LIST), [["a", None], [], None]),
        (
            nested([{"x": 1, "y": ["я"]}, {"x": None, "y": None}, None], DEEP),
            [{"x": 1, "y": ["я"]}, {"x": None, "y": None}, None],
        ),
        (texts(["12345678901234567890.1200"]).cast(DataType.decimal128(30, 4)), ["12345678901234567890.1200"]),
        (texts(["2024-01-02T03:04:05.678"]).cast(DataType.timestamp("ms")), ["2024-01-02T03:04:05.678"]),
        (texts(["2024-01-02"]).cast(DataType.date32()), ["2024-01-02"]),
        (texts(["03:04:05"]).cast(DataType.time32("s")), ["03:04:05"]),
        (texts(["нуль \x00 и \\u0000 и конец"]), ["нуль \ufffd и \\u0000 и конец"]),
    ],
)
def test_other_columns_are_kept_as_json_values(column: Array, expected: list[object]) -> None:
    found = kept(column)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (Array([1], DataType.int64()), "Int64"),
        (Array([b"text"], DataType.binary()), "Binary"),
        (nested([["a"]], LIST), "List"),
    ],
)
def test_a_column_of_texts_that_holds_something_else_is_refused(column: Array, named: str) -> None:
    error = refusal(parquet({"text": column}))
    assert (error.code, error.column) == ("not_text", "text")
    assert named in error.message


def test_characters_that_no_text_may_contain_are_an_error_of_the_row() -> None:
    rows = list(opened(parquet({"text": texts(["раз", "нуль \x00", "три"])})))
    assert [row.error and row.error.code for row in rows] == [None, "invalid_characters", None]


def test_columns_are_named_and_guessed_as_in_a_csv() -> None:
    data = parquet({"Пост": texts(["раз"]), " a ": texts(["x"]), "": texts(["y"])})
    reader = opened(data)
    assert reader.layout.guessed
    assert reader.layout.columns == ("Пост", "a", "column_3")
    assert [row.extra for row in reader] == [{"a": "x", "column_3": "y"}]
    assert refusal(data, columns={"doc_text": "b"}).code == "missing_column"
    assert refusal(parquet({"a": texts(["x"])})).code == "no_text_column"
    assert refusal(parquet({f"c{n}": texts(["x"]) for n in range(60)})).code == "too_many_columns"
    assert refusal(parquet({"text": texts([])})).code == "no_rows"


def test_gzip_around_it_is_unpacked() -> None:
    assert [row.doc_text for row in opened(gzip.compress(parquet({"text": texts(["раз"])})))] == ["раз"]


# --- damaged and hostile files --------------------------------------------------------------------------------------


def test_damaged_files_are_refused_or_read_and_never_break_anything() -> None:
    data = parquet(
        {"text": texts([f"Сегодня матч {n}" for n in range(200)]), "n": Array(list(range(200)), DataType.int64())}
    )
    random = Random(7)
    read = 0
    for _ in range(25):
        changed = bytearray(data)
        for _ in range(random.randint(1, 20)):
            changed[random.randrange(4, len(data))] = random.randrange(256)
        # Whatever else came of it would be raised.
        with suppress(FileError):
            list(opened(bytes(changed)))
            read += 1
    assert read < 20


@pytest.mark.parametrize("end", [8, 100, -1, -8])
def test_a_file_that_is_cut_off_is_refused(end: int) -> None:
    assert refusal(parquet({"text": texts(["раз"])})[:end]).code == "broken_parquet"


def test_millions_of_rows_in_a_kilobyte_meet_the_limit_of_rows() -> None:
    batch = RecordBatch.from_pydict({"text": texts(["раз"] * 100_000)})
    target = io.BytesIO()
    write_parquet(RecordBatchReader.from_batches(batch.schema, [batch] * 30), target, compression="zstd(1)")
    data = target.getvalue()
    assert len(data) < 20_000
    error = refusal(data)
    assert isinstance(error, TooLargeFile)
    assert error.code == "too_many_rows"
    assert refusal(data, replace(LIMITS, max_unpacked_bytes=1_000_000)).code == "too_many_bytes"


def test_a_value_that_is_repeated_cannot_fill_the_memory() -> None:
    value = "много " * 1_000_000
    kind = DataType.dictionary(DataType.int32(), DataType.utf8())
    schema = Schema([Field("text", kind)])
    batch = RecordBatch.from_arrays([texts([value] * 20).cast(kind)], schema=schema)
    target = io.BytesIO()
    write_parquet(
        RecordBatchReader.from_batches(schema, [batch] * 50),
        target,
        compression="zstd(1)",
        dictionary_page_size_limit=1 << 26,
    )
    assert len(target.getvalue()) < 100_000
    error, peak = memory_of(lambda: refusal(target.getvalue(), replace(LIMITS, max_text_chars=10_000_000)))
    assert error.code == "too_much_memory"
    assert str(LIMITS.max_parser_bytes) in error.message
    assert peak < 100_000_000, "in this process"


def test_a_row_longer_than_any_may_be_is_an_error_of_that_row() -> None:
    limits = replace(LIMITS, max_text_chars=10)
    rows = list(opened(parquet({"text": texts(["раз", "два"]), "a": texts(["x" * 7_000_000, "y"])}), limits))
    assert [row.error and row.error.code for row in rows] == ["text_too_long", None]
    assert rows[1].extra == {"a": "y"}


def test_nesting_deeper_than_the_limit_is_an_error_of_the_row() -> None:
    kind = DataType.utf8()
    value: Any = "дно"
    for _ in range(10):
        kind, value = DataType.list(Field("item", kind, nullable=True)), [value]
    data = parquet({"text": texts(["раз", "[[[[[[[[[[[["]), "a": nested([value, None], kind)})
    assert [row.error for row in opened(data)] == [None, None]
    rows = list(opened(data, replace(LIMITS, max_depth=8)))
    assert [row.error and row.error.code for row in rows] == ["broken_row", None]


# --- the process ----------------------------------------------------------------------------------------------------

MANY = {"text": texts([f"Сегодня матч {n}" for n in range(50_000)])}


def begun() -> tuple[TableReader, psutil.Process]:
    """A reader in the middle of a file, and the process that parses it for it."""
    # Servers of other tests may run beside it.
    others = set(psutil.Process().children())
    reader = opened(parquet(MANY))
    assert isinstance(reader, TableReader)
    (child,) = set(psutil.Process().children()) - others
    return reader, child


def test_the_parser_knows_nothing_and_may_take_little() -> None:
    reader, child = begun()
    assert "PATH" in child.environ()
    assert not {name for name in child.environ() if name not in {"PATH", "MALLOC_ARENA_MAX", "LC_CTYPE"}}
    assert child.cwd() == "/"
    if sys.platform == "linux":
        assert child.rlimit(psutil.RLIMIT_AS)[0] == LIMITS.max_parser_bytes
        assert child.rlimit(psutil.RLIMIT_CPU)[0] < 120
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "1000\n"
    assert len(list(reader)) == 50_000
    assert not child.is_running()


def test_who_reads_only_the_first_rows_ends_the_parser() -> None:
    reader, child = begun()
    rows = iter(reader)
    assert len(list(islice(rows, 20))) == 20
    del rows, reader
    assert not child.is_running()


def test_who_does_not_read_at_all_ends_the_parser() -> None:
    reader, child = begun()
    del reader
    assert not child.is_running()


@pytest.mark.parametrize(
    ("cause", "code"),
    [(signal.SIGXCPU, "too_much_time"), (signal.SIGKILL, "too_much_memory"), (signal.SIGSEGV, "broken_parquet")],
)
def test_a_parser_that_dies_is_a_file_that_is_refused(cause: signal.Signals, code: str) -> None:
    reader, child = begun()
    os.kill(child.pid, cause)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, what="the end of the parser")
    with pytest.raises(FileError) as caught:
        list(reader)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")


def test_a_parser_caught_in_a_loop_runs_out_of_time() -> None:
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from api.sandbox.child import allow; allow(0.1)"
    program = f"{start}\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-I", "-c", program], check=False, timeout=60)
    assert ended.returncode == -signal.SIGXCPU
