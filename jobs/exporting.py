"""All rows of a job, streamed out of Postgres in the form in which they are downloaded.

The file's own columns come first, then `row`, one probability per topic, `topics`, `truncated` and `error`. Rows are
in file order and as they are at this moment: those that nobody has computed yet have empty cells.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from jobs.copying import copy_out
from jobs.reading import JOINED
from jobs.records import Job, Model


def export_csv(
    engine: Engine,
    job: Job,
    model: Model,
    *,
    thresholds: Mapping[str, float],
    defuse: bool,
) -> Iterator[bytes]:
    """CSV in UTF-8 with a header, in blocks of bytes; memory does not grow with the job.

    `thresholds` replaces those of the model, by topic. `defuse` puts `'` before a cell that a spreadsheet would take
    for a formula.
    """
    columns = _Columns(job, model, thresholds)
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(columns.names(defuse=defuse))
    yield header.getvalue().encode()
    selected = ", ".join(_defused(cell.as_text) if defuse and cell.is_own else cell.as_text for cell in columns.cells)
    yield from copy_out(engine, columns.query(selected), columns.values, "FORMAT csv")


def export_ndjson(engine: Engine, job: Job, model: Model, *, thresholds: Mapping[str, float]) -> Iterator[bytes]:
    """The same rows, one JSON object a line: `topics` is a list, numbers are numbers, null is what is not there."""
    columns = _Columns(job, model, thresholds)
    parts = []
    for number, cell in enumerate(columns.cells):
        comma = "," if number else "{"
        columns.values[f"key{number}"] = f"{comma}{json.dumps(cell.name, ensure_ascii=False)}:"
        parts.append(f"%(key{number})s || coalesce(to_json({cell.as_json})::text, 'null')")
    selected = " || ".join(parts) + " || '}'"
    # JSON text holds no control characters, so with these two as quote and delimiter COPY passes it on untouched.
    yield from copy_out(
        engine,
        columns.query(selected),
        columns.values,
        r"FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'",
    )


def export_json(engine: Engine, job: Job, model: Model, *, thresholds: Mapping[str, float]) -> Iterator[bytes]:
    """The same rows as one JSON array, an object a line."""
    opened = ends_row = False
    for block in export_ndjson(engine, job, model, thresholds=thresholds):
        # A comma belongs between two rows, so the last newline of a block waits for the next block.
        start = (b"" if opened else b"[\n") + (b",\n" if ends_row else b"")
        opened, ends_row = True, block.endswith(b"\n")
        yield start + block.removesuffix(b"\n").replace(b"\n", b",\n")
    yield b"\n]\n" if opened else b"[]\n"


def own_columns(job: Job) -> list[str]:
    """The columns that the file came with, in its order."""
    return [str(name) for name in job.layout.get("columns", ())]


@dataclass(frozen=True)
class _Cell:
    """A column of the export: its name and its SQL for CSV and for JSON. `is_own`: it came with the file."""

    name: str
    as_text: str
    as_json: str
    is_own: bool = False


@dataclass
class _Columns:
    """The columns of an export and the values that their SQL refers to."""

    job: Job
    model: Model
    thresholds: Mapping[str, float]
    cells: list[_Cell] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values |= {"job": str(self.job.id), "day": self.job.day}
        fields_by_column = {column: name for name, column in dict(self.job.layout.get("mapping", {})).items()}
        for number, column in enumerate(own_columns(self.job)):
            known = fields_by_column.get(column)
            if known is not None:
                self.cells.append(_Cell(column, f"t.{known}", f"t.{known}", is_own=True))
            else:
                key = f"column{number}"
                self.values[key] = column
                self.cells.append(_Cell(column, f"t.extra ->> %({key})s", f"t.extra -> %({key})s", is_own=True))
        self._add("row", "t.row_no")
        assigned = []
        for number, topic in enumerate(self.model.topics):
            self.values |= {f"topic{number}": topic.id, f"threshold{number}": self.thresholds.get(topic.id)}
            position = f"array_position(m.topic_ids, %(topic{number})s)"
            probability = f"r.probabilities[{position}]"
            self._add(topic.id, f"round({probability}::numeric, 6)")
            limit = f"coalesce(%(threshold{number})s::real, m.thresholds[{position}])"
            assigned.append(f"CASE WHEN {probability} >= {limit} THEN %(topic{number})s END")
        listed = f"array_remove(ARRAY[{', '.join(assigned)}]::text[], NULL)"
        known_only = f"CASE WHEN r.probabilities IS NOT NULL THEN {listed} END"
        self._add("topics", f"array_to_string({listed}, ';')", known_only)
        self._add(
            "truncated",
            "CASE WHEN r.truncated THEN 'true' WHEN r.job_id IS NOT NULL THEN 'false' END",
            "r.truncated",
        )
        self._add("error", "r.error_code || coalesce(': ' || r.error_message, '')")

    def _add(self, name: str, as_text: str, as_json: str | None = None) -> None:
        """A column of ours; should the file have one of this name, ours is called `rubrika_...`."""
        taken = {cell.name for cell in self.cells}
        while name in taken:
            name = f"rubrika_{name}"
        self.cells.append(_Cell(name, as_text, as_json or as_text))

    def names(self, *, defuse: bool) -> list[str]:
        return [
            f"'{cell.name}" if defuse and cell.is_own and cell.name[:1] in set("=+-@\t\r") else cell.name
            for cell in self.cells
        ]

    def query(self, selected: str) -> str:
        return (
            f"SELECT {selected} FROM {JOINED} LEFT JOIN models m ON m.id = r.model_id "
            "WHERE t.job_id = %(job)s AND t.day = %(day)s ORDER BY t.row_no"
        )


def _defused(cell: str) -> str:
    """Prefix what a spreadsheet would compute (OWASP, "CSV Injection") with an apostrophe; plain numbers stay."""
    return (
        rf"CASE WHEN ({cell}) ~ E'^[=+@\t\r-]' AND ({cell}) !~ '^[+-]?[0-9]+([.,][0-9]+)?$' "
        rf"THEN '''' || ({cell}) ELSE {cell} END"
    )
