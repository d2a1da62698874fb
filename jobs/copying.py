"""PostgreSQL's COPY in both directions, streamed: rows of Python values in, blocks of bytes out.

The text format is described in the PostgreSQL manual under COPY, "Text Format".
"""

import json
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Any

from sqlalchemy import Connection, Engine

from jobs.database import translated

BLOCK_BYTES = 1 << 16
BLOCK_BYTES_OUT = 1 << 18
"""Larger on the way out: each block goes from thread to thread and becomes a chunk of an HTTP response."""
_COPY_IN_CHARS = 1 << 17

_encode_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


def escaped(value: str | None) -> str:
    """One field of a COPY line; None is NULL.

    Four searches that mostly find nothing cost a tenth of `str.translate`, which looks at each character of a text
    beyond ASCII by itself.
    """
    if value is None:
        return "\\N"
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if "\n" in value:
        value = value.replace("\n", "\\n")
    if "\t" in value:
        value = value.replace("\t", "\\t")
    if "\r" in value:
        value = value.replace("\r", "\\r")
    return value


def json_field(value: Mapping[str, Any] | None) -> str:
    """A jsonb field of a COPY line; None is NULL. JSON has no line ends or tabs of its own, only backslashes."""
    if value is None:
        return "\\N"
    try:
        # The columns of a table are all text: joined here they cost a third of what the encoder takes to set itself up.
        encoded = "{" + ",".join([f"{_quoted(name)}:{_quoted(kept)}" for name, kept in value.items()]) + "}"
    except TypeError:
        encoded = _encode_json(value)
    return encoded.replace("\\", "\\\\") if "\\" in encoded else encoded


def real_array(values: Sequence[float] | None) -> str:
    """A real[] field of a COPY line, with the nine digits that give every float32 back; None is NULL."""
    return "\\N" if values is None else _array_format(len(values)) % tuple(values)


@lru_cache(maxsize=64)
def _array_format(length: int) -> str:
    return "{" + ",".join(["%.9g"] * length) + "}"


class _Lines:
    """A file that psycopg2 reads from: lines are made as they are asked for, so a file of any size needs one block."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._block = b""
        self._place = 0

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        if self._place >= len(self._block):
            self._block, self._place = self._next_block(), 0
        self._place += size
        return self._block[self._place - size : self._place]

    def _next_block(self) -> bytes:
        parts = []
        held = 0
        for line in self._lines:
            parts.append(line)
            held += len(line)
            if held >= _COPY_IN_CHARS:
                break
        return "".join(parts).encode()


def copy_in(connection: Connection, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    """COPY `lines` (each ending in a newline, made of the fields above joined by tabs) into `table`.

    Runs in the transaction of `connection`. An error that the iterable raises passes through as it is.
    """
    cursor = connection.connection.cursor()
    failed: list[Exception] = []

    def guarded() -> Iterator[str]:
        # psycopg2 turns an error of the reader into a QueryCanceled of its own; the first cause is kept for us.
        try:
            yield from lines
        except Exception as error:
            failed.append(error)
            raise

    try:
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", _Lines(guarded()), BLOCK_BYTES)
    except BaseException:
        if failed:
            raise failed[0] from None
        raise
    finally:
        cursor.close()


class _Pipe:
    """A file that psycopg2 writes to from a thread of its own, and an iterator of blocks on the other side."""

    def __init__(self) -> None:
        self.blocks: queue.Queue[bytes | None] = queue.Queue(maxsize=8)
        self.abandoned = threading.Event()
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        if len(self._held) >= BLOCK_BYTES_OUT:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._held:
            self._put(bytes(self._held))
            self._held.clear()

    def close(self) -> None:
        self.flush()
        self._put(None)

    def _put(self, block: bytes | None) -> None:
        while not self.abandoned.is_set():
            try:
                self.blocks.put(block, timeout=0.5)
            except queue.Full:
                continue
            return
        raise BrokenPipeError("the reader of this export is gone")


def copy_out(engine: Engine, query: str, parameters: Mapping[str, Any], options: str) -> Iterator[bytes]:
    """Run `COPY (query) TO STDOUT (options)` and yield its bytes in blocks of about 256 KiB, as they come.

    `query` uses psycopg2's `%(name)s` placeholders. Memory is bounded by eight blocks whatever the size of the answer;
    a reader that stops early ends the query. Errors of the query are raised in the reader.
    """
    pipe = _Pipe()
    failed: list[BaseException] = []

    def pump() -> None:
        try:
            with translated(), engine.connect() as connection:
                cursor: Any = connection.connection.cursor()
                sql = cursor.mogrify(f"COPY ({query}) TO STDOUT WITH ({options})", parameters)
                cursor.copy_expert(sql, pipe, BLOCK_BYTES)
                pipe.flush()
        except BaseException as error:
            failed.append(error)
        finally:
            if not pipe.abandoned.is_set():
                pipe.close()

    thread = threading.Thread(target=pump, name="copy-out", daemon=True)
    thread.start()
    try:
        while (block := pipe.blocks.get()) is not None:
            yield block
        if failed:
            raise failed[0]
    finally:
        pipe.abandoned.set()
