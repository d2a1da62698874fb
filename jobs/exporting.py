"""All rows of a job, streamed out of Postgres in the form in which they are downloaded.

The file's own columns come first, then `row`, one probability per topic, `topics`, `truncated` and `error`. Rows are
in file order and as they are at this moment: those that nobody has computed yet have empty cells.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from jobs.copying import copy_out
from jobs.csv_lines import USUAL, Dialect, csv_lines
from jobs.filtering import RowFilter, is_assigned, probability_of
from jobs.reading import JOINED
from jobs.records import Job, Model

BOM = b"\xef\xbb\xbf"
"""What tells Excel that a CSV is UTF-8."""

SUSPICIOUS = "=+-@\t\r"
"""A cell that begins with one of these may be a formula to a spreadsheet (OWASP, "CSV Injection")."""


@dataclass(frozen=True)
class Export:
    """What is exported: all rows of a job or the `wanted` ones, with the topics of `model` as columns.

    Probabilities that another of `models` made stand in the columns of the same topics. There may be no model yet; then
    there are no such columns. `thresholds` replaces those of the models, by topic.
    """

    job: Job
    model: Model | None
    models: Sequence[Model]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    wanted: RowFilter = RowFilter()  # noqa: RUF009  (frozen)


def export_csv(
    engine: Engine, export: Export, *, defuse: bool, bom: bool = False, dialect: Dialect = USUAL
) -> Iterator[bytes]:
    """CSV in UTF-8 with a header, in blocks of bytes; memory does not grow with the job.

    `defuse` puts `'` before a cell that a spreadsheet would take for a formula, `bom` a byte order mark before all.
    """
    columns = Columns(export)
    selected = ", ".join(_in_csv(cell, defuse=defuse, dialect=dialect) for cell in columns.cells)
    rows = copy_out(engine, columns.query(selected), columns.values, f"FORMAT csv, DELIMITER '{dialect.sign}'")
    # Before the header: a query that fails must not look like the beginning of a file. There may be no row at all.
    first = next(rows, b"")
    yield (BOM if bom else b"") + csv_lines([columns.names(defuse=defuse)], dialect).encode() + first
    yield from rows


def export_ndjson(engine: Engine, export: Export) -> Iterator[bytes]:
    """The same rows, one JSON object a line: `topics` is a list, numbers are numbers, null is what is not there."""
    columns = Columns(export)
    parts = []
    for number, cell in enumerate(columns.cells):
        comma = "," if number else "{"
        columns.values[f"key{number}"] = f"{comma}{json.dumps(cell.name, ensure_ascii=False)}:"
        parts.append(f"%(key{number})s, coalesce({cell.as_json}, 'null')")
    # JSON text holds no control characters, so with these two as quote and delimiter COPY passes it on untouched.
    yield from copy_out(
        engine,
        columns.query(_concatenated(parts)),
        columns.values,
        r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'",
    )


def export_json(engine: Engine, export: Export) -> Iterator[bytes]:
    """The same rows as one JSON array, an object a line."""
    opened = ends_row = False
    for block in export_ndjson(engine, export):
        # A comma belongs between two rows, so the last newline of a block waits for the next block.
        start = (b"" if opened else b"[\n") + (b",\n" if ends_row else b"")
        opened, ends_row = True, block.endswith(b"\n")
        yield start + block.removesuffix(b"\n").replace(b"\n", b",\n")
    yield b"\n]\n" if opened else b"[]\n"


def own_columns(job: Job) -> list[str]:
    """The columns that the file came with, in its order."""
    return [str(name) for name in job.layout.get("columns", ())]


@dataclass(frozen=True)
class Cell:
    """A column of an export: its name, its SQL as a cell of text, and its SQL as JSON text (SQL null where null).

    `is_own`: it came with the file. `is_number`: in SQL, whether it holds a number that may have a fraction; None where
    there is never one.
    """

    name: str
    as_text: str
    as_json: str
    is_own: bool = False
    is_number: str | None = None


@dataclass
class Columns:
    """The columns of an export and the values that their SQL refers to, as psycopg2's `%(name)s`."""

    export: Export
    cells: list[Cell] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        job, model = self.export.job, self.export.model
        self.values |= {"job": str(job.id), "day": job.day}
        fields_by_column = {column: name for name, column in dict(job.layout.get("mapping", {})).items()}
        for number, column in enumerate(own_columns(job)):
            known = fields_by_column.get(column)
            if known is not None:
                self.cells.append(Cell(column, f"t.{known}", f"to_json(t.{known})::text", is_own=True))
            else:
                key = f"column{number}"
                self.values[key] = column
                value = f"(t.extra -> %({key})s)"
                is_number = f"jsonb_typeof{value} = 'number'"
                self.cells.append(
                    Cell(column, f"t.extra ->> %({key})s", f"{value}::text", is_own=True, is_number=is_number)
                )
        self._add("row", "t.row_no", "t.row_no::text")
        for topic in model.topics if model else ():
            self._add_probability(topic.id)
        self._add_topics()
        self._add(
            "truncated",
            "CASE WHEN r.truncated THEN 'true' WHEN r.job_id IS NOT NULL THEN 'false' END",
            "CASE WHEN r.truncated THEN 'true' WHEN r.job_id IS NOT NULL THEN 'false' END",
        )
        # What failed, where and why: `not_text (post): The field holds a list.`
        error = "r.error_code || coalesce(' (' || r.error_column || ')', '') || coalesce(': ' || r.error_message, '')"
        self._add("error", error, f"to_json({error})::text")

    def _add_probability(self, topic: str) -> None:
        rounded = f"round(({probability_of(topic, self.export.models)})::numeric, 6)"
        self._add(topic, rounded, f"{rounded}::text", is_number="true")

    def _add_topics(self) -> None:
        """The assigned topics, those of the model in its order, then those that only other models know."""
        export = self.export
        ordered = [topic.id for model in (export.model, *export.models) if model for topic in model.topics]
        ids = []
        for number, topic in enumerate(dict.fromkeys(ordered)):
            self.values |= {f"topic{number}": topic, f"json{number}": json.dumps(topic, ensure_ascii=False)}
            ids.append((number, is_assigned(topic, export.models, export.thresholds)))
        if not ids:
            self._add("topics", "''", "NULL")
            return
        listed = [f"CASE WHEN {assigned} THEN %({{}}{number})s END" for number, assigned in ids]
        as_text = f"array_to_string(ARRAY[{', '.join(one.format('topic') for one in listed)}]::text[], ';')"
        as_list = (
            f"'[' || array_to_string(ARRAY[{', '.join(one.format('json') for one in listed)}]::text[], ',') || ']'"
        )
        self._add("topics", as_text, f"CASE WHEN r.probabilities IS NOT NULL THEN {as_list} END")

    def _add(self, name: str, as_text: str, as_json: str, *, is_number: str | None = None) -> None:
        """A column of ours; should the file have one of this name, ours is called `rubrika_...`."""
        taken = {cell.name for cell in self.cells}
        while name in taken:
            name = f"rubrika_{name}"
        self.cells.append(Cell(name, as_text, as_json, is_number=is_number))

    def names(self, *, defuse: bool) -> list[str]:
        return [
            f"'{cell.name}" if defuse and cell.is_own and cell.name[:1] in set(SUSPICIOUS) else cell.name
            for cell in self.cells
        ]

    def query(self, selected: str) -> str:
        """The rows in file order. Both tables are read in the order of their keys and merged, so nothing is sorted."""
        condition, values = self.export.wanted.conditions(self.export.models, self.export.thresholds)
        self.values |= values
        return (
            f"SELECT {selected} FROM {JOINED} "
            f"WHERE t.job_id = %(job)s AND t.day = %(day)s AND {condition} ORDER BY t.row_no"
        )


