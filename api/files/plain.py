"""Plain text: a post a line."""

from collections.abc import Iterator

from api.files.model import FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.rows import problem_of, storable_texts
from api.files.source import Text, TextBlocks
from api.files.text_reader import TextReader
from jobs.states import RowError

COLUMN = "text"


class PlainReader(TextReader):
    """Reads each line that is not blank as a post of its `doc_text` alone."""

    def __init__(self, text: Text, options: ReadOptions, limits: Limits) -> None:
        layout = Layout("text", text.encoding, None, (COLUMN,), {"doc_text": COLUMN}, False)
        super().__init__(text, layout, options, limits)

    def _rows(self) -> Iterator[FileRow]:
        max_chars = self._limits.max_text_chars
        blocks = TextBlocks(self._text.read(), self._limits.max_row_chars)
        row_no = 0
        for line, text in blocks.lines():
            if text is None:
                row_no += 1
                message = f"Line {line} is longer than {self._limits.max_row_chars} characters."
                problem: RowProblem | None = RowProblem(RowError.TOO_LONG, message, None, line)
                yield FileRow(row_no, "", "", "", None, {}, problem)
            elif not text.isspace():
                row_no += 1
                texts = text.rstrip("\r\n"), "", ""
                problem = problem_of(texts, max_chars, line=line, names=(COLUMN, "image2text", "speech2text"))
                if problem is not None:
                    texts = storable_texts(texts, max_chars)
                yield FileRow(row_no, *texts, None, {}, problem)
