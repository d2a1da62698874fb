"""A JSON array of objects, read element by element."""

from collections.abc import Iterator

from api.files.errors import FileCode, UnreadableFile
from api.files.model import Limits, ReadOptions
from api.files.object_reader import ObjectReader
from api.files.objects import JsonError, Parsed, after_white, is_too_deep, parse, too_deep
from api.files.source import Look, Text, TextBlocks


class ArrayReader(ObjectReader):
    """Reads one array of objects. An element of the wrong kind is an error of that row.

    Broken JSON refuses the file: nothing says where the next element would begin.
    """

    def __init__(self, text: Text, options: ReadOptions, limits: Limits) -> None:
        super().__init__(text, "json", _first_values(text.look(), limits), options, limits)

    def _values(self) -> Parsed:
        return _values(self._text.read(), self._limits)


def _first_values(look: Look, limits: Limits) -> Parsed:
    """The values at the beginning. What the end of the look cuts off is not broken: the file goes on there."""
    try:
        yield from _values(look, limits)
    except UnreadableFile:
        if not look.is_cut:
            raise


def _values(parts: Iterator[str], limits: Limits) -> Parsed:
    text = _Window(TextBlocks(parts, limits.max_row_chars), limits.max_row_chars)
    if text.peek() == "":
        raise UnreadableFile(FileCode.EMPTY_FILE, "The file is empty.")
    if text.peek() != "[":
        message = "The file is JSON, and neither an array of objects nor an object a line (NDJSON)."
        raise UnreadableFile(FileCode.NOT_AN_ARRAY, message, line=text.line)
    text.skip()
    row_no = 0
    while text.peek() != "]" or row_no:
        row_no += 1
        line = text.line
        value, raw = text.value()
        if is_too_deep(raw, limits.max_depth):
            value = too_deep(limits.max_depth)
        yield row_no, line, value, raw
        if text.peek() == "]":
            break
        if text.peek() != ",":
            raise text.broken("a comma or a closing bracket is missing after an element")
        text.skip()
        text.peek()
    text.skip()
    if text.peek():
        raise text.broken("something follows the array")


class _Window:
    """A part of a text that moves on and grows when a value does not fit into it."""

    def __init__(self, blocks: TextBlocks, max_chars: int) -> None:
        self._blocks = blocks
        self._max_chars = max_chars
        self._text = ""
        self._place = 0
        self._at_end = False
        self._counted = 0
        self.line = 1

    def peek(self) -> str:
        """Go to the next character that is not white space and return it; "" at the end of the file."""
        while True:
            self._place = after_white(self._text, self._place)
            if self._place < len(self._text):
                self.line += self._text.count("\n", self._counted, self._place)
                self._counted = self._place
                return self._text[self._place]
            if not self._grow():
                return ""

    def skip(self) -> None:
        """Go past the character that `peek` returned."""
        self._place += 1

    def value(self) -> tuple[object, str]:
        """Parse the value that begins here, go past it, and return it with its text.

        What does not parse may be cut off by the end of the window, which then grows. It at least doubles, so that
        trying again costs no more than a few times the length of the value.
        """
        while True:
            ahead = len(self._text) - self._place
            try:
                value, end = parse(self._text, self._place)
            except JsonError as error:
                if ahead > self._max_chars or not self._grow(ahead):
                    self.line += self._text.count("\n", self._place, error.place or self._place)
                    raise self.broken(str(error)) from error
                continue
            # A number may go on beyond the window.
            if end == len(self._text) and self._grow():
                continue
            raw = self._text[self._place : end]
            self._place = end
            return value, raw

    def broken(self, reason: str) -> UnreadableFile:
        """The refusal of the file at this place."""
        message = f"The JSON array cannot be read on line {self.line}: {reason}."
        return UnreadableFile(FileCode.BROKEN_JSON, message, line=self.line)

    def _grow(self, least: int = 1) -> bool:
        """Take in at least so many characters more, if there are any; drop what lies behind."""
        if self._at_end:
            return False
        self.line += self._text.count("\n", self._counted, self._place)
        parts = [self._text[self._place :]]
        self._place = self._counted = 0
        grown = 0
        while grown < max(least, 1):
            part = self._blocks.next_part()
            if not part:
                self._at_end = True
                break
            parts.append(part)
            grown += len(part)
        self._text = "".join(parts)
        return grown > 0
