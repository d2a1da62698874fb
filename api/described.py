"""What flask-openapi3 does not say of an operation: the headers that it hears, and the options of a raw upload."""

from typing import Any

V1 = "/api/v1"


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
    (f"{V1}/jobs", "post"): [KEY, *UPLOAD_OPTIONS, ON_ERROR],
    (f"{V1}/jobs/preview", "post"): [*UPLOAD_OPTIONS, ON_ERROR],
    (f"{V1}/jobs/{{id}}/retry", "post"): [KEY],
    (f"{V1}/jobs/{{id}}/rerun", "post"): [KEY],
    (f"{V1}/jobs/{{id}}", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/results", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/summary", "get"): [IF_NONE_MATCH],
    (f"{V1}/jobs/{{id}}/events", "get"): [LAST_EVENT_ID],
}


def describe(paths: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Add all of this to the paths of a document. What is there already stays as it is."""
    for (path, method), parameters in PARAMETERS.items():
        operation = paths[path][method]
        there = operation.setdefault("parameters", [])
        known = {(one["name"], one["in"]) for one in there}
        there += [one for one in parameters if (one["name"], one["in"]) not in known]
        if IF_NONE_MATCH in parameters:
            operation["responses"].setdefault("304", {"description": "Nothing has changed"})
