"""What several resources share: documented problems, headers of a request, thresholds in a parameter."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response, request
from sqlalchemy import Connection

from api.context import Context
from api.described import PROBLEM
from api.problems import bad_input
from api.shapes import RowPath
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.records import Idempotency, Model

MAX_WAIT_SECONDS = 60
MAX_KEY_CHARS = 255
LARGEST_ROW = 2**31 - 1


def documented(*statuses: int, **answers: Any) -> dict[Any, Any]:
    """Responses for the OpenAPI document: models by status (`s200=...`), and the problems of the other statuses.

    What every operation may answer, and every one that has a body, is added by `api.described`.
    """
    named = {name.removeprefix("s"): model for name, model in answers.items()}
    return named | {str(status): PROBLEM for status in (*statuses, 422, 503)}


def json_response(body: Any, status: int = 200) -> Response:
    """A JSON body in UTF-8, never ASCII-escaped."""
    return Response(
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
        status=status,
        content_type="application/json",
    )


def preferred_wait() -> float:
    """Seconds of `Prefer: wait=N` (RFC 7240), 0 without; a value that is none is ignored, as the RFC asks."""
    for header in request.headers.getlist("Prefer"):
        for preference in header.split(","):
            match = re.fullmatch(r'\s*wait\s*=\s*"?(\d{1,6})"?\s*(;.*)?', preference, re.IGNORECASE)
            if match:
                return float(min(int(match[1]), MAX_WAIT_SECONDS))
    return 0.0


def wait_until(
    ctx: Context, job_id: UUID, seconds: float, is_there: Callable[[Connection], bool], *, is_new: bool
) -> bool:
    """Hold the request until what it waits for is there or the time is over; whether it is there.

    The bell wakes us; a look at Postgres every four seconds covers one that was lost. What is not new may be there
    already, and then nobody rings any more.
    """
    deadline = time.monotonic() + seconds
    if not is_new:
        with transaction(ctx.engine) as connection:
            if is_there(connection):
                return True
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        ctx.bell.wait(job_id, left)
        with transaction(ctx.engine) as connection:
            if is_there(connection):
                return True


def idempotency(fingerprint: str | Callable[[], str]) -> Idempotency | None:
    """The `Idempotency-Key` of the request with what was sent under it; None without one."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip()
    if not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise bad_input("Idempotency-Key", "invalid_key", f"A key has 1 to {MAX_KEY_CHARS} printable characters.")
    return Idempotency(key, fingerprint)


def fingerprint_of(*parts: str | bytes) -> str:
    """SHA-256 over parts, each with its length, so that no two requests run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def row_of(path: RowPath) -> int:
    """The number of a row in an address. Raises `NotFoundError` for one that no file has."""
    if not 0 < path.row <= LARGEST_ROW:
        raise NotFoundError("There is no such row.")
    return path.row


def read_thresholds(text: str | None, model: Model | None) -> dict[str, float]:
    """`sport:0.5,ads:0.3` as numbers by topic; empty without."""
    if not text:
        return {}
    known = {topic.id for topic in model.topics} if model else set()
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition(":")
        name = name.strip()
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if name not in known or not 0 <= value <= 1:
            raise bad_input(
                "thresholds",
                "invalid_thresholds",
                f"{part.strip()!r} is not topic:number with a number from 0 to 1 and a topic of "
                f"{', '.join(sorted(known)) or 'a model, and no model has begun on this file yet'}.",
            )
        found[name] = value
    return found
