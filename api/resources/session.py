"""`/session`: who the caller is; the page begins a session with a key here, and ends it."""

import logging

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.callers import Caller, caller
from api.context import Context, context
from api.guard import count_refusal, note_refusal, unknown_key
from api.problems import ProblemError
from api.resources.common import documented, json_response
from api.service_shapes import SessionOut, SignInIn
from jobs import keys
from jobs.database import run, transaction
from jobs.keys import Holder

log = logging.getLogger(__name__)

PATH = "/api/v1/session"

blueprint = APIBlueprint("session", __name__, abp_tags=[Tag(name="Service", description="Topics, models, health")])


@blueprint.get(PATH, summary="Who the caller is", responses=documented(s200=SessionOut))
def who() -> Response:
    return json_response(_resource(context(), caller()))


@blueprint.post(
    PATH,
    summary="Begin a session of the page with a key",
    description="For the page alone: the session comes as a cookie that no script can read. Programs send their key "
    "with each request.",
    responses=documented(404, s200=SessionOut),
)
def sign_in(body: SignInIn) -> Response:
    ctx = context()
    cookie = ctx.cookie
    if cookie is None:
        raise ProblemError(404, "keys_off", "Keys are off here: nobody needs one.")
    # A place in the bucket of refusals first, so that guessing is slow whether a guess is right or not.
    count_refusal(ctx)
    secret = body.key.strip()
    holder = run(ctx.engine, lambda c: keys.holder_of_key(c, secret)) if keys.is_key(secret) else None
    if holder is None:
        note_refusal()
        raise unknown_key(was_sent=True)
    log.info("key %d of %s has signed in at %s", holder.key_id, holder.owner, request.remote_addr)
    response = json_response(_resource(ctx, Caller.of(holder, by_cookie=True)))
    cookie.write(request, response, _new_session(ctx, holder, cookie.read(request)))
    return response


@blueprint.delete(
    PATH,
    summary="End the session",
    responses=documented(s204={"description": "The session is over, also for who has copied its cookie"}),
)
def sign_out() -> Response:
    ctx = context()
    response = Response(status=204)
    token = ctx.cookie.read(request) if ctx.cookie else None
    if ctx.cookie and token is not None:
        with transaction(ctx.engine) as connection:
            keys.end_session(connection, token)
        ctx.cookie.remove(request, response)
    return response


def _new_session(ctx: Context, holder: Holder, before: str | None) -> str:
    """The token of a new session; the one that this browser had before is over."""
    with transaction(ctx.engine) as connection:
        if before is not None:
            keys.end_session(connection, before)
        return keys.begin_session(connection, holder.key_id)


def _resource(ctx: Context, who: Caller) -> dict[str, object]:
    settings = ctx.settings
    limited = who.key_id is not None and settings.max_requests_per_minute
    return {
        "auth": settings.auth,
        "name": who.name,
        "owner": who.owner,
        "role": str(who.role),
        "limits": {
            "requests_per_minute": settings.max_requests_per_minute if limited else None,
            "waiting_rows": settings.max_waiting_rows,
            "waiting_explanations": settings.max_waiting_explanations,
        },
    }
