"""What came of a file: pages of its rows, a summary, and all of them as CSV, NDJSON or JSON."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from urllib.parse import quote

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.wrappers import Response as BaseResponse

from api.callers import owner
from api.context import Context, context
from api.files.kind import ENDINGS
from api.held import hold
from api.problems import bad_input
from api.represent import cursor, page, read_cursor, result_row, summary_resource
from api.resources.common import documented, fingerprint_of, json_response, read_thresholds
from api.resources.filters import read_filter, read_order, repeated
from api.resources.jobs import PATH
from api.result_shapes import ResultsOut, SummaryOut
from api.shapes import CsvQuery, ExportQuery, IdPath, ResultsQuery, ThresholdsQuery
from jobs import feedback, reading, summing
from jobs.database import long_read, transaction
from jobs.exporting import Export, export_csv, export_json, export_ndjson
from jobs.filtering import RowFilter
from jobs.records import Job, Model, parse_job_id
from jobs.sorting import Order, Place, sorted_rows
from jobs.states import TERMINAL_STATES

_ENDING = re.compile(rf"(\.({'|'.join(ENDINGS)}))?(\.gz)?$", re.IGNORECASE)
_HARMLESS = str.maketrans(dict.fromkeys('\\/:*?"<>|', "_"))
"""What a name on some system cannot have."""

MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson", "json": "application/json"}

blueprint = APIBlueprint("results", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.get(
    f"{PATH}/<id>/results",
    summary="A page of rows, in file order or by the probability of a topic",
    description="With a filter a page may be short, even empty, while there is a `next`: a request searches for a "
    "tenth of a second, and `searched` says which rows it has looked at. With `sort` it counts along that order, and "
    "rows without a probability are left out.",
    responses=documented(404, s200=ResultsOut),
)
def results(path: IdPath, query: ResultsQuery) -> BaseResponse:
    ctx = context()
    job, model = _job(ctx, path.id)
    thresholds = read_thresholds(query.thresholds, model)
    wanted = read_filter(query, model)
    order = read_order(query.sort, model)
    address = f"{PATH}/{path.id}/results"
    if order is not None:
        return _unless_known(ctx, job, partial(_sorted, ctx, job, order, wanted, thresholds, query, address))
    place = read_cursor(query.cursor, int)
    after = place[0] if place else 0

    def answer() -> Response:
        with transaction(ctx.engine) as connection:
            if wanted:
                rows, upto = reading.search_rows(
                    connection, job, wanted, ctx.models.all(), thresholds, after=after, limit=query.limit
                )
            else:
                rows = reading.page_of_rows(connection, job, after=after, limit=query.limit)
                upto = rows[-1].row_no if rows else after
        items = [result_row(row, job, ctx.models.by_id(row.model_id), thresholds) for row in rows]
        following = cursor(upto) if upto < job.rows_total else None
        body = page(items, address, following, query.limit, repeated(query))
        return json_response(body | {"searched": {"from": after + 1, "to": upto}})

    return _unless_known(ctx, job, answer)


def _sorted(
    ctx: Context,
    job: Job,
    order: Order,
    wanted: RowFilter,
    thresholds: Mapping[str, float],
    query: ResultsQuery,
    address: str,
) -> Response:
    """A page of rows by the probability of a topic."""
    place = read_cursor(query.cursor, float, int, int)
    if place and not 0 <= place[0] <= 1:
        raise bad_input("cursor", "invalid_cursor", "The cursor is none of ours.")
    after = Place(*place) if place else None
    hold()
    with long_read(ctx.engine) as connection:
        rows, on, seen = sorted_rows(
            connection, job, order, wanted, ctx.models.all(), thresholds, after=after, limit=query.limit
        )
    items = [result_row(row, job, ctx.models.by_id(row.model_id), thresholds) for row in rows]
    following = cursor(on.probability, on.row_no, on.seen) if on else None
    body = page(items, address, following, query.limit, repeated(query))
    return json_response(body | {"searched": {"from": (after.seen if after else 0) + 1, "to": seen}})


@blueprint.get(
    f"{PATH}/<id>/summary",
    summary="A file as a whole: shares of topics, histograms, pairs, failures",
    description="Of the rows that `model` has computed. Where another model was activated meanwhile, `other_models` "
    "says how many rows are not counted: the topics of two models need not be the same.",
    responses=documented(404, s200=SummaryOut),
)
def summary(path: IdPath, query: ThresholdsQuery) -> BaseResponse:
    ctx = context()
    job, model = _job(ctx, path.id)
    thresholds = read_thresholds(query.thresholds, model)

    def answer() -> Response:
        if thresholds:
            hold()
        with long_read(ctx.engine) as connection:
            found = summing.summarise(connection, job, model, thresholds)
        others = [(ctx.models.by_id(model_id), rows) for model_id, rows in found.others.items()]
        return json_response(summary_resource(found, model, others))

    return _unless_known(ctx, job, answer)


@blueprint.get(
    f"{PATH}/<id>/results.csv",
    summary="All rows as CSV",
    responses=documented(404, s200={"content": {"text/csv": {"schema": {"type": "string"}}}}),
)
def results_csv(path: IdPath, query: CsvQuery) -> Response:
    ctx, export = exported(path.id, query)
    blocks = export_csv(ctx.engine, export, defuse=not query.raw, bom=bool(query.bom), dialect=query.dialect)
    return stream(export.job, "csv", MEDIA_TYPES["csv"], blocks)


@blueprint.get(
    f"{PATH}/<id>/results.ndjson",
    summary="All rows as NDJSON",
    responses=documented(404, s200={"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}),
)
def results_ndjson(path: IdPath, query: ExportQuery) -> Response:
    ctx, export = exported(path.id, query)
    return stream(export.job, "ndjson", MEDIA_TYPES["ndjson"], export_ndjson(ctx.engine, export))


@blueprint.get(
    f"{PATH}/<id>/results.json",
    summary="All rows as a JSON array",
    responses=documented(404, s200={"content": {"application/json": {"schema": {"type": "array"}}}}),
)
def results_json(path: IdPath, query: ExportQuery) -> Response:
    ctx, export = exported(path.id, query)
    return stream(export.job, "json", MEDIA_TYPES["json"], export_json(ctx.engine, export))


def exported(job_id: str, query: ExportQuery) -> tuple[Context, Export]:
    """What a request for an export asks for. Raises `NotFoundError`, and problems."""
    ctx = context()
    job, model = _job(ctx, job_id)
    thresholds = read_thresholds(query.thresholds, model)
    hold()
    return ctx, Export(job, model, ctx.models.all(), thresholds, read_filter(query, model))


def stream(job: Job, extension: str, media_type: str, blocks: Iterator[bytes]) -> Response:
    """Stream an export. The first block is made before the status is sent, so that a query that fails is a 503.

    `blocks` may be empty, as the NDJSON of a filter that matches nothing is.
    """
    started = chain([next(blocks, b"")], blocks)
    # Of a name that somebody has thought of what follows the last point may be a year.
    stem = _ENDING.sub("", job.filename or "").translate(_HARMLESS).strip() or "posts"
    name = f"{stem}.rubrika.{extension}"
    ascii_name = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in name)
    response = Response(started, content_type=media_type)
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
    )
    return response


def _job(ctx: Context, job_id: str) -> tuple[Job, Model | None]:
    """A file and its model; none while no worker had registered one when it came and none has begun on it."""
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, owner(), parse_job_id(job_id))
    return job, ctx.models.by_id(job.model_id)


SHAPE = "2"
"""Of these answers: another one when a field is added, so that no browser keeps what lacks it."""


def _unless_known(ctx: Context, job: Job, answer: Callable[[], Response]) -> BaseResponse:
    """`answer()`, or 304 without asking it when the client has it: the rows of a finished file change no more.

    The tag is weak and made of all that an answer follows from: the file, the address, what people have said of its
    rows, and the thresholds of the models that are registered now.
    """
    if job.state not in TERMINAL_STATES:
        return answer()
    models = [f"{model.sha256} {model.label} {model.topics}" for model in ctx.models.all()]
    with transaction(ctx.engine) as connection:
        judged = feedback.standing(connection, job.id)
    tag = fingerprint_of(SHAPE, request.full_path, str(job.finished_at), str(judged), *models)[:32]
    response = Response() if request.if_none_match.contains_weak(tag) else answer()
    response.set_etag(tag, weak=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response.make_conditional(request)
