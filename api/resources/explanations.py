"""Which words of a posted text speak for its topics: asked for when the text is classified already, and read."""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy import Connection

from api.context import OWNER, context
from api.problems import ProblemError
from api.represent import explanation
from api.resources.classifications import PATH as TEXTS_PATH
from api.resources.common import documented, hold, json_response, preferred_wait
from api.shapes import ExplanationOut, IdPath
from jobs import asking, fleet, reading
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.records import Explanation, Row, parse_text_id
from jobs.states import JobKind

PATH = f"{TEXTS_PATH}/<id>/explanation"

blueprint = APIBlueprint(
    "explanations", __name__, abp_tags=[Tag(name="Explanations", description="Which words speak for a topic")]
)


@blueprint.post(
    PATH,
    summary="Ask which words of a text speak for its topics",
    description="Of a text that is classified already; one that is not posted yet asks with `explain`. Answers 202, or "
    "200 when the explanation is there. `Prefer: wait=N` holds the request until then. An explanation that failed is "
    "tried again; asking twice is the same as once.",
    responses=documented(404, 409, s200=ExplanationOut, s202=ExplanationOut),
)
def ask(path: IdPath) -> Response:
    ctx = context()
    job_id, row_no = parse_text_id(path.id)
    wait = preferred_wait()
    _refuse_without_model(path.id)
    if asking.ask(ctx.engine, OWNER, JobKind.TEXTS, job_id, row_no):
        ctx.bell.ring()

    def is_there(connection: Connection) -> bool:
        return not _find(connection, path.id)[1].is_open

    if wait:
        hold(ctx, job_id, wait, is_there)
    response = _answer(path.id, accepted=True)
    response.headers["Location"] = f"{TEXTS_PATH}/{path.id}/explanation"
    if wait:
        response.headers["Preference-Applied"] = f"wait={int(wait)}"
    return response


@blueprint.get(
    PATH,
    summary="Which words of a text speak for its topics",
    description="404 as long as nobody has asked for it.",
    responses=documented(404, s200=ExplanationOut),
)
def read(path: IdPath) -> Response:
    return _answer(path.id, accepted=False)


def _answer(text: str, *, accepted: bool) -> Response:
    ctx = context()
    with transaction(ctx.engine) as connection:
        row, asked = _find(connection, text)
    body: dict[str, Any] = explanation(row, asked, ctx.models.by_id(row.model_id))
    response = json_response(body, 202 if accepted and asked.is_open else 200)
    if asked.is_open:
        response.headers["Retry-After"] = "1"
    return response


def _find(connection: Connection, text: str) -> tuple[Row, Explanation]:
    """A text and its explanation. Raises `NotFoundError` when there is no such text, or nobody has asked."""
    job_id, row_no = parse_text_id(text)
    [(_, row)] = reading.texts_of_job(connection, OWNER, job_id, row_no)
    if row.explanation is None:
        raise NotFoundError("Nobody has asked for an explanation of this text.")
    return row, row.explanation


def _refuse_without_model(text: str) -> None:
    """Only the model that classified a text can explain it. Raises a problem when other models run, and it does not."""
    ctx = context()
    job_id, row_no = parse_text_id(text)
    with transaction(ctx.engine) as connection:
        [(_, row)] = reading.texts_of_job(connection, OWNER, job_id, row_no)
        alive = fleet.models_alive(connection)
    is_there = row.explanation is not None and row.explanation.error_code is None
    if row.model_id is None or is_there or not alive or row.model_id in alive:
        return
    model = ctx.models.by_id(row.model_id)
    running = ", ".join(sorted(one.label for one in ctx.models.all() if one.id in alive))
    raise ProblemError(
        409,
        "model_not_running",
        f"The text was classified by {model.label if model else 'a model'}, which no live worker runs. Running now: "
        f"{running}. Send the text again to have it classified and explained by that.",
    )
