"""`/classifications` over a real database and a real Redis; a thread stands in for the worker."""

import gzip
import io
import json
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from werkzeug.test import TestResponse

from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.integration.fuzz_support import operations


def test_one_text_is_accepted_computed_and_read(client: FlaskClient, worker: Worker) -> None:
    posted = client.post(f"{V1}/classifications", json={"text": "Какой матч!", "custom_id": "a1"})
    assert posted.status_code == 202
    body = posted.get_json()
    assert posted.headers["Location"] == f"{V1}/classifications/{body['id']}"
    assert (body["status"], body["topics"], body["doc_text"]) == ("queued", [], "Какой матч!")
    assert worker.work() == 1
    done = client.get(posted.headers["Location"]).get_json()
    assert (done["status"], done["assigned"], done["model"]) == ("succeeded", ["sport", "ads"], "tiny@1.0.0")
    assert [topic["topic"] for topic in done["topics"]] == ["sport", "ads", "humour"]
    assert done["topics"][0] == {
        "topic": "sport", "name": "Спорт", "name_en": "Sport", "probability": 0.9, "threshold": 0.5, "assigned": True,
    }  # fmt: skip
    assert done["custom_id"] == "a1"
    assert done["finished_at"] >= done["created_at"]


def test_a_request_that_prefers_to_wait_is_answered_with_the_result(client: FlaskClient, busy_worker: Worker) -> None:
    response = client.post(f"{V1}/classifications", json={"doc_text": "матч"}, headers={"Prefer": "wait=10"})
    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait=10"
    assert response.get_json()["assigned"] == ["sport", "ads"]


