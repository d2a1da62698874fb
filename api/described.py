"""What flask-openapi3 does not say of an operation: the headers that it hears, the options of a raw upload, who may
ask, and what anybody may be answered before a view has seen the request."""

from collections.abc import Iterable
from typing import Any

from api.problems import MEDIA_TYPE

V1 = "/api/v1"

PROBLEM: dict[str, Any] = {
    "description": "What is wrong, as RFC 9457 problem details",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def _problem_with(header: str, description: str) -> dict[str, Any]:
    return PROBLEM | {"headers": {header: {"description": description, "required": True, "schema": {"type": "string"}}}}


OF_ALL = {
    "401": _problem_with("WWW-Authenticate", "how a key is sent"),
    "403": PROBLEM,
    "429": _problem_with("Retry-After", "seconds"),
}
"""Of what asks for a key, or is given one: there is none or a wrong one, it may not, it comes too often."""

OF_BODIES = {"400": PROBLEM, "408": PROBLEM, "413": PROBLEM, "415": PROBLEM}
"""Of what has a body: it cannot be read, came too slowly, is too long, or of another kind."""


def _parameter(name: str, where: str, description: str, **schema: Any) -> dict[str, Any]:
    made = {"type": "string", **schema}
    return {"name": name, "in": where, "required": False, "description": description, "schema": made}


KEY = _parameter(
    "Idempotency-Key",
    "header",
    "makes it safe to repeat: the same key with the same request gives the resource that is there",
    minLength=1,
    maxLength=255,
)
PREFER = _parameter("Prefer", "header", "`wait=N`: hold the request for up to N seconds, 60 at most (RFC 7240)")
IF_NONE_MATCH = _parameter("If-None-Match", "header", "the `ETag` of an answer that is known: 304 while it still holds")
LAST_EVENT_ID = _parameter("Last-Event-ID", "header", "the last event that was heard, to go on after it")
UPLOAD_OPTIONS = [
    _parameter(name, "query", f"of a raw body: {meaning}; in a form it is a field")
    for name, meaning in (
        ("filename", "the name of the file"),
        ("name", "what the file is called in the history"),
        ("encoding", "such as `windows-1251`; without it is found"),
        ("delimiter", "what stands between cells; without it is found"),
        ("columns", "JSON: which column is which field"),
        ("sheet", "of a spreadsheet: its name, or its number from 1"),
    )
]
ON_ERROR = _parameter(
    "on_error", "query", "of a raw body: what a bad row does; in a form it is a field", enum=["skip", "fail"]
)

PARAMETERS: dict[tuple[str, str], list[dict[str, Any]]] = {
    (f"{V1}/classifications", "post"): [KEY, PREFER],
    (f"{V1}/classifications/{{id}}/explanation", "post"): [PREFER],
    (f"{V1}/jobs/{{id}}/rows/{{row}}/explanation", "post"): [PREFER],
    (f"{V1}/jobs", "post"): [KEY, *UPLOAD_OPTIONS, ON_ERROR],
    (f"{V1}/jobs/preview", "post"): [*UPLOAD_OPTIONS, ON_ERROR],
    (f"{V1}/jobs/{{id}}/retry", "post"): [KEY],
    (f"{V1}/jobs/{{id}}/rerun", "post"): [KEY],
    (f"{V1}/jobs/{{id}}", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/results", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/summary", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/events", "get"): [LAST_EVENT_ID],
}


def describe(document: dict[str, Any], open_to_all: Iterable[tuple[str, str]], *, keys_on: bool) -> None:
    """Add all of this to a document. What is there already stays as it is.

    `open_to_all` are the operations, by path and method, that ask nobody for a key. With keys off nothing does, which
    an empty requirement beside the other one says.
    """
    paths: dict[str, dict[str, dict[str, Any]]] = document["paths"]
    for (path, method), parameters in PARAMETERS.items():
        operation = paths[path][method]
        there = operation.setdefault("parameters", [])
        known = {(one["name"], one["in"]) for one in there}
        there += [one for one in parameters if (one["name"], one["in"]) not in known]
        if IF_NONE_MATCH in parameters:
            operation["responses"].setdefault("304", {"description": "Nothing has changed"})
    asks_nobody = set(open_to_all)
    for path, method, operation in [(path, *one) for path, item in paths.items() for one in item.items()]:
        has_body = "requestBody" in operation
        answers = {"403": PROBLEM} if (path, method) in asks_nobody and not has_body else OF_ALL
        for status, answer in (answers | (OF_BODIES if has_body else {})).items():
            operation["responses"].setdefault(status, answer)
        if (path, method) in asks_nobody:
            operation["security"] = []
    document["security"] = [{"key": []}] if keys_on else [{"key": []}, {}]
