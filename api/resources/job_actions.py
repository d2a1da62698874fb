"""What is done with a file besides uploading and reading it: a look before it is stored, a second try."""

from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.callers import owner
from api.context import Context, context
from api.files import Limits, open_file
from api.held import hold
from api.observe import note_job
from api.problems import ProblemError, bad_input
from api.represent import job_resource
from api.resources.common import documented, fingerprint_of, idempotency, json_response
from api.resources.jobs import FILE_BODY, PATH, expires_at, layout_of
from api.shapes import IdPath, JobOut, PreviewOut, RerunIn
from api.uploads import receive
from jobs import fleet, reading, retrying
from jobs.database import transaction
from jobs.records import Model, parse_job_id

PREVIEW_ROWS = 20

blueprint = APIBlueprint("job_actions", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.post(
    f"{PATH}/preview",
    summary="What would be read of a file; nothing is stored",
    responses=documented(s200=PreviewOut),
    openapi_extensions={"requestBody": FILE_BODY},
)
def preview() -> Response:
    ctx = context()
    with receive(ctx.settings) as received:
        reader = open_file(
            received.stream,
            received.filename,
            received.media_type,
            received.options,
            Limits.of(ctx.settings),
        )
        rows = list(islice(reader, PREVIEW_ROWS))
    shown: list[dict[str, Any]] = [
        {
            "row": row.row_no,
            "custom_id": row.custom_id,
            "doc_text": row.doc_text,
            "image2text": row.image2text,
            "speech2text": row.speech2text,
            "columns": dict(row.extra),
            "error": {"code": row.error.code, "message": row.error.message, "column": row.error.column}
            if row.error
            else None,
        }
        for row in rows
    ]
    errors = [{"row": row["row"], **row["error"]} for row in shown if row["error"]]
    return json_response(layout_of(reader) | {"rows": shown, "errors": errors})


@blueprint.post(
    f"{PATH}/<id>/retry",
    summary="A new job of the rows that failed",
    responses=documented(404, 409, s202=JobOut),
)
def retry(path: IdPath) -> Response:
    ctx = context()
    hold()
    made = retrying.retry_failed(
        ctx.engine,
        owner(),
        parse_job_id(path.id),
        chunk_rows=ctx.settings.chunk_rows,
        idempotency=idempotency(fingerprint_of(request.path)),
        max_waiting=ctx.settings.max_waiting_rows,
    )
    return _accepted(ctx, *made)


@blueprint.post(
    f"{PATH}/<id>/rerun",
    summary="A new job of the same rows, computed by a model of your choice",
    description="Without a body: by the active model. `GET /jobs/{id}/compare/{other}` then tells the two apart.",
    responses=documented(404, 409, s202=JobOut),
    openapi_extensions={
        "requestBody": {"content": {"application/json": {"schema": RerunIn.model_json_schema()}}, "required": False},
    },
)
def rerun(path: IdPath) -> Response:
    ctx = context()
    wanted = RerunIn.model_validate(request.get_json() if request.get_data() else {}).model
    hold()
    made = retrying.rerun(
        ctx.engine,
        owner(),
        parse_job_id(path.id),
        choose=partial(_running_model, ctx, wanted),
        chunk_rows=ctx.settings.chunk_rows,
        idempotency=idempotency(fingerprint_of(request.path, wanted or "")),
        max_waiting=ctx.settings.max_waiting_rows,
    )
    return _accepted(ctx, *made)


def _running_model(ctx: Context, wanted: str | None) -> Model:
    """The model that is called `wanted` (the active one without) and that a live worker runs; of several with one name
    a running one, of these the active one, else the newest."""
    with transaction(ctx.engine) as connection:
        models = fleet.models(connection)
        alive = fleet.models_alive(connection)
    named = [model for model in models if (model.active if wanted is None else model.is_called(wanted))]
    if not named and wanted is not None:
        known = ", ".join(sorted(model.label for model in models)) or "none yet"
        raise bad_input("/model", "unknown_model", f"No worker has ever registered {wanted!r}. Known are: {known}.")
    for model in named:
        if model.id in alive:
            return model
    running = ", ".join(sorted(model.label for model in models if model.id in alive)) or "none"
    raise ProblemError(
        409,
        "model_not_running",
        f"No live worker runs {wanted or (named[0].label if named else 'a model')}. Running now: {running}. "
        "Start one more worker with the model that you want, on trial, so that new texts stay with the active model "
        "(RUBRIKA_TRIAL=1 RUBRIKA_MODEL=FOLDER rubrika worker), and send this again.",
    )


def _accepted(ctx: Context, job_id: UUID, is_new: bool) -> Response:
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, owner(), job_id)
        workers = fleet.workers_alive(connection)
    note_job(job_id, is_new=is_new)
    if is_new:
        ctx.bell.ring(max(1, min(workers, -(-job.rows_total // ctx.settings.chunk_rows))))
    response = json_response(job_resource(job, ctx.models.by_id(job.model_id), expires_at(ctx, job)), 202)
    response.headers["Location"] = f"{PATH}/{job_id.hex}"
    response.headers["Retry-After"] = "1"
    return response
