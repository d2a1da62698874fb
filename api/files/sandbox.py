"""Parsers of binary formats, kept at arm's length: each file is parsed by a process of its own.

`api.sandbox.child` runs with little memory, little time, no environment and one pipe out; what comes through the pipe
is JSON. Whatever a file does to its parser, the API sees a process that ended.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from api.files.errors import FileCode, FileError, TooLargeFile, UnreadableFile, UnsupportedFile
from api.files.model import Limits

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent.parent
PIPE_BYTES = 1 << 20
HEAD_BYTES = 16 << 20
ENDING_SECONDS = 10
_START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from api.sandbox.child import main; main()"

_TOO_LARGE = frozenset(
    {FileCode.TOO_MANY_BYTES, FileCode.UNPACKS_TOO_FAR, FileCode.TOO_MANY_ENTRIES, FileCode.TOO_MUCH_MEMORY}
)
_UNSUPPORTED = frozenset({FileCode.LOOKS_LIKE_EXCEL, FileCode.LOOKS_LIKE_DOCUMENT, FileCode.LOOKS_LIKE_ARCHIVE})

Kind = Literal["sheet", "parquet"]


class Sandboxed:
    """A file that is being parsed by another process. `head` describes it; `lines` yields its rows, once."""

    def __init__(self, kind: Kind, file: BinaryIO, limits: Limits, **parameters: Any) -> None:
        """Start to parse `file`, from its beginning. Raises `FileError` when it cannot even be opened."""
        self._kind = kind
        self._limits = limits
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._process = _start(kind, file, self._complaints, _parameters(limits) | parameters)
        # Whoever drops a file half read may forget to say so.
        self._ended = weakref.finalize(self, _end, self._process, self._complaints)
        self._bytes = 0
        try:
            self.head = self._message(self._line(HEAD_BYTES))
        except BaseException:
            self.close()
            raise

    def lines(self) -> Iterator[bytes | None]:
        """Yield the JSON of each row, or None for one that is longer than any row may be. Ends the process."""
        # A character takes at most six bytes, as an escape.
        longest = 6 * self._limits.max_row_chars
        try:
            while True:
                line = self._line(longest)
                if line.startswith(b"!"):
                    self._message(line)
                    return
                if line.endswith(b"\n"):
                    yield line
                elif self._skip():
                    yield None
                else:
                    raise self._died()
        finally:
            self.close()

    def close(self) -> None:
        """End the process, whatever it is doing. Can be called more than once."""
        self._ended()

    def _line(self, longest: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101  (it was asked for)
        line = self._process.stdout.readline(longest)
        self._bytes += len(line)
        if self._bytes > self._limits.max_unpacked_bytes:
            message = (
                f"The file is larger than the limit of {self._limits.max_unpacked_bytes} bytes when it is unpacked."
            )
            raise TooLargeFile(FileCode.TOO_MANY_BYTES, message)
        return line

    def _skip(self) -> bool:
        """Go past the rest of a row that is too long; False when there is no end to it."""
        while rest := self._line(PIPE_BYTES):
            if rest.endswith(b"\n"):
                return True
        return False

    def _message(self, line: bytes) -> dict[str, Any]:
        if not line.startswith(b"!") or not line.endswith(b"\n"):
            raise self._died()
        message: dict[str, Any] = json.loads(line[1:])
        if "error" in message:
            raise self._refusal(message["error"], message["message"])
        return message

    def _refusal(self, code: str, message: str) -> FileError:
        if code == "broken":
            code = FileCode.BROKEN_PARQUET if self._kind == "parquet" else FileCode.BROKEN_SHEET
            message = f"The {_WORDS[self._kind]} cannot be read: {message.rstrip('.') or 'it is damaged'}."
        elif code == FileCode.TOO_MUCH_MEMORY:
            message = self._too_much_memory()
        kind = TooLargeFile if code in _TOO_LARGE else UnsupportedFile if code in _UNSUPPORTED else UnreadableFile
        return kind(code, message)

    def _died(self) -> FileError:
        """What to say of a process that ended without a word."""
        try:
            status = self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            status = 0
        self._complaints.seek(0)
        said = self._complaints.read(2000).decode("utf-8", "replace").strip()
        log.warning("the parser of a %s ended with status %s: %s", _WORDS[self._kind], status, said)
        if status == -signal.SIGXCPU:
            message = f"The {_WORDS[self._kind]} takes far too long to read for its size. Send it as CSV."
            return TooLargeFile(FileCode.TOO_MUCH_TIME, message)
        if "memory allocation" in said or "MemoryError" in said or status == -signal.SIGKILL:
            return TooLargeFile(FileCode.TOO_MUCH_MEMORY, self._too_much_memory())
        return self._refusal("broken", "the parser broke down over it")

    def _too_much_memory(self) -> str:
        return (
            f"Reading the {_WORDS[self._kind]} takes more memory than the limit of {self._limits.max_parser_bytes} "
            "bytes. Send it as CSV, which needs next to none."
        )


_WORDS: dict[str, str] = {"sheet": "spreadsheet", "parquet": "Parquet file"}


def _parameters(limits: Limits) -> dict[str, Any]:
    return {
        "max_parser_bytes": limits.max_parser_bytes,
        "max_archive_entries": limits.max_archive_entries,
        "max_unpacked_bytes": limits.max_unpacked_bytes,
        "max_unpack_ratio": limits.max_unpack_ratio,
        "max_columns": limits.max_columns,
    }


def _start(kind: Kind, file: BinaryIO, complaints: BinaryIO, parameters: dict[str, Any]) -> subprocess.Popen[bytes]:
    descriptor = file.fileno()
    return subprocess.Popen(
        [sys.executable, "-I", "-X", "utf8", "-c", _START, kind, str(descriptor), json.dumps(parameters)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        bufsize=PIPE_BYTES,
        pass_fds=[descriptor],
        cwd="/",
        # Nothing of ours: no password of a database, no proxy. One arena for all threads keeps memory to its bound.
        env={"MALLOC_ARENA_MAX": "1", "PATH": os.defpath},
    )


def _end(process: subprocess.Popen[bytes], complaints: BinaryIO) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    complaints.close()
