"""`/jobs/<id>/events`: a job as server-sent events (HTML Standard, section 9.2), for who would ask again and again."""

import hashlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from api.callers import caller, owner
from api.context import Context, context
from api.held import hold
from api.problems import ProblemError
from api.represent import job_resource
from api.resources.common import documented, json_response
from api.resources.jobs import PATH, expires_at
from api.shapes import IdPath
from api.streams import Look
from jobs import keys, reading
from jobs.database import transaction
from jobs.errors import NotFoundError, UnavailableError
from jobs.records import parse_job_id
from jobs.states import TERMINAL_STATES

HEARTBEAT_SECONDS = 10.0
"""Proxies cut connections that are silent for a minute or so."""

CHECK_SECONDS = 2.0
"""A stream outlives the key that it was begun with by so long at most."""

RETRY_MS = 2000

blueprint = APIBlueprint("events", __name__, abp_tags=[Tag(name="Files", description="Files of posts")])


@blueprint.get(
    f"{PATH}/<id>/events",
    summary="How far a file is, as server-sent events",
    description="`event: job` with the job as JSON, at most two a second and only when something has changed; at the "
    "end `event: end`. 204 for who has heard the end already (`Last-Event-ID`), 503 when there are too many streams.",
    responses=documented(
        404,
        s200={"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        s204={"description": "Nothing more will come"},
    ),
)
def events(path: IdPath) -> Response:
    ctx = context()
    job_id = parse_job_id(path.id)
    heard = request.headers.get("Last-Event-ID")
    look = partial(_look, ctx, owner(), job_id)
    first = look()
    if first.is_over and first.tag == heard:
        return Response(status=204)
    if request.method == "HEAD":
        return _response([])
    hold()
    if not ctx.streams.enter(job_id):
        raise ProblemError(
            503,
            "too_many_streams",
            f"There are as many streams as this server keeps open; ask {PATH}/{path.id} every few seconds instead.",
            headers={"Retry-After": "5"},
        )
    response = _response(_stream(ctx, job_id, look, caller().key_id, heard, request.environ.get("gunicorn.socket")))
    response.call_on_close(partial(ctx.streams.leave, job_id))
    return response


def _response(blocks: Any) -> Response:
    response = Response(blocks, content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _stream(
    ctx: Context,
    job_id: UUID,
    look: Callable[[], Look],
    key_id: int | None,
    heard: str | None,
    client: socket.socket | None,
) -> Iterator[bytes]:
    """The blocks of one stream. No connection to Postgres is held between two looks."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    spoke_at = checked_at = time.monotonic()
    while True:
        try:
            if key_id is not None and time.monotonic() - checked_at >= CHECK_SECONDS:
                checked_at = time.monotonic()
                if not _is_in_use(ctx, key_id):
                    return  # Whoever comes back is asked for a key that opens something.
            seen = ctx.streams.look(job_id, look)
        except NotFoundError:
            yield _event("end", b'{"reason": "deleted"}')
            return
        except UnavailableError:
            seen = None  # Postgres may be back at the next look; the reader learns of it by silence.
        if seen is not None and seen.tag != heard:
            yield _event("job", seen.body, seen.tag)
            heard, spoke_at = seen.tag, time.monotonic()
        if seen is not None and seen.is_over:
            yield _event("end", b'{"reason": "finished"}')
            return
        if time.monotonic() - spoke_at >= HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            spoke_at = time.monotonic()
        if not ctx.streams.pause() or _is_gone(client):
            return


def _event(name: str, data: bytes, tag: str | None = None) -> bytes:
    return (f"id: {tag}\n" if tag else "").encode() + f"event: {name}\n".encode() + b"data: " + data + b"\n\n"


def _is_in_use(ctx: Context, key_id: int) -> bool:
    with transaction(ctx.engine) as connection:
        return keys.is_in_use(connection, key_id)


def _look(ctx: Context, whose: str, job_id: UUID) -> Look:
    with transaction(ctx.engine) as connection:
        job = reading.get_job(connection, whose, job_id)
    body = json_response(job_resource(job, ctx.models.by_id(job.model_id), expires_at(ctx, job))).get_data()
    return Look(body, hashlib.sha256(body).hexdigest()[:16], job.state in TERMINAL_STATES)


def _is_gone(client: socket.socket | None) -> bool:
    """Whether the reader has closed the connection, which a write would notice two heartbeats later."""
    if client is None:
        return False
    try:
        # Asked first: the socket has a time-out, and a look at one that has nothing to say would wait for that long.
        poller = select.poll()
        poller.register(client, select.POLLIN)
        return bool(poller.poll(0)) and client.recv(1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True
