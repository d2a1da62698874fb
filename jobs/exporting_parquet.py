"""All rows of a job as Parquet, streamed.

Postgres writes CSV, and a process of its own (`jobs.parquet_child`) turns that into Parquet as it comes, on another
core and without holding up the threads of this one. An empty text and none are the same there: both are null.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, cast

from sqlalchemy import Engine

from jobs.copying import copy_out
from jobs.errors import UnavailableError
from jobs.exporting import Columns, Export
from jobs.filtering import probability_of

ROOT = Path(__file__).resolve().parent.parent
BLOCK_BYTES = 1 << 16
_START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from jobs.parquet_child import main; main()"


def export_parquet(engine: Engine, export: Export) -> Iterator[bytes]:
    """A Parquet file in blocks of bytes; memory does not grow with the job.

    The file's own columns are strings, `row` is an integer, probabilities are doubles of all the digits that
    are stored, `truncated` is a boolean.
    """
    columns = Columns(export)
    own = sum(cell.is_own for cell in columns.cells)
    topics = [topic.id for topic in export.model.topics] if export.model else []
    selected = [cell.as_text for cell in columns.cells]
    # As they are stored: rounding twenty numbers takes Postgres longer than everything else in a row.
    selected[own + 1 : own + 1 + len(topics)] = [probability_of(topic, export.models) for topic in topics]
    rows = copy_out(engine, columns.query(", ".join(selected)), columns.values, "FORMAT csv")
    # Before a process is started: a query that fails must not look like the beginning of a file. With a filter there
    # may be no row at all.
    first = next(rows, b"")
    types = ["text"] * own + ["int"] + ["float"] * len(topics) + ["text", "bool", "text"]
    schema = list(zip(columns.names(defuse=False), types, strict=True))
    yield from _converted(schema, chain([first], rows))


def _converted(schema: list[tuple[str, str]], rows: Iterator[bytes]) -> Iterator[bytes]:
    # An argument holds 128 KiB at most, and the names of all columns may be longer.
    with tempfile.TemporaryFile() as described:
        described.write(json.dumps(schema).encode())
        described.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", _START, str(described.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[described.fileno()],
        )
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018  (they were asked for)
    failed: list[BaseException] = []
    feeder = threading.Thread(target=_feed, args=(child, child.stdin, rows, failed), name="parquet", daemon=True)
    feeder.start()
    made = cast(BufferedReader, child.stdout)
    try:
        while block := made.read1(BLOCK_BYTES):
            yield block
        feeder.join()
        if failed or child.wait() != 0:
            cause = failed[0] if failed else None
            raise UnavailableError("The Parquet file could not be written to its end.") from cause
    finally:
        child.kill()
        made.close()
        feeder.join()
        child.wait()


def _feed(child: subprocess.Popen[bytes], sink: IO[bytes], rows: Iterator[bytes], failed: list[BaseException]) -> None:
    """Give the child all rows. One that must not have them all is killed: it would write the end of a whole file."""
    try:
        for block in rows:
            sink.write(block)
        sink.close()
    except BaseException as error:
        failed.append(error)
        child.kill()
        with suppress(OSError):
            sink.close()
