"""CSV, TSV and their relatives: a header, and rows of cells."""

from collections.abc import Iterator
from typing import Literal

from api.files.columns import map_columns, no_text_column, unique_names
from api.files.dialect import find_dialect, first_row, names_a_text
from api.files.errors import FileCode, UnreadableFile
from api.files.model import FIELDS, FileRow, Layout, Limits, ReadOptions, RowProblem
from api.files.records import Dialect, records
from api.files.rows import problem_of, storable, storable_texts, text_columns
from api.files.source import LongLineError, Text, TextBlocks
from api.files.text_reader import TextReader
from jobs.states import RowError


class DelimitedReader(TextReader):
    """Reads a file of cells.

    A row must have as many cells as the header. Fewer may mean a text broken by a line end that was not quoted, and
    half a text must not be classified as if it were whole, so such a row is an error and not filled up; only cells of
    unnamed columns at the end may be missing. Surplus cells are dropped when they are empty.
    """

    def __init__(
        self,
        text: Text,
        file_format: Literal["csv", "tsv"],
        options: ReadOptions,
        limits: Limits,
    ) -> None:
        self._dialect = _dialect_of(text, file_format, options.delimiter, limits)
        first = next(self._records(text.look(), limits)[1], None)
        if first is None:
            raise UnreadableFile(FileCode.EMPTY_FILE, "The file is empty: there is no header.")
        header = first[1]
        names = unique_names(header, limits)
        mapped = map_columns(header, names, options.columns)
        if mapped is None:
            raise no_text_column(names, line=1 + self._dialect.skip_lines)
        self._least_cells = max(place for place, name in enumerate(header, 1) if name.strip() or place == 1)
        delimiter = self._dialect.delimiter
        layout = Layout(file_format, text.encoding, delimiter, names, mapped.mapping, mapped.guessed)
        super().__init__(text, layout, options, limits)

    def _records(self, parts: Iterator[str], limits: Limits) -> tuple[TextBlocks, Iterator[tuple[int, list[str]]]]:
        blocks = TextBlocks(parts, limits.max_row_chars)
        rows = records(blocks, self._dialect, limits.max_row_chars)
        for _ in range(self._dialect.skip_lines):
            next(rows, None)
        return blocks, rows

    def _rows(self) -> Iterator[FileRow]:
        names = self.layout.columns
        width, least = len(names), self._least_cells
        max_chars = self._limits.max_text_chars
        # A field without a column reads the empty cell that is put behind the last one.
        places = {name: place for place, name in enumerate(names)}
        doc, image, speech, custom = (places.get(self.layout.mapping.get(field, ""), -1) for field in FIELDS)
        others = [(name, place) for name, place in places.items() if place not in (doc, image, speech, custom)]
        called = text_columns(self.layout.mapping)
        kept_aside = [custom, *(place for _, place in others)]
        blocks, rows = self._records(self._text.read(), self._limits)
        next(rows, None)
        for row_no, (line, cells) in enumerate(rows, 1):
            problem = _fit(cells, width, least, line) if len(cells) != width else None
            cells.append("")
            if blocks.saw_nul:
                for place in kept_aside:
                    cells[place] = storable(cells[place])
            texts = cells[doc], cells[image], cells[speech]
            if problem is None and (
                blocks.saw_nul
                or len(texts[0]) + len(texts[1]) + len(texts[2]) > max_chars
                or not (texts[0] and not texts[0].isspace())
            ):
                problem = problem_of(texts, max_chars, line=line, names=called)
            if problem is not None:
                texts = storable_texts(texts, max_chars)
            extra: dict[str, object] = {name: cells[place] for name, place in others}
            yield FileRow(row_no, *texts, cells[custom] or None, extra, problem)


def is_table(beginning: str, is_whole: bool, limits: Limits) -> bool:
    """Whether a text begins with a header of two or more columns that names one of texts."""
    dialect = find_dialect(beginning, is_whole, None, limits.max_row_chars)
    header = first_row(beginning, dialect, limits.max_row_chars)
    return len(header) > 1 and names_a_text(header)


def _dialect_of(text: Text, file_format: Literal["csv", "tsv"], named: str | None, limits: Limits) -> Dialect:
    blocks = TextBlocks(text.look(), limits.max_row_chars)
    try:
        sample = blocks.next_block()
        is_whole = not blocks.next_part()
        if is_whole:
            # A last line without an end is no whole one, and was left behind.
            sample += blocks.next_block()
    except LongLineError:
        message = f"Line 1 or one soon after it is longer than {limits.max_row_chars} characters."
        raise UnreadableFile(FileCode.ROW_TOO_LONG, message, line=1) from None
    if file_format == "tsv" and not named and len(first_row(sample, Dialect("\t"), limits.max_row_chars)) > 1:
        named = "\t"
    return find_dialect(sample, is_whole, named, limits.max_row_chars)


def _fit(cells: list[str], width: int, least: int, line: int) -> RowProblem | None:
    """Bring a row to the width of the header in place, and say so if that is more than a matter of empty cells."""
    found = len(cells)
    surplus = cells[width:]
    del cells[width:]
    cells.extend([""] * (width - len(cells)))
    if found >= least and not any(surplus):
        return None
    message = f"The header has {width} cells, the row on line {line} has {found}."
    if any("\n" in cell for cell in cells):
        message += " A quote may be left open in it."
    return RowProblem(RowError.BROKEN_ROW, message, None, line)
