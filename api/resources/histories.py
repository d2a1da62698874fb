"""The histories as files: everything that a filter asks for, streamed as CSV and as JSON."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.callers import owner
from api.context import Context, context
from api.held import hold
from api.represent import classification, job_resource
from api.resources.common import documented
from api.resources.filters import wanted_files, wanted_texts
from api.resources.jobs import expires_at
from api.shapes import CsvOptions, JobsCsvQuery, JobsFilter, TextsCsvQuery, TextsFilter
from jobs.csv_lines import Dialect, csv_lines
from jobs.database import transaction
from jobs.exporting import BOM, SUSPICIOUS
from jobs.history import list_files, list_texts

PAGE = 500
_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
_CSV = {"content": {"text/csv": {"schema": {"type": "string"}}}}

Resources = Iterator[list[dict[str, Any]]]
"""Entries of a history as the interface gives them, some at a time."""

blueprint = APIBlueprint("histories", __name__, abp_tags=[Tag(name="History", description="What was classified")])


@blueprint.get("/api/v1/classifications.csv", summary="Posted texts as CSV", responses=documented(s200=_CSV))
def texts_csv(query: TextsCsvQuery) -> Response:
    ctx = context()
    topics = list(dict.fromkeys(topic.id for model in ctx.models.all() for topic in model.topics))
    names = ("id", "created_at", "status", "custom_id", "doc_text", "image2text", "speech2text", "model")

    def line(item: dict[str, Any]) -> list[Any]:
        shares = {topic["topic"]: topic["probability"] for topic in item["topics"]}
        error = item["error"]["code"] if item["error"] else None
        return [*(item[name] for name in names), *map(shares.get, topics), ";".join(item["assigned"]), error]

    return _csv("texts", query, [*names, *topics, "topics", "error"], line, _texts(ctx, query))


@blueprint.get(
    "/api/v1/classifications.json",
    summary="Posted texts as a JSON array",
    responses=documented(s200={"content": {"application/json": {"schema": {"type": "array"}}}}),
)
def texts_json(query: TextsFilter) -> Response:
    return _json("texts", _texts(context(), query))


@blueprint.get("/api/v1/jobs.csv", summary="Files as CSV", responses=documented(s200=_CSV))
def jobs_csv(query: JobsCsvQuery) -> Response:
    names = ("id", "created_at", "finished_at", "status", "filename", "model")
    counts = ("total", "succeeded", "failed", "cached")

    def line(item: dict[str, Any]) -> list[Any]:
        return [*(item[name] for name in names), item["layout"].get("format"), *map(item["rows"].get, counts)]

    return _csv("files", query, [*names, "format", "rows", *counts[1:]], line, _files(context(), query))


@blueprint.get(
    "/api/v1/jobs.json",
    summary="Files as a JSON array",
    responses=documented(s200={"content": {"application/json": {"schema": {"type": "array"}}}}),
)
def jobs_json(query: JobsFilter) -> Response:
    return _json("files", _files(context(), query))


def _texts(ctx: Context, query: TextsFilter) -> Resources:
    """All texts that are asked for, page by page: no transaction lasts as long as a slow download."""
    wanted, mine = wanted_texts(query), owner()

    def pages() -> Resources:
        place = None
        while True:
            with transaction(ctx.engine) as connection:
                found, place = list_texts(connection, mine, before=place, limit=PAGE, wanted=wanted)
            yield [classification(job, row, ctx.models.by_id(row.model_id)) for job, row in found]
            if place is None:
                return

    return pages()


def _files(ctx: Context, query: JobsFilter) -> Resources:
    wanted, mine = wanted_files(query), owner()

    def pages() -> Resources:
        before = None
        while True:
            with transaction(ctx.engine) as connection:
                found = list_files(connection, mine, before=before, limit=PAGE, wanted=wanted)
            yield [job_resource(job, ctx.models.by_id(job.model_id), expires_at(ctx, job)) for job in found]
            if len(found) < PAGE:
                return
            before = found[-1].id

    return pages()


def _csv(
    name: str, options: CsvOptions, header: list[str], line: Callable[[dict[str, Any]], list[Any]], pages: Resources
) -> Response:
    def blocks() -> Iterator[bytes]:
        head = (BOM if options.bom else b"") + _lines([header], options.dialect)
        for page in pages:
            # The header goes with the first page, so that nothing is sent before the first query has been answered.
            cells = ([cell if options.raw else defused(cell) for cell in line(item)] for item in page)
            yield head + _lines(cells, options.dialect)
            head = b""

    return _stream(f"{name}.csv", "text/csv; charset=utf-8", blocks())


def _json(name: str, pages: Resources) -> Response:
    def blocks() -> Iterator[bytes]:
        opened = False
        for page in pages:
            if page:
                yield (b",\n" if opened else b"[\n") + b",\n".join(
                    json.dumps(item, ensure_ascii=False, allow_nan=False).encode() for item in page
                )
                opened = True
        yield b"\n]\n" if opened else b"[]\n"

    return _stream(f"{name}.json", "application/json", blocks())


def _stream(name: str, media_type: str, blocks: Iterator[bytes]) -> Response:
    """As a download. The first block is made before the status is sent, so that a query that fails is a 503."""
    hold()
    response = Response(chain([next(blocks)], blocks), content_type=media_type)
    response.headers["Content-Disposition"] = f'attachment; filename="rubrika-{name}"'
    return response


def _lines(rows: Iterable[list[Any]], dialect: Dialect) -> bytes:
    return csv_lines(rows, dialect).encode()


def defused(cell: Any) -> Any:
    """A text that a spreadsheet would compute gets an apostrophe before it; plain numbers stay, as in exports."""
    if isinstance(cell, str) and cell[:1] in set(SUSPICIOUS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
