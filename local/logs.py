"""The log file of a child: its output line by line, each with the time and its name, in two files of bounded size."""

import contextlib
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

MAX_BYTES = 10_000_000
_MAX_LINE = 64 * 1024
_REMEMBERED_LINES = 40


class ChildLog:
    """Writes what a child prints to `path`; when that is full it becomes `path.1` and a new one is begun.

    A log that cannot be written (a full disk) is given up in silence: the service matters more than its log.
    """

    def __init__(self, path: Path, name: str, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._name = name
        self._max_bytes = max_bytes
        self._rest = b""
        self._last: deque[str] = deque(maxlen=_REMEMBERED_LINES)
        self.lines = 0
        """How many lines the child has printed."""

    @property
    def last_words(self) -> str:
        """The last line of the child that says something, without its time; empty when there is none."""
        return next((line for line in reversed(self._last) if line.strip()), "").strip()

    def feed(self, data: bytes) -> None:
        """Take a piece of output, whether or not it ends with a line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self._write(lines)

    def end(self) -> None:
        """The child has closed its output: write what it left without an end of line."""
        if self._rest:
            self._write([self._rest])
        self._rest = b""

    def note(self, text: str) -> None:
        """Write a line of the supervisor's own about this child. It is not one of the child's words."""
        self._append(f"{_now()} {self._name} -- {text}\n".encode())

    def _write(self, lines: list[bytes]) -> None:
        now = _now()
        self.lines += len(lines)
        self._last.extend(line.decode(errors="replace") for line in lines)
        self._append(b"".join(f"{now} {self._name} | ".encode() + line + b"\n" for line in lines))

    def _append(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size + len(data) > self._max_bytes:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
            with self.path.open("ab") as file:
                file.write(data)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
