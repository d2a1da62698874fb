"""What a person says is right, of a posted text and of a row of a file."""

from collections.abc import Sequence

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.callers import owner
from api.context import Context, context
from api.problems import BadField, ProblemError
from api.represent import classification, result_row
from api.resources.classifications import PATH as TEXTS_PATH
from api.resources.common import documented, json_response, row_of
from api.resources.jobs import PATH as JOBS_PATH
from api.result_shapes import ResultOut
from api.shapes import ClassificationOut, FeedbackIn, IdPath, RowPath
from jobs import feedback, reading
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.records import parse_job_id, parse_text_id
from jobs.states import JobKind

blueprint = APIBlueprint(
    "feedback", __name__, abp_tags=[Tag(name="Feedback", description="What is right, to train with later")]
)

_TAKING_BACK = "Its copy of the text goes as well. Also of a text that has expired, which leaves nothing else behind."
_GONE = {"description": "Nothing is known of it any more"}


@blueprint.post(
    f"{TEXTS_PATH}/<id>/feedback",
    summary="Say which topics are right for a posted text",
    description="An empty list says that it has none of the topics. What was said before is replaced.",
    responses=documented(404, s200=ClassificationOut),
)
def judge_text(path: IdPath, body: FeedbackIn) -> Response:
    ctx = context()
    job_id, row_no = parse_text_id(path.id)
    feedback.record(ctx.engine, owner(), JobKind.TEXTS, job_id, row_no, _known(ctx, body.topics))
    with transaction(ctx.engine) as connection:
        [(job, row)] = reading.texts_of_job(connection, owner(), job_id, row_no)
    return json_response(classification(job, row, ctx.models.by_id(row.model_id)))


@blueprint.delete(
    f"{TEXTS_PATH}/<id>/feedback",
    summary="Take back what was said of a posted text",
    description=_TAKING_BACK,
    responses=documented(404, s204=_GONE),
)
def take_back_text(path: IdPath) -> Response:
    feedback.take_back(context().engine, owner(), JobKind.TEXTS, *parse_text_id(path.id))
    return Response(status=204)


@blueprint.post(
    f"{JOBS_PATH}/<id>/rows/<row>/feedback",
    summary="Say which topics are right for a row of a file",
    description="An empty list says that it has none of the topics. What was said before is replaced.",
    responses=documented(404, s200=ResultOut),
)
def judge_row(path: RowPath, body: FeedbackIn) -> Response:
    ctx = context()
    job_id = parse_job_id(path.id)
    feedback.record(ctx.engine, owner(), JobKind.FILE, job_id, row_of(path), _known(ctx, body.topics))
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, owner(), job_id)
        [row] = reading.page_of_rows(connection, job, after=path.row - 1, limit=1)
    return json_response(result_row(row, job, ctx.models.by_id(row.model_id), {}))


@blueprint.delete(
    f"{JOBS_PATH}/<id>/rows/<row>/feedback",
    summary="Take back what was said of a row of a file",
    description=_TAKING_BACK,
    responses=documented(404, s204=_GONE),
)
def take_back_row(path: RowPath) -> Response:
    feedback.take_back(context().engine, owner(), JobKind.FILE, parse_job_id(path.id), row_of(path))
    return Response(status=204)


def _known(ctx: Context, topics: Sequence[str]) -> list[str]:
    """The topics once each, in the order given. Raises a problem for one that no model knows."""
    known = {topic.id for model in ctx.models.all() for topic in model.topics}
    if not known:
        raise NotFoundError("No worker has loaded a model yet, so there are no topics to choose from.")
    errors = [
        BadField(
            pointer=f"/topics/{place}",
            code="unknown_topic",
            message=f"{topic[:40]!r} is no topic; the topics are {', '.join(sorted(known))}.",
        )
        for place, topic in enumerate(topics)
        if topic not in known
    ]
    if errors:
        raise ProblemError(422, "invalid_input", errors[0].message, errors[:100])
    return list(dict.fromkeys(topics))
