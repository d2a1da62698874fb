"""The text of a file, in parts as they are decoded or in blocks of whole lines, in bounded memory."""

from collections.abc import Iterable, Iterator
from io import StringIO

from api.files.encoding import BLOCK_BYTES, Decoder


class LongLineError(Exception):
    """A line is longer than the limit. Asking for the next block goes on after it."""


class Text:
    """The text of a file that can be looked at from its beginning, again and again, before it is read once."""

    def __init__(self, decoder: Decoder, max_row_chars: int) -> None:
        self._decoder = decoder
        # Room for a row of the greatest length, and for another one that has begun before it.
        self._most = 2 * max_row_chars + 4 * BLOCK_BYTES
        self._seen: list[str] = []
        self._seen_chars = 0
        self._at_end = False

    @property
    def encoding(self) -> str:
        """The name of the encoding, as far as the file was read."""
        return self._decoder.encoding

    def look(self) -> "Look":
        """Return the parts of the beginning of the text."""
        return Look(self)

    def read(self) -> Iterator[str]:
        """Yield the text in parts, from its beginning; what was yielded is gone."""
        self._seen.reverse()
        while self._seen:
            yield self._seen.pop()
        while not self._at_end:
            text = self._decoder.read()
            if not text:
                return
            yield text

    def seen(self, place: int) -> str | None:
        """Part number `place` of the beginning; "" at the end of the file, None when no more can be looked at."""
        if place == len(self._seen) and not self._at_end:
            if self._seen_chars >= self._most:
                return None
            text = self._decoder.read()
            if not text:
                self._at_end = True
                return ""
            self._seen.append(text)
            self._seen_chars += len(text)
        return self._seen[place] if place < len(self._seen) else ""


class Look:
    """An iterator of the parts of the beginning of a text."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._place = 0
        self.is_cut = False
        """Whether the text goes on behind the last part that can be looked at."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        part = self._text.seen(self._place)
        if not part:
            self.is_cut = part is None
            raise StopIteration
        self._place += 1
        return part


class TextBlocks:
    """Cuts the parts of a text into lines. These end in LF, CR LF or CR and keep their ends."""

    def __init__(self, parts: Iterator[str], max_line_chars: int) -> None:
        self.saw_nul = False
        """Whether a NUL was in the text so far. Readers look for it row by row only then, which is slow."""
        self._parts = parts
        self._max_line = max_line_chars
        self._carry: list[str] = []
        self._carry_chars = 0
        self._skipping = False
        self._at_end = False

    def next_block(self) -> str:
        """Return the next whole lines, or "" at the end. Raises `LongLineError` for a line over the limit."""
        while not self._at_end:
            text = self.next_part()
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
        text = next(self._parts, "")
        self._at_end = not text
        if "\x00" in text:
            self.saw_nul = True
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
            for line in lines_of(block):
                number += 1
                yield number, line

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


def lines_of(block: str) -> Iterable[str]:
    """The lines of a block with their ends: LF, CR LF or CR.

    `str.splitlines` knows further ends, which may stand within a line here, and `StringIO` takes twice as long: it is
    left to the files of old Macs, with a CR alone.
    """
    if "\r" in block and block.count("\r") != block.count("\r\n"):
        return StringIO(block, newline="")
    lines = [f"{line}\n" for line in block.split("\n")]
    rest = lines.pop()[:-1]
    return [*lines, rest] if rest else lines


def _end_of_last_line(text: str) -> int:
    """The place after the last line end, 0 without one. A CR at the very end may be half of a CR LF: it waits."""
    return max(text.rfind("\n"), text.rfind("\r", 0, max(len(text) - 1, 0))) + 1
