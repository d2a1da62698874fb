"""Classify a file without any server: rows in, batches through the model, rows out, in bounded memory."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from api.files import FileReader, FileRow, Limits, ReadOptions, open_file
from cli.results_out import Answer, ResultsWriter
from jobs.states import RowError
from ml.classifier import Classifier
from ml.posts import Post

BATCH_ROWS = 256
"""Few enough that an interruption loses seconds, enough that texts of like length can be computed together."""

OPEN_KEYS = ("ndjson", "json")
"""Formats in which every row may bring columns of its own: all are known only at the end."""


class LiveStream(Protocol):
    """A pipe: `read1` returns what is there rather than waiting for as much as was asked for."""

    def read1(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Incoming:
    """A file that is ready to be read.

    Attributes:
        columns: all of its own columns.
        mapping: which of them is which field.
        rows: how many there are; None where that shows only at the end.
    """

    reader: FileReader
    columns: tuple[str, ...]
    mapping: Mapping[str, str]
    rows: int | None


@dataclass
class Tally:
    """How far it is."""

    rows: int = 0
    failed: int = 0
    without_topic: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, never 0."""
        return max(time.monotonic() - self.began, 1e-6)


@contextmanager
def incoming_file(path: Path, options: ReadOptions, limits: Limits) -> Iterator[Incoming]:
    """Open a file on disk.

    It is read twice. The first time takes seconds where the model takes hours; it counts the rows, so that the time
    left can be told, and a file that is broken at its end is refused before anything was computed.
    """
    with path.open("rb") as stream:
        first = open_file(stream, path.name, None, options, limits)
        found = _survey(first)
    with path.open("rb") as stream:
        yield Incoming(open_file(stream, path.name, None, options, limits), *found)


@contextmanager
def incoming_pipe(pipe: LiveStream, options: ReadOptions, limits: Limits) -> Iterator[Incoming]:
    """Open a pipe, and answer while it is still being written to.

    JSON is the exception: it is kept in a temporary file until its end, because only then all columns are known.
    """
    with tempfile.TemporaryFile() as copy:
        recorder = _Recorder(pipe, copy)
        reader = open_file(recorder, None, None, options, limits)
        if reader.layout.format not in OPEN_KEYS:
            recorder.stop()
            yield Incoming(reader, reader.layout.columns, reader.layout.mapping, None)
            return
        found = _survey(reader)
        recorder.stop()
        copy.seek(0)
        yield Incoming(open_file(copy, None, None, options, limits), *found)


class _Recorder:
    """Passes a pipe on and keeps a copy of what was read until it is told to stop."""

    def __init__(self, pipe: LiveStream, copy: BinaryIO) -> None:
        self._pipe = pipe
        self._copy: BinaryIO | None = copy

    def read(self, size: int, /) -> bytes:
        block = self._pipe.read1(size)
        if self._copy is not None:
            self._copy.write(block)
        return block

    def stop(self) -> None:
        self._copy = None


def _survey(reader: FileReader) -> tuple[tuple[str, ...], Mapping[str, str], int]:
    """Read all rows, and return all columns, which of them is which field, and the number of rows."""
    extra: dict[str, None] = {}
    count = 0
    for row in reader:
        count += 1
        extra.update(dict.fromkeys(row.extra))
    # What a row brings that the reader had no room for is a column here all the same.
    return tuple(dict.fromkeys((*reader.layout.columns, *extra))), reader.layout.mapping, count


def predict(
    reader: FileReader,
    classifier: Classifier,
    writer: ResultsWriter,
    write: Callable[[bytes], object],
    advance: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Classify all rows and hand them to `write`, whole rows at a time, in the order of the file.

    Rows that cannot be used come out with their `error`. `advance` is called after each batch. Raises what the reader
    and `write` raise; what was written until then is complete rows.
    """
    tally = Tally()
    thresholds = [topic.threshold for topic in classifier.info.topics]
    write(writer.header())
    for rows in _batches(reader):
        answers = _answers(rows, classifier)
        write(writer.rows(list(zip(rows, answers, strict=True))))
        tally.rows += len(rows)
        for answer in answers:
            if answer.probabilities is None:
                tally.failed += 1
            elif all(one < limit for one, limit in zip(answer.probabilities, thresholds, strict=True)):
                tally.without_topic += 1
        advance(tally)
    return tally


def _batches(reader: FileReader) -> Iterator[list[FileRow]]:
    batch: list[FileRow] = []
    for row in reader:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _answers(rows: Sequence[FileRow], classifier: Classifier) -> list[Answer]:
    good = [row for row in rows if row.error is None]
    predictions = classifier.predict([Post(row.doc_text, row.image2text, row.speech2text) for row in good])
    answers = {row.row_no: Answer(None, None, f"{row.error.code}: {row.error.message}") for row in rows if row.error}
    for index, row in enumerate(good):
        failure = predictions.failures.get(index)
        truncated = bool(predictions.truncated[index])
        if failure is None:
            answers[row.row_no] = Answer(predictions.probabilities[index].tolist(), truncated, None)
        else:
            answers[row.row_no] = Answer(None, truncated, f"{RowError.MODEL_FAILED}: {failure}")
    return [answers[row.row_no] for row in rows]
