"""Every request is counted, timed and named: metrics, a line in the log, and an id that the client may choose."""

import logging
import re
import time
from uuid import UUID, uuid4

from flask import Flask, Response, g, request

from api.context import context
from jobs import logs

log = logging.getLogger("api.requests")

REQUEST_ID = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_JOB_ID = re.compile(r"[0-9a-f]{32}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked again and again by machines, which see the answer."""

_QUIET = frozenset({"GET", "HEAD", "OPTIONS"})


def register(app: Flask) -> None:
    """Watch the requests of `app`. Call it before anything else that looks at them."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get(REQUEST_ID, "")
        g.began, g.began_at = time.monotonic(), time.time_ns()
        g.request_id = given if _GIVEN_ID.fullmatch(given) else uuid4().hex
        g.log_token = logs.begin(request=g.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.monotonic() - g.began
        method = request.method if request.method in _METHODS else "other"
        # Never the path itself: whoever asks for what is not there could make as many of them as he likes.
        route = request.url_rule.rule if request.url_rule else "other"
        context().metrics.answered(method, route, response.status_code, seconds)
        response.headers[REQUEST_ID] = g.request_id
        if "new_job" in g:
            attributes = {"http.request.method": method, "http.route": route, "rubrika.request": g.request_id}
            parent = request.headers.get("traceparent", "")
            context().traces.accepted(g.new_job, g.began_at, time.time_ns(), attributes, parent)
        level = logging.DEBUG if route in _PROBES else _level(method, response.status_code)
        if log.isEnabledFor(level):
            fields = {"method": method, "route": route, "status": response.status_code, "ms": round(seconds * 1000, 1)}
            with logs.about(**fields, **_job()):
                log.log(level, "answered")
        return response

    @app.teardown_request
    def leave(_error: BaseException | None) -> None:
        if (token := g.pop("log_token", None)) is not None:
            logs.end(token)


def note_job(job_id: UUID, *, is_new: bool) -> None:
    """This request has made a job, or asked for one anew that is there: its line in the log, and its trace, name it."""
    g.job = job_id.hex
    if is_new:
        g.new_job = job_id


def _job() -> dict[str, str]:
    """The job that the request has made, or asks about; nothing that only looks like one gets into a line."""
    asked = str((request.view_args or {}).get("id", ""))[:32]
    job = g.get("job") or (asked if _JOB_ID.fullmatch(asked) else None)
    return {"job": job} if job else {}


def _level(method: str, status: int) -> int:
    """What changes something or fails is worth a line; pages that ask again and again are not."""
    if status >= 500:
        return logging.WARNING
    return logging.DEBUG if method in _QUIET else logging.INFO