def _concatenated(parts: Sequence[str]) -> str:
    """All parts in one string; a function takes a hundred arguments at most."""
    groups = [f"concat({', '.join(parts[at : at + 40])})" for at in range(0, len(parts), 40)]
    return f"concat({', '.join([*groups, repr('}')])})"


def _in_csv(cell: Cell, *, defuse: bool, dialect: Dialect) -> str:
    """A cell as COPY writes it. Only numbers get a comma: what came as text stays as it was written there."""
    text = _defused(cell.as_text) if defuse and cell.is_own else cell.as_text
    if not dialect.has_commas or cell.is_number is None:
        return text
    number = f"translate(({cell.as_text})::text, '.', ',')"
    return f"CASE WHEN {cell.is_number} THEN {number} ELSE ({text})::text END"


def _defused(cell: str) -> str:
    """Prefix what a spreadsheet would compute with an apostrophe; plain numbers stay.

    Nearly no cell begins so, which its first character tells without a regular expression.
    """
    codes = ", ".join(str(ord(character)) for character in SUSPICIOUS)
    return (
        f"CASE WHEN ascii({cell}) IN ({codes}) AND ({cell}) !~ '^[+-]?[0-9]+([.,][0-9]+)?$' "
        f"THEN '''' || ({cell}) ELSE {cell} END"
    )
