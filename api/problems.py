"""Errors as RFC 9457 `application/problem+json`. The one place where an exception gets an HTTP status."""

import errno
import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from api.files import FileError, TooLargeFile, UnsupportedFile
from jobs.errors import ConflictError, NotFoundError, RubrikaError, TooSlowError, UnavailableError
from jobs.repeating import IdempotencyInFlightError, IdempotencyMismatchError
from jobs.waiting import TooManyExplanationsError, TooManyWaitingError
from web.pages import not_found_page

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

POINTER_CHARS = 200
"""Of a name that somebody has made up, so much is given back."""

CODES = {
    400: "bad_request",
    401: "key_missing",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    411: "length_required",
    413: "request_entity_too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    429: "too_many_requests",
    431: "header_fields_too_large",
    500: "internal_error",
    503: "unavailable",
}
"""Codes of problems that come from Flask itself. The names in `http` change with the version of Python."""


class BadField(BaseModel):
    """One thing that is wrong with the input."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body, or the name of a parameter")
    code: str = Field(description="stable, for programs")
    message: str = Field(description="a sentence, for people")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="urn:rubrika:problem: and the code")
    title: str
    status: int
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="a sentence, for people")
    errors: list[BadField] | None = None


class ProblemError(RubrikaError):
    """An error that already knows its status. `detail` is a sentence, `code` is stable."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[BadField] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.more = more


def bad_input(pointer: str, code: str, message: str) -> ProblemError:
    """422 for one field."""
    return ProblemError(422, "invalid_input", message, [BadField(pointer=pointer, code=code, message=message)])


def problem_response(error: ProblemError) -> Response:
    """The response of a problem."""
    body: dict[str, Any] = {
        "type": f"urn:rubrika:problem:{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": str(error),
    }
    if error.errors:
        body["errors"] = [item.model_dump() for item in error.errors]
    body |= error.more
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    response = Response(text, status=error.status, content_type=MEDIA_TYPE)
    response.headers.extend(error.headers)
    return response


def from_validation(error: ValidationError) -> ProblemError:
    """What pydantic found wrong, as one problem with a pointer for each finding (a hundred at most).

    How much can be wrong is bounded before (`api.body`): pydantic makes all of its findings at once.
    """
    found = [
        BadField(
            pointer="".join(f"/{_escaped(str(part)[:POINTER_CHARS])}" for part in item["loc"]),
            code=item["type"],
            message=item["msg"],
        )
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:100]
    ]
    first = found[0]
    return ProblemError(422, "invalid_input", f"{first.pointer or 'The body'}: {first.message}.", found)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def validation_response(error: ValidationError) -> Response:
    """For flask-openapi3."""
    return problem_response(from_validation(error))


def register(app: Flask) -> None:
    """Translate every error that leaves a view of `app`."""

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | tuple[str, int]:
        if error.response is not None and isinstance(error.response, Response):
            return error.response
        status = error.code or 500
        if status == 404 and not _wants_json():
            return not_found_page(), 404
        if status < 400:
            response = error.get_response()
            assert isinstance(response, Response)  # noqa: S101  (Flask's own redirects are)
            return response
        code = CODES.get(status, "error")
        allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
        return problem_response(ProblemError(status, code, _sentence(error, status), headers=headers))

    @app.errorhandler(RubrikaError)
    def own_error(error: RubrikaError) -> Response | tuple[str, int]:
        if isinstance(error, NotFoundError) and not _wants_json():
            return not_found_page(), 404
        return problem_response(_translated(error))

    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> Response:
        return problem_response(from_validation(error))

    @app.errorhandler(OSError)
    def of_the_system(error: OSError) -> Response:
        if isinstance(error, TimeoutError):  # Of the client's socket: see api.server.
            detail = "The request came too slowly; send it again."
            return problem_response(ProblemError(408, "request_timeout", detail, headers={"Connection": "close"}))
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return unexpected(error)
        log.error("no room left for an upload: %s", error)
        detail = "There is no room left on the server's disk for this file; its operator must make some."
        return problem_response(ProblemError(503, "no_room", detail, headers={"Retry-After": "60"}))

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.exception("unexpected error in %s %s", request.method, request.path, exc_info=error)
        return problem_response(ProblemError(500, "internal_error", "Something went wrong here; it was logged."))


def _translated(error: RubrikaError) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, NotFoundError):
        return ProblemError(404, "not_found", str(error))
    if isinstance(error, IdempotencyMismatchError):
        return ProblemError(422, "idempotency_mismatch", str(error))
    if isinstance(error, IdempotencyInFlightError):
        return ProblemError(409, "key_in_flight", str(error), headers={"Retry-After": "1"})
    if isinstance(error, ConflictError):
        return ProblemError(409, "conflict", str(error))
    if isinstance(error, TooSlowError):
        return ProblemError(503, "too_slow", str(error), headers={"Retry-After": "60"})
    if isinstance(error, UnavailableError):
        return ProblemError(503, "unavailable", str(error), headers={"Retry-After": "2"})
    if isinstance(error, FileError):
        return _from_file(error)
    if isinstance(error, TooManyExplanationsError):
        return ProblemError(429, "too_many_waiting_explanations", str(error), headers={"Retry-After": "10"})
    if isinstance(error, TooManyWaitingError):
        return ProblemError(429, "too_many_waiting_rows", str(error), headers={"Retry-After": "30"})
    log.error("an error without a status: %r", error)
    return ProblemError(500, "internal_error", "Something went wrong here; it was logged.")


def _from_file(error: FileError) -> ProblemError:
    status = 413 if isinstance(error, TooLargeFile) else 415 if isinstance(error, UnsupportedFile) else 422
    place: dict[str, Any] = {name: getattr(error, name) for name in ("line", "byte", "column")}
    place["columns"] = list(error.columns) or None
    return ProblemError(
        status,
        error.code,
        error.message,
        [BadField(pointer="/file", code=error.code, message=error.message)],
        **{name: value for name, value in place.items() if value is not None},
    )


def _wants_json() -> bool:
    """Programs get problems; a person who follows a broken link gets a page."""
    return request.path.startswith("/api/") or not request.accept_mimetypes.accept_html


def _sentence(error: HTTPException, status: int) -> str:
    if status == 413:
        limit = request.max_content_length
        return f"The request is larger than the limit of {limit} bytes." if limit else "The request is too large."
    if status == 405:
        return f"{request.method} is not possible here."
    if status == 404:
        return "There is nothing at this address."
    return error.description or HTTPStatus(status).phrase
