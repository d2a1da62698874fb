"""`/classifications`: one text, or up to a thousand, posted as JSON; their results; and their history."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.callers import owner
from api.context import Context, context
from api.files import problem_of
from api.held import may_hold
from api.observe import note_job
from api.problems import BadField, ProblemError, bad_input
from api.represent import classification, cursor, page, read_cursor
from api.resources.common import documented, fingerprint_of, idempotency, json_response, preferred_wait, wait_until
from api.resources.filters import repeated, wanted_texts
from api.shapes import ClassificationOut, ClassificationsIn, ClassificationsOut, IdPath, PostIn, TextsQuery
from jobs import accepting, reading
from jobs.database import transaction
from jobs.history import list_texts
from jobs.records import Idempotency, Job, NewJob, NewText, Row, parse_text_id
from jobs.repeating import find_idempotent
from jobs.states import JobKind, Lane
from jobs.waiting import TooManyWaitingError

PATH = "/api/v1/classifications"
INTERACTIVE_ITEMS = 64
"""A request with more posts than that, and nobody holding the line for it, goes with the files."""

INTERACTIVE_CHUNK_ROWS = 32

blueprint = APIBlueprint("classifications", __name__, abp_tags=[Tag(name="Texts", description="Posts sent as JSON")])


_ONE_OR_MANY = {
    "description": "The post, or `items` where the request has them",
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": f"#/components/schemas/{kind.__name__}"}
                    for kind in (ClassificationOut, ClassificationsOut)
                ]
            }
        }
    },
}


@blueprint.post(
    PATH,
    summary="Classify one post, or up to a thousand",
    description="Answers 202 with the resource at once. With `Prefer: wait=N` (60 at most) it answers 200 as soon as "
    "the result is there, or 202 after N seconds. An `Idempotency-Key` makes it safe to repeat. With `explain` the "
    "result has an `explanation`, and is there when that is.",
    responses=documented(409, s200=_ONE_OR_MANY, s202=_ONE_OR_MANY),
)
def classify(body: ClassificationsIn) -> Response:
    ctx = context()
    texts = _texts(body, ctx)
    once = idempotency(fingerprint_of(request.path, request.get_data()))
    _require_room(ctx, len(texts), once)
    wait = preferred_wait()
    # A preference may be left unheard (RFC 7240): who holds enough already gets the address of the result at once.
    wait = wait if wait and may_hold() else 0.0
    interactive = bool(wait) or len(texts) <= INTERACTIVE_ITEMS
    job_id, is_new = accepting.add_job(
        ctx.engine,
        NewJob(owner(), JobKind.TEXTS, idempotency=once, max_explanations=ctx.settings.max_waiting_explanations),
        texts,
        lane=Lane.INTERACTIVE if interactive else Lane.BULK,
        chunk_rows=INTERACTIVE_CHUNK_ROWS if interactive else ctx.settings.chunk_rows,
    )
    note_job(job_id, is_new=is_new)
    if is_new:
        ctx.bell.ring()
    is_there = partial(reading.is_finished, job_id=job_id)
    finished = bool(wait) and wait_until(ctx, job_id, wait, is_there, is_new=is_new)
    with transaction(ctx.engine) as connection:
        found = reading.texts_of_job(connection, owner(), job_id)
    if not is_new:
        finished = all(row.is_settled for _, row in found)
    return _answer(ctx, found, single=body.items is None, finished=finished, wait=wait)


@blueprint.get(
    f"{PATH}/<id>",
    summary="One posted text and what became of it",
    responses=documented(404, s200=ClassificationOut),
)
def read(path: IdPath) -> Response:
    ctx = context()
    job_id, row_no = parse_text_id(path.id)
    with transaction(ctx.engine) as connection:
        [(job, row)] = reading.texts_of_job(connection, owner(), job_id, row_no)
    response = json_response(_resource(ctx, job, row))
    if not row.is_settled:
        response.headers["Retry-After"] = "1"
    return response


@blueprint.get(PATH, summary="The history of posted texts, newest first", responses=documented(s200=ClassificationsOut))
def history(query: TextsQuery) -> Response:
    ctx = context()
    place = read_cursor(query.cursor, str, int)
    before = parse_text_id(f"{place[0]}-{place[1]}") if place else None
    wanted = wanted_texts(query)
    with transaction(ctx.engine) as connection:
        found, behind = list_texts(connection, owner(), before=before, limit=query.limit, wanted=wanted)
    following = cursor(behind[0].hex, behind[1]) if behind else None
    return json_response(page([_resource(ctx, *pair) for pair in found], PATH, following, query.limit, repeated(query)))


def _require_room(ctx: Context, rows: int, once: Idempotency | None) -> None:
    """Raises `TooManyWaitingError`, unless the request is one that was accepted before: that adds nothing."""
    try:
        ctx.waiting.require_room(owner(), rows)
    except TooManyWaitingError:
        with transaction(ctx.engine) as connection:
            if once is None or find_idempotent(connection, owner(), once) is None:
                raise


def _texts(body: ClassificationsIn, ctx: Context) -> list[NewText]:
    """The posts of a request, checked; everything that is wrong is said at once."""
    if body.items is None:
        posts: Sequence[PostIn] = [body]
        prefix = ""
    else:
        posts = body.items
        prefix = "/items/{}"
        if body.model_fields_set != {"items"}:
            raise bad_input("/items", "not_alone", "Beside `items` no other field may stand.")
        if len(posts) > ctx.settings.max_items:
            raise bad_input("/items", "too_many_items", f"More than {ctx.settings.max_items} posts in one request.")
    errors: list[BadField] = []
    texts = []
    for number, post in enumerate(posts):
        found = _problem(post, ctx.settings.max_text_chars)
        if found is not None:
            pointer = prefix.format(number) + found.pointer
            errors.append(BadField(pointer=pointer, code=found.code, message=found.message))
        texts.append(
            NewText(*_fields(post), post.custom_id, explain=post.explain),
        )
    if sum(post.explain for post in posts) > ctx.settings.max_explained:
        message = f"More than {ctx.settings.max_explained} posts of one request ask for an explanation."
        pointer = "/explain" if body.items is None else "/items"
        errors.append(BadField(pointer=pointer, code="too_many_explained", message=message))
    if errors:
        raise ProblemError(422, "invalid_input", errors[0].message, errors[:100])
    return texts


def _problem(post: PostIn, max_chars: int) -> BadField | None:
    """What keeps a post from being accepted; the pointer is relative to the post."""
    if post.text is not None and post.doc_text is not None:
        return BadField(
            pointer="/text", code="ambiguous", message="`text` and `doc_text` are the same field; send one."
        )
    names = ("doc_text" if post.text is None else "text", "image2text", "speech2text")
    found = problem_of(_fields(post), max_chars, names=names)
    if found is None and post.custom_id:
        found = problem_of((post.custom_id, "", ""), max_chars, names=("custom_id", *names[1:]))
    if found is None:
        return None
    return BadField(pointer=f"/{found.column}" if found.column else "", code=found.code, message=found.message)


def _fields(post: PostIn) -> tuple[str, str, str]:
    return post.text or post.doc_text or "", post.image2text or "", post.speech2text or ""


def _resource(ctx: Context, job: Job, row: Row) -> dict[str, Any]:
    model = ctx.models.by_id(row.model_id)
    return classification(job, row, model)


def _answer(
    ctx: Context,
    found: Sequence[tuple[Job, Row]],
    *,
    single: bool,
    finished: bool,
    wait: float,
) -> Response:
    resources = [_resource(ctx, *pair) for pair in found]
    response = json_response(resources[0] if single else {"items": resources}, 200 if finished else 202)
    if single:
        response.headers["Location"] = f"{PATH}/{resources[0]['id']}"
    if wait:
        response.headers["Preference-Applied"] = f"wait={int(wait)}"
    if not finished:
        response.headers["Retry-After"] = "1"
    return response
