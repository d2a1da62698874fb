"""The client is held to the OpenAPI document: every field it knows, and every operation, in both of its kinds."""

import ast
import dataclasses
import inspect
import sys
import tomllib
import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from api.app import create_app
from jobs.settings import PROJECT_ROOT, Settings
from rubrika_client import AsyncClient, Client, calls, resources
from rubrika_client.transport import Filters

LEFT_OUT = {
    "GET /api/v1/classifications.csv": "the iterators give the history",
    "GET /api/v1/classifications.json": "the iterators give the history",
    "GET /api/v1/jobs.csv": "the iterators give the history",
    "GET /api/v1/jobs.json": "the iterators give the history",
    "GET /api/v1/classifications/{id}/explanation": "explain=True gives it with the classification",
    "POST /api/v1/classifications/{id}/explanation": "explain=True asks for it with the text",
    "DELETE /api/v1/classifications/{id}/feedback": "`feedback` puts another judgement in its place",
    "DELETE /api/v1/jobs/{id}/rows/{row}/feedback": "`feedback` puts another judgement in its place",
    "GET /api/v1/jobs/{id}/rows/{row}/explanation": "the page's own; a row is sent as a text to have it explained",
    "POST /api/v1/jobs/{id}/rows/{row}/explanation": "the page's own; a row is sent as a text to have it explained",
    "GET /api/v1/session": "browsers have sessions, programs have keys",
    "POST /api/v1/session": "browsers have sessions, programs have keys",
    "DELETE /api/v1/session": "browsers have sessions, programs have keys",
    "GET /metrics": "for Prometheus",
    "GET /healthz": "for probes; /api/v1/healthz is the same",
    "GET /readyz": "for probes; /api/v1/readyz is the same",
}
"""Operations that the client deliberately has not, each with its reason."""

SCHEMAS = {
    "TopicProbability": "TopicProbability",
    "RowError": "RowErrorOut",
    "RowCounts": "RowsOut",
    "Row": "ResultOut",
    "PreviewRow": "PreviewRow",
    "PreviewError": "PreviewError",
    "Side": "SideOut",
    "ComparedRows": "ComparedRowsOut",
    "Outcome": "OutcomeOut",
    "Readiness": "ReadyOut",
    "TopicSummary": "TopicSummaryOut",
    "TopicAgreement": "TopicAgreementOut",
    "ChangedRow": "ChangedRowOut",
    "Post": "PostIn",
}
"""The schema of each dataclass, where it is not its own name with `Out`."""

AHEAD = {("Classification", "explanation")}
"""Fields that an older service does not have. They have defaults."""

DATACLASSES = [
    kind
    for _, kind in inspect.getmembers(resources, inspect.isclass)
    if dataclasses.is_dataclass(kind) and kind.__module__ == resources.__name__
]
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", datetime: "string"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    # Nothing connects while the app is made.
    settings = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    answer = create_app(settings).test_client().get("/openapi.json")
    made: dict[str, Any] = answer.get_json()
    return made


