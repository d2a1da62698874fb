"""The text of a file in blocks of whole lines, in bounded memory."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO

from api.files.model import ByteStream

BLOCK_BYTES = 256 * 1024


class LongLineError(Exception):
    """A line is longer than the limit. Asking for the next block goes on after it."""


@dataclass(frozen=True)
class Encoding:
    """How bytes become text: the name that is shown, Python's codec, and how many bytes a byte order mark takes."""

    name: str
    codec: str
    bom: int = 0


class TextBlocks:
    """Decodes a stream from its start. Lines end in LF, CR LF or CR and keep their ends.

    The encoding must have been checked (`api.files.encoding`): bytes that do not fit it raise `UnicodeDecodeError`.
    """

    def __init__(self, stream: ByteStream, encoding: Encoding, max_line_chars: int) -> None:
        self.saw_nul = False
        """Whether a NUL was in the text so far. Readers look for it row by row only then, which is slow."""
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding.codec)("strict")
        self._max_line = max_line_chars
        self._carry: list[str] = []
        self._carry_chars = 0
        self._skipping = False
        self._at_end = False
        stream.seek(encoding.bom)

    def next_block(self) -> str:
        """Return the next whole lines, or "" at the end. Raises `LongLineError` for a line over the limit."""
        while not self._at_end:
            text = self._read()
            if self._skipping:
                text = self._after_long_line(text)
            end = _end_of_last_line(text)
            if end:
                return self._take(text[:end], text[end:])
            self._carry.append(text)
            self._carry_chars += len(text)
            if self._carry_chars > self._max_line:
                self._carry, self._carry_chars, self._skipping = [], 0, True
                raise LongLineError
        return self._take("", "")

    def next_part(self) -> str:
        """Return some text wherever it ends, or "" at the end: for formats that are not made of lines."""
        text = ""
        while not text and not self._at_end:
            text = self._read()
        return text

    def lines(self) -> Iterator[tuple[int, str | None]]:
        """Yield (number from 1, line), with None for a line over the limit."""
        number = 0
        while True:
            try:
                block = self.next_block()
            except LongLineError:
                number += 1
                yield number, None
                continue
            if not block:
                return
            for line in StringIO(block, newline=""):
                number += 1
                yield number, line

    def _read(self) -> str:
        data = self._stream.read(BLOCK_BYTES)
        self._at_end = not data
        text = self._decoder.decode(data, self._at_end)
        if "\x00" in text:
            self.saw_nul = True
        return text

    def _take(self, whole: str, rest: str) -> str:
        block = "".join([*self._carry, whole])
        self._carry, self._carry_chars = [rest], len(rest)
        return block

    def _after_long_line(self, text: str) -> str:
        ends = [place for place in (text.find("\n"), text.find("\r")) if place >= 0]
        if not ends:
            return ""
        self._skipping = False
        end = min(ends) + 1
        return text[end + 1 :] if text[end - 1 : end + 1] == "\r\n" else text[end:]


def _end_of_last_line(text: str) -> int:
    """The place after the last line end, 0 without one. A CR at the very end may be half of a CR LF: it waits."""
    return max(text.rfind("\n"), text.rfind("\r", 0, max(len(text) - 1, 0))) + 1
