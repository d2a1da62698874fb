"""`/jobs`: files of posts, and how far they are. Their results are in `api.resources.results`."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.wrappers import Response as BaseResponse

from api.callers import owner
from api.context import Context, context
from api.files import ByteStream, FileReader, Limits, open_file
from api.held import hold
from api.incoming import Hashed
from api.observe import note_job
from api.represent import cursor, job_resource, page, read_cursor, when
from api.resources.common import documented, fingerprint_of, idempotency, json_response
from api.resources.filters import repeated, wanted_files
from api.shapes import IdPath, JobOut, JobsOut, JobsQuery
from api.uploads import Upload, receive
from jobs import accepting, ending, feedback, fleet, reading
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.history import list_files
from jobs.records import Idempotency, Job, NewJob, NewText, parse_job_id
from jobs.states import TERMINAL_STATES, JobKind, Lane

PATH = "/api/v1/jobs"

blueprint = APIBlueprint("jobs", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])

FILE_BODY = {
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "name": {"type": "string"},
                    "encoding": {"type": "string"},
                    "delimiter": {"type": "string"},
                    "columns": {"type": "string", "description": "JSON: which column is which field"},
                    "sheet": {"type": "string", "description": "of a spreadsheet: its name, or its number from 1"},
                    "on_error": {"type": "string", "enum": ["skip", "fail"]},
                },
            },
        },
        "application/json": {"schema": {"type": "array", "minItems": 1, "description": "objects, one for each post"}},
        **{
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in (
                "text/csv",
                "text/tab-separated-values",
                "text/plain",
                "application/x-ndjson",
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
                "application/vnd.apache.parquet",
            )
        },
    },
}


@blueprint.post(
    PATH,
    summary="Upload a file of posts",
    description="As `multipart/form-data` with `file`, or the file as the raw body with its media type (options then "
    "as query parameters). The file is read as a whole before the answer: one that cannot be read is 422 with the "
    "place, and nothing is stored; a row that cannot be read is recorded as failed and the rest goes on.",
    responses=documented(409, s202=JobOut),
    openapi_extensions={"requestBody": FILE_BODY},
)
def upload() -> Response:
    ctx = context()
    with receive(ctx.settings) as received:
        ctx.waiting.require_room(owner())
        stream, repeated = _idempotency(received)
        reader = open_file(
            stream,
            received.filename,
            received.media_type,
            received.options,
            Limits.of(ctx.settings),
        )
        job_id, is_new = accepting.add_job(
            ctx.engine,
            NewJob(
                owner(),
                JobKind.FILE,
                filename=received.display_name,
                layout=lambda: layout_of(reader),
                idempotency=repeated,
                max_waiting=ctx.settings.max_waiting_rows,
            ),
            _texts(reader),
            lane=Lane.BULK,
            chunk_rows=ctx.settings.chunk_rows,
        )
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, owner(), job_id)
        workers = fleet.workers_alive(connection)
    note_job(job_id, is_new=is_new)
    if is_new:
        ctx.bell.ring(max(1, min(workers, -(-job.rows_total // ctx.settings.chunk_rows))))
    response = json_response(_resource(ctx, job), 202)
    response.headers["Location"] = f"{PATH}/{job_id.hex}"
    response.headers["Retry-After"] = "1"
    return response


@blueprint.get(PATH, summary="Files, newest first", responses=documented(s200=JobsOut))
def list_jobs(query: JobsQuery) -> Response:
    ctx = context()
    place = read_cursor(query.cursor, str)
    wanted = wanted_files(query)
    with transaction(ctx.engine) as connection:
        found = list_files(
            connection,
            owner(),
            before=parse_job_id(place[0]) if place else None,
            limit=query.limit + 1,
            wanted=wanted,
        )
    following = None
    if len(found) > query.limit:
        found = found[: query.limit]
        following = cursor(found[-1].id.hex)
    return json_response(page([_resource(ctx, job) for job in found], PATH, following, query.limit, repeated(query)))


@blueprint.get(f"{PATH}/<id>", summary="How far a file is", responses=documented(404, s200=JobOut))
def read(path: IdPath) -> BaseResponse:
    ctx = context()
    job = _job(ctx, path.id)
    response = json_response(_resource(ctx, job))
    if job.state not in TERMINAL_STATES:
        response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "private, no-cache"
    response.add_etag()
    return response.make_conditional(request)


@blueprint.post(
    f"{PATH}/<id>/cancel",
    summary="Stop a file; finished rows stay",
    responses=documented(404, 409, s202=JobOut),
)
def cancel(path: IdPath) -> Response:
    ctx = context()
    job = _job(ctx, path.id)
    ending.cancel(ctx.engine, owner(), job.id)
    return json_response(_resource(ctx, _job(ctx, path.id)), 202)


@blueprint.delete(
    f"{PATH}/<id>",
    summary="Remove a file, its texts and its results",
    description="With what was said of its rows; of a file that has expired, that alone is left to remove.",
    responses=documented(404, s204={"description": "The data is gone"}),
)
def delete(path: IdPath) -> Response:
    ctx = context()
    hold()
    try:
        job = _job(ctx, path.id)
        ending.delete(ctx.engine, owner(), job.id)
    except NotFoundError:
        if not feedback.forget_expired(ctx.engine, owner(), parse_job_id(path.id)):
            raise
    return Response(status=204)


def _job(ctx: Context, job_id: str) -> Job:
    with transaction(ctx.engine) as connection:
        return reading.get_job(connection, owner(), parse_job_id(job_id))


def _resource(ctx: Context, job: Job) -> dict[str, Any]:
    return job_resource(job, ctx.models.by_id(job.model_id), expires_at(ctx, job))


def expires_at(ctx: Context, job: Job) -> str | None:
    """When the partition of the job's day is dropped: at the end of the last day that is kept."""
    days = ctx.settings.retention_days
    if not days:
        return None
    return when(datetime.combine(job.day + timedelta(days=days + 1), datetime.min.time(), job.created_at.tzinfo))


def layout_of(reader: FileReader) -> dict[str, Any]:
    """How a file is read, as it is stored with its job and shown."""
    layout = reader.layout
    return {
        "format": layout.format,
        "encoding": layout.encoding,
        "delimiter": layout.delimiter,
        "columns": list(layout.columns),
        "mapping": dict(layout.mapping),
        "guessed": layout.guessed,
        "sheet": layout.sheet,
        "sheets": list(layout.sheets),
    }


def _texts(reader: FileReader) -> Iterator[NewText]:
    for _, doc_text, image2text, speech2text, custom_id, extra, problem in reader:
        if problem is None:
            yield NewText(doc_text, image2text, speech2text, custom_id, extra or None)
        else:
            why = problem.code, problem.message, problem.column
            yield NewText(doc_text, image2text, speech2text, custom_id, extra or None, *why)


def _idempotency(received: Upload) -> tuple[ByteStream, Idempotency | None]:
    """The stream to read, and the key with a digest of the file and of the options, once that has been read."""
    if "Idempotency-Key" not in request.headers:
        return received.stream, None
    options = received.options
    described = json.dumps(
        [received.display_name, options.encoding, options.delimiter, options.sheet, options.on_error],
    )
    mapped = json.dumps(dict(options.columns or {}), sort_keys=True)
    path = request.path
    hashed = Hashed(received.stream)
    return hashed, idempotency(lambda: fingerprint_of(path, described, mapped, hashed.hexdigest()))
