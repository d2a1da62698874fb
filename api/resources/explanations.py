"""Which words of a text speak for its topics: asked for when it is classified already, and read.

Of a posted text and of a row of a file.
"""

from dataclasses import dataclass
from uuid import UUID

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy import Connection

from api.callers import owner
from api.context import Context, context
from api.held import may_hold
from api.problems import ProblemError
from api.represent import explanation
from api.resources.classifications import PATH as TEXTS_PATH
from api.resources.common import documented, json_response, preferred_wait, row_of, wait_until
from api.resources.jobs import PATH as JOBS_PATH
from api.shapes import ExplanationOut, IdPath, RowPath
from jobs import asking, fleet, reading
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.records import Explanation, Row, parse_job_id, parse_text_id
from jobs.states import JobKind

blueprint = APIBlueprint(
    "explanations", __name__, abp_tags=[Tag(name="Explanations", description="Which words speak for a topic")]
)

_ASKING = (
    "Answers 202, or 200 when the explanation is there. `Prefer: wait=N` holds the request until then. An explanation "
    "that failed is tried again; asking twice is the same as once."
)


@dataclass(frozen=True)
class _Target:
    """The text that is asked about, and the address of its explanation."""

    kind: JobKind
    job_id: UUID
    row_no: int
    address: str

    def row(self, connection: Connection) -> Row:
        """The text. Raises `NotFoundError`."""
        [(_, row)] = reading.texts_of_job(connection, owner(), self.job_id, self.row_no, kind=self.kind)
        return row

    def asked(self, connection: Connection) -> tuple[Row, Explanation]:
        """The text with its explanation. Raises `NotFoundError`, also when nobody has asked for it."""
        row = self.row(connection)
        if row.explanation is None:
            raise NotFoundError("Nobody has asked for an explanation of this text.")
        return row, row.explanation


@blueprint.post(
    f"{TEXTS_PATH}/<id>/explanation",
    summary="Ask which words of a text speak for its topics",
    description=f"Of a text that is classified already; one that is not posted yet asks with `explain`. {_ASKING}",
    responses=documented(404, 409, s200=ExplanationOut, s202=ExplanationOut),
)
def ask_about_text(path: IdPath) -> Response:
    return _ask(_text(path))


@blueprint.get(
    f"{TEXTS_PATH}/<id>/explanation",
    summary="Which words of a text speak for its topics",
    description="404 as long as nobody has asked for it.",
    responses=documented(404, s200=ExplanationOut),
)
def read_of_text(path: IdPath) -> Response:
    return _answer(_text(path), accepted=False)


@blueprint.post(
    f"{JOBS_PATH}/<id>/rows/<row>/explanation",
    summary="Ask which words of a row speak for its topics",
    description=f"Of a row that is computed already. {_ASKING}",
    responses=documented(404, 409, s200=ExplanationOut, s202=ExplanationOut),
)
def ask_about_row(path: RowPath) -> Response:
    return _ask(_row(path))


@blueprint.get(
    f"{JOBS_PATH}/<id>/rows/<row>/explanation",
    summary="Which words of a row speak for its topics",
    description="404 as long as nobody has asked for it.",
    responses=documented(404, s200=ExplanationOut),
)
def read_of_row(path: RowPath) -> Response:
    return _answer(_row(path), accepted=False)


def _text(path: IdPath) -> _Target:
    job_id, row_no = parse_text_id(path.id)
    return _Target(JobKind.TEXTS, job_id, row_no, f"{TEXTS_PATH}/{path.id}/explanation")


def _row(path: RowPath) -> _Target:
    address = f"{JOBS_PATH}/{path.id}/rows/{path.row}/explanation"
    return _Target(JobKind.FILE, parse_job_id(path.id), row_of(path), address)


def _ask(target: _Target) -> Response:
    ctx = context()
    wait = preferred_wait()
    _refuse_without_model(ctx, target)
    most = ctx.settings.max_waiting_explanations
    is_new = asking.ask(ctx.engine, owner(), target.kind, target.job_id, target.row_no, max_waiting=most)
    if is_new:
        ctx.bell.ring()
    wait = wait if wait and may_hold() else 0.0
    if wait:
        wait_until(ctx, target.job_id, wait, lambda c: not target.asked(c)[1].is_open, is_new=is_new)
    response = _answer(target, accepted=True)
    response.headers["Location"] = target.address
    if wait:
        response.headers["Preference-Applied"] = f"wait={int(wait)}"
    return response


def _answer(target: _Target, *, accepted: bool) -> Response:
    ctx = context()
    with transaction(ctx.engine) as connection:
        row, asked = target.asked(connection)
    body = explanation(row, asked, ctx.models.by_id(row.model_id))
    response = json_response(body, 202 if accepted and asked.is_open else 200)
    if asked.is_open:
        response.headers["Retry-After"] = "1"
    return response


def _refuse_without_model(ctx: Context, target: _Target) -> None:
    """Only the model that classified a text can explain it. Raises a problem when other models run, and it does not.

    Workers on trial count for what their own model has classified; nobody is told to send a text again for them.
    """
    with transaction(ctx.engine) as connection:
        row = target.row(connection)
        workers = fleet.workers(connection)
    alive = {worker.model_id for worker in workers}
    for_new_texts = {worker.model_id for worker in workers if not worker.trial}
    is_there = row.explanation is not None and row.explanation.error_code is None
    if row.model_id is None or is_there or not for_new_texts or row.model_id in alive:
        return
    model = ctx.models.by_id(row.model_id)
    running = ", ".join(sorted(one.label for one in ctx.models.all() if one.id in for_new_texts))
    raise ProblemError(
        409,
        "model_not_running",
        f"The text was classified by {model.label if model else 'a model'}, which no live worker runs. Running now: "
        f"{running}. Send the text again to have it classified and explained by that.",
    )
