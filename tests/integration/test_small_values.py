"""JSON of very many small values is refused before it is made into anything."""

import json
import tracemalloc

import pytest
from flask.testing import FlaskClient

from api.problems import POINTER_CHARS
from tests.integration.api_support import V1, assert_problem

COUNT = 1_000_000
TEXTS = f"{V1}/classifications"

MANY = {
    "empty posts": (b'{"items": [' + b"{}," * COUNT + b"{}]}", 422, "too_many_items"),
    "numbers": (b'{"items": [' + b"1," * COUNT + b"1]}", 422, "too_many_items"),
    "no object at all": (b"[" + b"1," * COUNT + b"1]", 422, "too_many_items"),
    "texts": (b'{"items": [' + b'"",' * COUNT + b'""]}', 422, "too_many_items"),
    "names": (b"{" + b'"":1,' * COUNT + b'"":1}', 422, "too_many_items"),
    "brackets": (b"[" * COUNT + b"]" * COUNT, 400, "invalid_json"),
    "brackets side by side": (b"[" + b",".join([b"[" * 400 + b"]" * 400] * 4000) + b"]", 400, "invalid_json"),
    "JSON in a text": (json.dumps('{"items": [' + "{}," * COUNT + "{}]}").encode(), 422, "model_type"),
}


@pytest.mark.parametrize("name", MANY)
def test_a_body_of_many_small_values_takes_little_memory(client: FlaskClient, name: str) -> None:
    body, status, code = MANY[name]
    tracemalloc.start()
    try:
        answer = client.post(TEXTS, data=body, content_type="application/json")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_problem(answer, status, code)
    # What is made of such values takes thirty times what they do as JSON, and more.
    assert most < 6 * len(body)


def test_what_stands_in_texts_is_not_counted(client: FlaskClient) -> None:
    strange = '[{,"\\",[{,\\\\"' * 6000
    body = {"items": [{"text": strange, "custom_id": '\\",[{'}, {"text": "," * 90_000}]}
    answer = client.post(TEXTS, json=body)
    assert answer.status_code == 202
    assert [item["doc_text"] for item in answer.get_json()["items"]] == [strange, "," * 90_000]


def test_as_many_posts_as_are_allowed_may_say_all_that_there_is_to_say(client: FlaskClient) -> None:
    post = {"doc_text": "а", "image2text": "б", "speech2text": "в", "custom_id": "г", "explain": False}
    assert client.post(TEXTS, json={"items": [post] * 1000}).status_code == 202
    assert_problem(client.post(TEXTS, json={"items": [post] * 1001}), 422, "too_many_items")


def test_a_name_that_somebody_has_made_up_is_not_given_back_as_a_whole(client: FlaskClient) -> None:
    problem = assert_problem(client.post(TEXTS, json={"~/" + "x" * 10_000: 1}), 422, "extra_forbidden")
    [error] = problem["errors"]
    assert error["pointer"] == "/~0~1" + "x" * (POINTER_CHARS - 2)
