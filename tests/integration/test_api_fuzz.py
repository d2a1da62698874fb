"""Requests made from the OpenAPI document, sound and unsound: the service answers as the document says, and never 5xx.

Schemathesis makes the requests and judges the answers: statuses, media types, headers and bodies are those of the
document; what fits the document is accepted, what does not is refused. With keys off; `test_api_fuzz_keys` has them on.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from sqlalchemy import Engine

from api.app import create_app
from jobs import fleet
from jobs.database import run
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, upload
from tests.integration.fuzz_support import PHASES, fuzz, operations


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


def test_what_anybody_may_be_answered_stands_in_the_document_of_every_operation() -> None:
    # None of it can be asked for in a schema, so that the fuzzers come upon it by chance alone.
    for (path, method), operation in operations().items():
        expected = {"403", "503"}
        if operation.get("security") != [] or path.endswith("/session"):
            expected |= {"401", "429"}
        if "requestBody" in operation:
            expected |= {"400", "408", "413", "415", "422"}
        assert expected <= set(operation["responses"]), f"{method.upper()} {path}"


@pytest.mark.parametrize("media_type", ["application/json", "text/csv", "multipart/form-data; boundary=x"])
def test_a_body_without_end_is_413_wherever_there_is_a_body(
    settings: Settings, media_type: str, subtests: pytest.Subtests
) -> None:
    app = create_app(replace(settings, max_json_bytes=1000, max_body_bytes=1000))
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    for path, method in [place for place, operation in operations().items() if "requestBody" in operation]:
        with subtests.test(f"{method.upper()} {path}"):
            ids = {"path_parameters": {"id": "0" * 32, "row": 1}} if "{" in path else {}
            case = document[path][method].Case(body=b"{" * 5000, media_type=media_type, **ids)
            answer = case.call()
            case.validate_response(answer, [status_code_conformance, content_type_conformance])
            assert answer.status_code in {413, 415}
            if media_type == "application/json":
                assert answer.status_code == 413
    app.extensions["rubrika"].close()