def test_waiting_ends_when_its_time_is_over(client: FlaskClient, worker: Worker) -> None:
    response = client.post(f"{V1}/classifications", json={"doc_text": "матч"}, headers={"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.headers["Retry-After"] == "1"


def test_many_texts_come_back_in_their_order(client: FlaskClient, busy_worker: Worker) -> None:
    items = [{"text": f"{'матч' if n % 3 else 'тишина'} {n}", "custom_id": str(n)} for n in range(200)]
    response = client.post(f"{V1}/classifications", json={"items": items}, headers={"Prefer": "wait=30"})
    assert response.status_code == 200
    answered = response.get_json()["items"]
    assert [item["custom_id"] for item in answered] == [item["custom_id"] for item in items]
    assert ["sport" in item["assigned"] for item in answered] == ["матч" in item["text"] for item in items]


def test_a_text_that_the_model_fails_on_fails_alone(client: FlaskClient, busy_worker: Worker) -> None:
    items = [{"text": "матч"}, {"text": "сломай"}, {"text": "длинный матч"}]
    response = client.post(f"{V1}/classifications", json={"items": items}, headers={"Prefer": "wait=30"})
    first, second, third = response.get_json()["items"]
    assert (first["status"], third["status"], third["truncated"]) == ("succeeded", "succeeded", True)
    assert (second["status"], second["error"]["code"]) == ("failed", "model_failed")


def test_the_history_is_paged_newest_first(client: FlaskClient, worker: Worker) -> None:
    for number in range(5):
        client.post(f"{V1}/classifications", json={"items": [{"text": f"{number} {k}"} for k in range(2)]})
    seen: list[str] = []
    url = f"{V1}/classifications?limit=3"
    while url:
        page = client.get(url).get_json()
        assert len(page["items"]) <= 3
        seen += [item["doc_text"] for item in page["items"]]
        url = page.get("next", "")
    assert seen == [f"{number} {k}" for number in (4, 3, 2, 1, 0) for k in range(2)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"text": "\xff"}', 400, "invalid_json"),
        (b'{"text": NaN}', 400, "invalid_json"),
        (b"[" * 200_000 + b"]" * 200_000, 400, "invalid_json"),
        (b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, None),
        (b"[]", 422, None),
        (b"null", 422, None),
        (b'"text"', 422, None),
        (b"{}", 422, "empty_text"),
        (b'{"text": ""}', 422, "empty_text"),
        (b'{"text": " \\n\\t "}', 422, "empty_text"),
        (b'{"text": 5}', 422, "string_type"),
        (b'{"text": null, "image2text": ["a"]}', 422, "string_type"),
        (b'{"txt": "a"}', 422, "extra_forbidden"),
        (b'{"text": "a", "doc_text": "b"}', 422, "ambiguous"),
        (b'{"text": "a\\u0000b"}', 422, "invalid_characters"),
        (b'{"text": "\\ud800"}', 422, "invalid_characters"),
        (b'{"text": "a", "custom_id": "\\udfff"}', 422, "string_unicode"),
        (b'{"items": []}', 422, "too_short"),
        (b'{"items": [{}]}', 422, "empty_text"),
        (b'{"items": [{"text": "a"}], "text": "b"}', 422, "not_alone"),
        (json.dumps({"items": [{"text": "a"}] * 1001}).encode(), 422, "too_many_items"),
        (json.dumps({"text": "а" * 1_000_000}).encode(), 422, "text_too_long"),
        (json.dumps({"text": "a", "custom_id": "x" * 1000}).encode(), 422, "string_too_long"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_bodies_are_told_what_is_wrong(client: FlaskClient, body: bytes, status: int, code: str | None) -> None:
    response = client.post(f"{V1}/classifications", data=body, content_type="application/json")
    if code is None and response.status_code == 422:
        status = 422
    assert_problem(response, status, code)
    assert client.get(f"{V1}/classifications").get_json() == {"items": []}


def test_a_problem_points_at_the_item(client: FlaskClient) -> None:
    body = {"items": [{"text": "a"}, {"text": " "}, {"doc_text": "x\x00"}]}
    problem = assert_problem(client.post(f"{V1}/classifications", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/items/1", "/items/2/doc_text"]


def test_another_media_type_is_refused(client: FlaskClient) -> None:
    assert_problem(client.post(f"{V1}/classifications", data="text=a"), 415)
    assert_problem(client.post(f"{V1}/classifications", data={"text": "a"}), 415)


def test_json_that_is_packed_is_refused_with_what_to_do_wherever_json_is_read(
    client: FlaskClient, subtests: pytest.Subtests
) -> None:
    places = [
        (method, path)
        for (path, method), operation in operations().items()
        if set(operation.get("requestBody", {}).get("content", {})) == {"application/json"}
    ]
    assert len(places) == 5
    bodies = {
        "gzip": gzip.compress(b'{"text": "a"}'),
        "x-gzip": gzip.compress(b" " * 10_000_000),
        "br": b"\x0b\x02\x80{}\x03",
        "gzip, gzip": gzip.compress(gzip.compress(b"{}")),
        "GZIP": b'{"text": "a"}',
    }
    for method, path in places:
        here = path.replace("{id}", "0" * 32).replace("{row}", "1")
        for packing, body in bodies.items():
            with subtests.test(f"{method.upper()} {path} {packing}"):
                headers = {"Content-Encoding": packing, "Sec-Fetch-Site": "same-origin"}
                answer = client.open(here, method=method, data=body, content_type="application/json", headers=headers)
                problem = assert_problem(answer, 415, "unsupported_encoding")
                assert "without Content-Encoding" in problem["detail"]
                assert answer.headers["Accept-Encoding"] == "identity"
    plain = client.post(f"{V1}/classifications", json={"text": "a"}, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 202
    assert len(client.get(f"{V1}/classifications").get_json()["items"]) == 1


def test_one_text_and_many_are_answered_as_the_document_says(app: Any, busy_worker: Worker) -> None:
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    for body in ({"text": "матч"}, {"items": [{"text": "матч"}, {"text": "сломай", "custom_id": "b"}]}):
        for wait, status in (("wait=10", 200), ("", 202)):
            case = document[f"{V1}/classifications"]["POST"].Case(
                body=body, media_type="application/json", headers={"Prefer": wait}
            )
            answer = case.call()
            assert answer.status_code == status
            case.validate_response(answer, [status_code_conformance, response_schema_conformance])
    schema = document.raw_schema["paths"][f"{V1}/classifications"]["post"]["responses"]["200"]
    assert schema["content"]["application/json"]["schema"]["oneOf"] == [
        {"$ref": "#/components/schemas/ClassificationOut"},
        {"$ref": "#/components/schemas/ClassificationsOut"},
    ]


def test_the_document_names_every_header_and_kind_of_body_that_is_heard() -> None:
    found = operations()
    for path in (f"{V1}/classifications", *(path for path, _ in found if path.endswith("/explanation"))):
        assert "Prefer" in {one["name"] for one in found[(path, "post")]["parameters"]}, path
    for path in (f"{V1}/jobs", f"{V1}/jobs/preview"):
        assert {"application/json", "text/plain"} <= set(found[(path, "post")]["requestBody"]["content"]), path


def test_a_body_over_the_limit_is_413(client: FlaskClient, settings: Settings) -> None:
    data = b'{"text": "' + b"a" * settings.max_json_bytes + b'"}'
    problem = assert_problem(client.post(f"{V1}/classifications", data=data, content_type="application/json"), 413)
    assert str(settings.max_json_bytes) in problem["detail"]


def test_a_key_makes_one_resource(client: FlaskClient, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = client.post(f"{V1}/classifications", json={"text": "a"}, headers=headers).get_json()
    second = client.post(f"{V1}/classifications", json={"text": "a"}, headers=headers).get_json()
    assert first["id"] == second["id"]
    other = client.post(f"{V1}/classifications", json={"text": "b"}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")
    assert worker.work() == 1
    job = upload(client, CSV)
    assert job.status_code == 202


def test_a_file_with_a_key_is_one_job(client: FlaskClient, worker: Worker) -> None:
    def post(data: bytes) -> TestResponse:
        body = {"file": (io.BytesIO(data), "a.csv")}
        return client.post(f"{V1}/jobs", data=body, headers={"Idempotency-Key": "file"})

    assert post(CSV).get_json()["id"] == post(CSV).get_json()["id"]
    assert_problem(post(CSV + b"4,more,\n"), 422, "idempotency_mismatch")
