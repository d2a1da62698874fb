"""Files that gzip packed: whatever is inside, however it was packed, and what only pretends."""

import gzip
import io
import random
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest

from api.files import FileError, Limits, ReadOptions, TooLargeFile, UnreadableFile, UnsupportedFile, open_file
from api.files.gzipped import Gunzip
from api.files.spool import spooled

LIMITS = Limits(max_rows=100_000, max_columns=50, max_text_chars=2000)
CSV = "id;text\n1;Сегодня матч\n2;Ура\n".encode()


def texts(data: bytes, name: str | None = "posts.csv.gz", limits: Limits = LIMITS) -> list[str]:
    return [row.doc_text for row in open_file(io.BytesIO(data), name, "application/gzip", ReadOptions(), limits)]


def refusal(data: bytes, limits: Limits = LIMITS) -> FileError:
    with pytest.raises(FileError) as caught:
        texts(data, limits=limits)
    return caught.value


class Repeated:
    """A stream of one block again and again, which takes no memory itself."""

    def __init__(self, block: bytes, times: int) -> None:
        self._parts: Iterator[bytes] = (block for _ in range(times))
        self._rest = b""
        self.taken = 0

    def read(self, size: int, /) -> bytes:
        self._rest = self._rest or next(self._parts, b"")
        block, self._rest = self._rest[:size], self._rest[size:]
        self.taken += len(block)
        return block


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("posts.csv.gz", CSV, "csv"),
        ("POSTS.CSV.GZIP", CSV, "csv"),
        (None, CSV, "csv"),
        ("posts.tsv.gz", b"text\ta,b\n1\t2\n", "tsv"),
        ("posts.ndjson.gz", b'{"text": "1"}\n', "ndjson"),
        ("posts.json.gz", b'[{"text": "1"}]', "json"),
        ("posts.txt.gz", b"1\n2\n", "text"),
        ("posts.csv.gz", "text\nпривет, мир\n".encode("cp1251"), "csv"),
        ("posts.csv.gz", "text\nпривет, мир\n".encode("utf-16"), "csv"),
    ],
)
def test_every_format_is_read_packed(name: str | None, data: bytes, expected: str) -> None:
    reader = open_file(io.BytesIO(gzip.compress(data)), name, "application/gzip", ReadOptions(), LIMITS)
    assert reader.layout.format == expected
    plain = open_file(io.BytesIO(data), (name or "a.csv").rpartition(".")[0], None, ReadOptions(), LIMITS)
    assert list(reader) == list(plain)
    assert reader.layout == plain.layout


def test_several_members_are_one_file() -> None:
    data = gzip.compress(CSV[:20]) + gzip.compress(b"") + gzip.compress(CSV[20:])
    assert texts(data) == ["Сегодня матч", "Ура"]
    assert texts(data + bytes(1000)) == ["Сегодня матч", "Ура"]


def test_what_is_cut_off_or_damaged_is_refused_with_its_place() -> None:
    noise = random.Random(1).randbytes(300_000).hex()
    whole = gzip.compress(f"text\n{noise}\n".encode())
    limits = Limits(100, 50, 1_000_000)
    for length in (2, 9, 30, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        error = refusal(whole[:length], limits)
        assert isinstance(error, UnreadableFile)
        assert (error.code, error.byte) == ("broken_gzip", length)
    damaged = bytearray(whole)
    damaged[200_000:200_004] = bytes(4)
    error = refusal(bytes(damaged), limits)
    assert error.code == "broken_gzip"
    assert error.byte is not None
    assert error.byte > 100_000
    assert refusal(whole[:-8] + bytes(8), limits).code == "broken_gzip"
    followed = refusal(whole + b"PK", limits)
    assert (followed.code, followed.byte) == ("broken_gzip", len(whole))


def test_gzip_within_gzip_is_refused() -> None:
    error = refusal(gzip.compress(gzip.compress(CSV)))
    assert isinstance(error, UnsupportedFile)
    assert error.code == "packed_twice"


def test_an_empty_file_is_empty_when_it_is_packed() -> None:
    assert refusal(gzip.compress(b"")).code == "empty_file"


def test_the_unpacked_size_has_a_limit() -> None:
    data = gzip.compress(b"text\n" + b"".join(b"%d\n" % n for n in range(20_000)))
    error = refusal(data, Limits(100_000, 50, 2000, max_unpacked_bytes=50_000))
    assert isinstance(error, TooLargeFile)
    assert (error.code, "50000 bytes" in error.message) == ("too_many_bytes", True)


def test_a_small_file_may_be_packed_well() -> None:
    data = gzip.compress(b"text,n\n" + b"a" + b" " * 1000 + b",1\n" + b"a,1\n" * 50_000)
    assert len(data) * LIMITS.max_unpack_ratio < 200_000
    assert len(texts(data)) == 50_001


@pytest.mark.parametrize("name", ["posts.csv.gz", "posts.ndjson.gz", "posts.json.gz", "posts.txt.gz", None])
@pytest.mark.parametrize("pattern", [b"\n", b"a", b"text," + b"a" * 1000 + b"\n", b'"', b"["])
def test_a_bomb_is_refused_in_little_memory(name: str | None, pattern: bytes) -> None:
    packer = zlib.compressobj(9, wbits=31)
    member = packer.compress(pattern * (10_000_000 // len(pattern))) + packer.flush()
    stream = Repeated(member, 100)
    tracemalloc.start()
    try:
        with pytest.raises(FileError) as caught:
            list(open_file(stream, name, None, ReadOptions(), LIMITS))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    # What is no table of posts may be refused for that before it has unpacked to much.
    assert stream.taken < 4 * len(member)
    assert isinstance(caught.value, TooLargeFile) or caught.value.code in {
        "empty_file", "row_too_long", "no_readable_row", "broken_json", "not_an_array", "no_text_column", "open_quote",
    }  # fmt: skip


def test_a_bomb_is_told_by_its_ratio_and_by_its_size() -> None:
    member = gzip.compress(bytes(10_000_000))
    for max_bytes, max_ratio, code in ((8 << 30, 200, "unpacks_too_far"), (50_000_000, 10_000, "too_many_bytes")):
        stream = Gunzip(Repeated(member, 1000), max_bytes, max_ratio)
        with pytest.raises(TooLargeFile) as caught:
            spooled(stream, 1 << 40)
        assert caught.value.code == code
        assert str(max_ratio if code == "unpacks_too_far" else max_bytes) in caught.value.message


def test_a_flood_of_empty_members_is_no_file() -> None:
    stream = Gunzip(Repeated(gzip.compress(b"") * 100, 1_000_000), 8 << 30, 200)
    with pytest.raises(UnreadableFile, match="members hold only 0 bytes"):
        stream.read(1 << 18)
