"""What is done with a file besides uploading and reading it: a look before it is stored, a summary, a second try."""

from itertools import islice
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.context import OWNER, context
from api.files import Limits, open_file
from api.problems import ProblemError
from api.represent import job_resource
from api.resources.common import documented, fingerprint_of, idempotency, json_response, read_thresholds
from api.resources.jobs import FILE_BODY, PATH, expires_at, layout_of
from api.shapes import IdPath, JobOut, PreviewOut, SummaryOut, ThresholdsQuery
from api.uploads import receive
from jobs import reading, retrying, summing
from jobs.database import transaction
from jobs.records import parse_job_id

PREVIEW_ROWS = 20

blueprint = APIBlueprint("job_actions", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.post(
    f"{PATH}/preview",
    summary="What would be read of a file; nothing is stored",
    responses=documented(413, 415, s200=PreviewOut),
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


@blueprint.get(
    f"{PATH}/<id>/summary",
    summary="A file as a whole: shares of topics, histograms, pairs, failures",
    responses=documented(404, 409, s200=SummaryOut),
)
def summary(path: IdPath, query: ThresholdsQuery) -> Response:
    ctx = context()
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, OWNER, parse_job_id(path.id))
    model = ctx.models.by_id(job.model_id)
    if model is None:
        raise ProblemError(409, "no_model", "No worker has begun on this file yet; there is nothing to sum up.")
    with transaction(ctx.engine) as connection:
        found = summing.summarise(connection, job, model, read_thresholds(query.thresholds, model))
    return json_response(
        {
            "model": model.label,
            "computed": found.computed,
            "none_assigned": found.none_assigned,
            "truncated": found.truncated,
            "topics": [
                {
                    "topic": topic.topic,
                    "assigned": topic.assigned,
                    "mean_probability": None if topic.mean_probability is None else round(topic.mean_probability, 6),
                    "histogram": list(topic.histogram),
                }
                for topic in found.topics
            ],
            "pairs": [{"topics": list(pair), "rows": rows} for pair, rows in found.pairs.items()],
            "failures": [{"code": code, "rows": rows} for code, rows in found.failures.items()],
        },
    )


@blueprint.post(
    f"{PATH}/<id>/retry",
    summary="A new job of the rows that failed",
    responses=documented(404, 409, s202=JobOut),
)
def retry(path: IdPath) -> Response:
    ctx = context()
    job_id = retrying.retry_failed(
        ctx.engine,
        OWNER,
        parse_job_id(path.id),
        chunk_rows=ctx.settings.chunk_rows,
        idempotency=idempotency(fingerprint_of(request.path)),
    )
    ctx.bell.ring()
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, OWNER, job_id)
    response = json_response(job_resource(job, ctx.models.by_id(job.model_id), expires_at(ctx, job)), 202)
    response.headers["Location"] = f"{PATH}/{job_id.hex}"
    return response