def fits(hint: Any, schema: Mapping[str, Any]) -> bool:
    """Whether every value that the schema allows can be read as this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    options = schema.get("anyOf")
    if origin in {types.UnionType, Union}:
        [inner] = [one for one in arguments if one is not type(None)]
        if not options:
            return fits(inner, schema)
        return all(one.get("type") == "null" or fits(inner, one) for one in options)
    if options:
        # An input that may be left out as well as be null; what we send is one of its types.
        return any(fits(hint, one) for one in options)
    if origin is tuple:
        return schema.get("type") == "array" and fits(arguments[0], schema["items"])
    if origin is not None and issubclass(origin, Mapping):
        values = schema.get("additionalProperties", True)
        return schema.get("type") == "object" and (arguments[1] is Any or values is True or fits(arguments[1], values))
    if dataclasses.is_dataclass(hint):
        return schema.get("$ref", "").rpartition("/")[2] == schema_of(hint)
    return hint is Any or schema.get("type") == JSON_TYPES[hint]


def schema_of(kind: Any) -> str:
    return SCHEMAS.get(kind.__name__, f"{kind.__name__}Out")


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_every_field_is_in_the_document_with_a_type_that_fits(kind: type, document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"][schema_of(kind)]["properties"]
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if (kind.__name__, field.name) in AHEAD and field.name not in properties:
            assert field.default is None
            continue
        assert field.name in properties, f"the document has no {field.name}"
        assert fits(hints[field.name], properties[field.name]), (field.name, properties[field.name])


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_every_field_of_the_document_is_read(kind: type, document: dict[str, Any]) -> None:
    properties = set(document["components"]["schemas"][schema_of(kind)]["properties"])
    # `text` is another name of doc_text; `next` of a comparison leads to what `changed_rows` gives.
    left = properties - {field.name for field in dataclasses.fields(kind)}
    assert left <= {"Post": {"text", "explain"}, "Comparison": {"next"}}.get(kind.__name__, set())


def test_a_type_that_does_not_fit_is_found() -> None:
    assert not fits(int, {"type": "string"})
    assert not fits(str, {"anyOf": [{"type": "integer"}]})
    assert not fits(tuple[int, ...], {"type": "array", "items": {"type": "string"}})
    assert not fits(str | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]})
    assert not fits(resources.Job, {"$ref": "#/components/schemas/ModelOut"})


def operations_of_the_client() -> Iterator[str]:
    """Method and path of every request that `calls` can make, with names in braces for what is put in."""
    form = calls.Form(lambda: open("/dev/null", "rb"), "a", {})  # noqa: SIM115, PTH123  (never opened)
    made: list[calls.Call[Any]] = [
        calls.classify([resources.Post("a")], wait=1, explain=False, key=None),
        calls.classification("{id}"),
        calls.classifications(),
        calls.judge_text("{id}", []),
        calls.upload(form, key=None),
        calls.preview(form),
        calls.job("{id}"),
        calls.jobs(),
        calls.cancel("{id}"),
        calls.retry("{id}", key=None),
        calls.rerun("{id}", None, key=None),
        calls.delete("{id}"),
        calls.events("{id}"),
        calls.results("{id}"),
        calls.summary("{id}", None),
        calls.compare("{id}", "{other}", 1),
        calls.changed_rows("{id}", "{other}"),
        calls.judge_row("{id}", 0, []),
        *(calls.export("{id}", one, calls.Sink(form.open())) for one in calls.FORMATS),
        calls.topics(),
        calls.models(),
        calls.model("{name}"),
        calls.ready(),
        calls.health(),
    ]
    for call in made:
        if call.sink is not None:
            call.sink.file.close()
        yield f"{call.method} {call.path.replace('%7B', '{').replace('%7D', '}').replace('/rows/0/', '/rows/{row}/')}"


def test_every_operation_is_covered_or_left_out_on_purpose(document: dict[str, Any]) -> None:
    served = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    ours = set(operations_of_the_client())
    assert ours <= served, f"{ours - served} are not served"
    assert served - ours == set(LEFT_OUT)


def test_the_parameters_that_are_sent_are_in_the_document(document: dict[str, Any]) -> None:
    rows = document["paths"]["/api/v1/jobs/{id}/results.csv"]["get"]["parameters"]
    named = {one["name"] for one in rows if one["in"] == "query"}
    filters = set(get_type_hints(Filters))
    assert filters | {"thresholds", "bom", "raw", "delimiter", "decimal"} == named
    form = document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(inspect.signature(calls.options).parameters) | {"file"} == set(form["properties"])


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(one)
        for name, one in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    ours, theirs = public(Client), public(AsyncClient)
    assert set(ours) == set(theirs)
    assert {name: list(one.parameters.values()) for name, one in ours.items()} == {
        name: list(one.parameters.values()) for name, one in theirs.items()
    }


def test_the_client_needs_nothing_that_its_package_does_not_ask_for() -> None:
    imported: set[str] = set()
    for path in (PROJECT_ROOT / "rubrika_client").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    alone = tomllib.loads((PROJECT_ROOT / "rubrika_client" / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    assert {text.partition(">=")[0] for text in alone["dependencies"]} == imported - set(sys.stdlib_module_names) - {
        "rubrika_client"
    }
    assert set(alone["dependencies"]) <= set(whole["dependencies"])
    assert alone["requires-python"] == whole["requires-python"]
