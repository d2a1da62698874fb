"""Plain text: a post a line."""

from collections.abc import Iterator

from api.files.model import ByteStream, FileReader, FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.rows import problem_of, storable_texts
from api.files.source import Encoding, TextBlocks
from jobs.states import RowError

COLUMN = "text"


class PlainReader(FileReader):
    """Reads each line that is not blank as a post of its `doc_text` alone."""

    def __init__(self, stream: ByteStream, encoding: Encoding, options: ReadOptions, limits: Limits) -> None:
        self._stream = stream
        self._encoding = encoding
        super().__init__(Layout("text", encoding.name, None, (COLUMN,), {"doc_text": COLUMN}, False), options, limits)

    def _rows(self) -> Iterator[FileRow]:
        max_chars = self._limits.max_text_chars
        blocks = TextBlocks(self._stream, self._encoding, self._limits.max_row_chars)
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
