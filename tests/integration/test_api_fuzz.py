"""Requests made from the OpenAPI document, sound and unsound: the service answers as the document says, and never 5xx.

Schemathesis makes the requests and judges the answers: statuses, media types, headers and bodies are those of the
document; what fits the document is accepted, what does not is refused.
"""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import Engine

from api.app import create_app
from api.files import FileCode
from jobs import fleet
from jobs.database import run
from jobs.settings import Settings
from jobs.states import RowError
from tests.integration.api_support import CSV, V1, Worker, upload

MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)
MEANINGS = {
    *FileCode,
    *RowError,
    *("ambiguous", "not_alone", "too_many_items", "topic_missing", "unknown_topic", "unknown_model"),
    *("invalid_key", "idempotency_mismatch", "unknown_status"),
    *("invalid_cursor", "invalid_thresholds", "unknown_value", "unknown_field", "invalid_json"),
}
"""Codes of what a document can only say in words."""

METHODS = ("get", "post", "put", "patch", "delete")


def operations() -> list[tuple[str, str]]:
    """All of the document. Nothing connects while the app is made."""
    nowhere = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    paths = create_app(nowhere).test_client().get("/openapi.json").get_json()["paths"]
    return [(path, method) for path, item in paths.items() for method in item if method in METHODS]


@pytest.fixture
def document(app: Any, busy_worker: Worker) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.fixture
def stay_alive(engine: Engine, busy_worker: Worker) -> Callable[[], None]:
    """Give the sign of life that the worker of the tests gives only at its start."""
    return lambda: run(engine, lambda connection: fleet.worker_seen(connection, "tiny", busy_worker.model, "cpu"))


@pytest.fixture
def places(client: FlaskClient, document: Any) -> dict[str, Any]:
    """Names and ids of things that are there."""
    text = client.post(f"{V1}/classifications", json={"text": "матч"}, headers={"Prefer": "wait=10"}).get_json()
    job, other = (upload(client, CSV, name).get_json() for name in ("a.csv", "b.csv"))
    return {"text": text["id"], "job": job["id"], "other": other["id"], "name": "tiny", "row": 1}


def fuzz(document: Any, path: str, method: str, places: dict[str, Any], **limits: Any) -> None:
    """Ask one operation in sound and in unsound ways, for things that are there and for things that are not."""
    there = {
        "id": places["text" if "classifications" in path else "job"],
        **{name: places[name] for name in ("other", "name", "row")},
    }
    known = {name: value for name, value in there.items() if f"{{{name}}}" in path}
    operation = document[path][method]
    for mode in MODES:
        for named in (known, None) if known else (None,):

            @given(case=operation.as_strategy(mode, path_parameters=named), mode=st.just(mode))
            @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), **limits)
            def ask(case: Case, mode: GenerationMode) -> None:
                answer = case.call()
                case.validate_response(answer, excluded_checks=[positive_data_acceptance])
                if mode is GenerationMode.POSITIVE:
                    assert_refused_for_its_meaning(answer)

            try:
                ask()
            except Unsatisfiable:
                # What takes no parameters, or texts of any kind, cannot be asked in an unsound way.
                assert mode is GenerationMode.NEGATIVE


def assert_refused_for_its_meaning(answer: Any) -> None:
    """What fits the document is refused, if at all, for a reason that no schema can say: each has a code of ours."""
    if answer.status_code in {200, 202, 204, 304, 404, 409}:
        return
    problem = answer.json()
    codes = {error["code"] for error in problem.get("errors", [])} or {problem["code"]}
    assert codes <= MEANINGS, (answer.status_code, problem)


def test_answers_are_those_of_the_document(
    document: Any, places: dict[str, Any], stay_alive: Callable[[], None], subtests: pytest.Subtests
) -> None:
    for path, method in operations():
        stay_alive()
        with subtests.test(f"{method.upper()} {path}"):
            fuzz(document, path, method, places, max_examples=6, derandomize=True, phases=PHASES)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_answers_are_those_of_the_document_for_long(
    document: Any, places: dict[str, Any], stay_alive: Callable[[], None], subtests: pytest.Subtests
) -> None:
    for path, method in operations():
        stay_alive()
        with subtests.test(f"{method.upper()} {path}"):
            fuzz(document, path, method, places, max_examples=300, phases=PHASES)
