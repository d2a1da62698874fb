"""The REST interface over a real database and a real Redis; a thread stands in for the worker."""

import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine
from werkzeug.test import TestResponse

from api.app import create_app
from api.context import Context
from jobs import fleet, store
from jobs.database import make_engine, run
from jobs.records import Outcome, Topic
from jobs.settings import Settings
from jobs.states import Lane, RowError
from tests.support import wait_until

V1 = "/api/v1"
TOPICS = (
    Topic("sport", "Спорт", "Sport", 0.5),
    Topic("humour", "Юмор", "Humour", 0.5),
    Topic("ads", "Реклама", "Ads", 0.4),
)


class Worker:
    """Computes what waits: sport is likely where the text says «матч», everything else is not."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._engine = make_engine(settings.database_url, pool_size=2, application="tests worker")
        self._context = context
        self._stopping = threading.Event()
        self.model = run(
            self._engine,
            lambda c: fleet.register_model(
                c, name="tiny", version="1.0.0", sha256="0" * 64, topics=TOPICS, card={"base": "none"}
            ),
        )
        run(self._engine, lambda c: fleet.worker_seen(c, "test", self.model, "cpu"))

    def work(self) -> int:
        """Do everything that waits; the number of texts."""
        done = 0
        for lane in Lane:
            while (count := run(self._engine, lambda c, lane=lane: self._one(c, lane))) is not None:
                done += count
        return done

    def _one(self, connection: Connection, lane: Lane) -> int | None:
        claimed = store.claim(connection, lane=lane, limit=8, lease_seconds=30)
        if claimed is None:
            return None
        store.begin(connection, claimed.lease)
        texts = store.read_texts(connection, claimed)
        outcomes = [
            Outcome(text, None, False, RowError.MODEL_FAILED, "it broke")
            if "сломай" in text.doc_text
            else Outcome(text, [0.9 if "матч" in text.doc_text else 0.1, 0.2, 0.45], "длин" in text.doc_text)
            for text in texts
        ]
        settled = store.finish(connection, claimed.lease, self.model, outcomes)
        self._context.bell.wake(settled)
        return len(texts)

    def run(self) -> None:
        while not self._stopping.wait(0.01):
            self.work()

    def close(self) -> None:
        self._stopping.set()
        self._engine.dispose()


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    made = create_app(settings)
    yield made
    context = made.extensions["rubrika"]
    context.bell.close()
    context.engine.dispose()


@pytest.fixture
def client(app: Any) -> FlaskClient:
    client: FlaskClient = app.test_client()
    return client


@pytest.fixture
def worker(app: Any, settings: Settings) -> Iterator[Worker]:
    made = Worker(settings, app.extensions["rubrika"])
    yield made
    made.close()


@pytest.fixture
def busy_worker(worker: Worker) -> Iterator[Worker]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.close()
    thread.join(10)


def assert_problem(response: TestResponse, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = response.get_json()
    assert body["status"] == status
    assert body["type"] == f"urn:rubrika:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    if code:
        assert code in {body["code"], *(error["code"] for error in body.get("errors", []))}, body
    return body


def upload(client: FlaskClient, data: bytes, filename: str = "posts.csv", **fields: str) -> TestResponse:
    return client.post(f"{V1}/jobs", data={"file": (io.BytesIO(data), filename), **fields})


CSV = 'id,text,image2text\n1,"Сегодня матч, все на стадион",\n2,Купите слона,скидка\n3,=1+1,\n'.encode()


# --- texts ----------------------------------------------------------------------------------------------------------


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


def test_a_body_over_the_limit_is_413(client: FlaskClient, settings: Settings) -> None:
    data = b'{"text": "' + b"a" * settings.max_json_bytes + b'"}'
    problem = assert_problem(client.post(f"{V1}/classifications", data=data, content_type="application/json"), 413)
    assert str(settings.max_json_bytes) in problem["detail"]


# --- repeating ------------------------------------------------------------------------------------------------------


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


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_goes_in_and_comes_back_whole(client: FlaskClient, worker: Worker) -> None:
    posted = upload(client, CSV)
    assert posted.status_code == 202
    job = posted.get_json()
    assert (job["status"], job["filename"], job["rows"]["total"]) == ("queued", "posts.csv", 3)
    assert posted.headers["Location"] == job["links"]["self"]
    assert worker.work() == 3
    read = client.get(job["links"]["self"])
    done = read.get_json()
    assert (done["status"], done["progress"], done["eta_seconds"]) == ("succeeded", 1.0, 0)
    assert done["rows"] == {"total": 3, "succeeded": 3, "failed": 0, "queued": 0}
    assert client.get(job["links"]["self"], headers={"If-None-Match": read.headers["ETag"]}).status_code == 304

    text = client.get(job["links"]["csv"]).data.decode("utf-8-sig")
    assert text == (
        "id,text,image2text,row,sport,humour,ads,topics,truncated,error\n"
        '1,"Сегодня матч, все на стадион","",1,0.900000,0.200000,0.450000,sport;ads,false,\n'
        "2,Купите слона,скидка,2,0.100000,0.200000,0.450000,ads,false,\n"
        '3,\'=1+1,"",3,0.100000,0.200000,0.450000,ads,false,\n'
    )
    raw = client.get(f"{job['links']['csv']}?raw=1&bom=0&thresholds=ads:0.5").data.decode()
    assert raw.splitlines()[3] == '3,=1+1,"",3,0.100000,0.200000,0.450000,"",false,'
    lines = [json.loads(line) for line in client.get(job["links"]["ndjson"]).text.splitlines()]
    assert lines == client.get(job["links"]["json"]).get_json()
    assert lines[0] == {
        "id": "1", "text": "Сегодня матч, все на стадион", "image2text": "", "row": 1, "sport": 0.9, "humour": 0.2,
        "ads": 0.45, "topics": ["sport", "ads"], "truncated": False, "error": None,
    }  # fmt: skip


def test_results_are_paged_in_file_order(client: FlaskClient, worker: Worker) -> None:
    data = "text\n" + "".join(f"текст {n}\n" for n in range(25))
    job = upload(client, data.encode()).get_json()
    before = client.get(f"{job['links']['results']}?limit=2").get_json()
    assert [(row["row"], row["status"], row["probabilities"]) for row in before["items"]] == [
        (1, "queued", None),
        (2, "queued", None),
    ]
    worker.work()
    rows: list[int] = []
    url = f"{job['links']['results']}?limit=10"
    while url:
        page = client.get(url).get_json()
        rows += [row["row"] for row in page["items"]]
        url = page.get("next", "")
    assert rows == list(range(1, 26))


def test_bad_rows_are_recorded_beside_good_ones(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, 'text,more\nматч,1\n"  ",2\nа\x00б,3\nсломай,4\nещё,5,6\n'.encode()).get_json()
    worker.work()
    done = client.get(job["links"]["self"]).get_json()
    assert (done["status"], done["rows"]["succeeded"], done["rows"]["failed"]) == ("partially_succeeded", 1, 4)
    rows = client.get(job["links"]["results"]).get_json()["items"]
    assert [row["error"] and row["error"]["code"] for row in rows] == [
        None, "empty_text", "invalid_characters", "model_failed", "broken_row",
    ]  # fmt: skip
    exported = client.get(f"{job['links']['csv']}?bom=0").text.splitlines()
    assert len(exported) == 6
    assert "empty_text: " in exported[2]


def test_windows_1251_and_tab_are_found(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, "Текст\tавтор\nБольшой матч\tИван\n".encode("cp1251"), "выгрузка.tsv").get_json()
    assert job["filename"] == "выгрузка.tsv"
    worker.work()
    [row] = client.get(job["links"]["results"]).get_json()["items"]
    assert (row["doc_text"], row["columns"], row["assigned"]) == ("Большой матч", {"автор": "Иван"}, ["sport", "ads"])
    disposition = client.get(job["links"]["csv"]).headers["Content-Disposition"]
    assert "filename*=UTF-8''%D0%B2%D1%8B" in disposition


def test_ndjson_as_the_raw_body(client: FlaskClient, worker: Worker) -> None:
    data = '{"text": "матч", "likes": 5}\n{"text": "тишина", "likes": null}\n'.encode()
    posted = client.post(f"{V1}/jobs?filename=a.ndjson", data=data, content_type="application/x-ndjson")
    assert posted.status_code == 202, posted.text
    worker.work()
    lines = client.get(posted.get_json()["links"]["ndjson"]).text.splitlines()
    assert [json.loads(line)["likes"] for line in lines] == [5, None]


@pytest.mark.parametrize(
    ("data", "name", "status", "code"),
    [
        (b"", "a.csv", 422, "empty_file"),
        (b"text\n", "a.csv", 422, "no_rows"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a.csv", 415, "looks_like_media"),
        (b"PK\x03\x04" + bytes(100), "a.csv", 415, None),
        (b"\x1f\x8b" + bytes(100), "a.csv.gz", 415, None),
        (b"<!doctype html><html><body>no</body></html>", "a.csv", 415, "looks_like_html"),
        (b'text\nfine\n"never closed\n', "a.csv", 422, "open_quote"),
        (b"a,b\n1,2\n", "a.csv", 422, "no_text_column"),
        (b'{"text": ', "a.ndjson", 422, None),
        (b"text\n\x98\xff\xfe\n", "a.csv", 422, "bad_encoding"),
    ],
)
def test_files_that_cannot_be_read_are_refused_whole(
    client: FlaskClient, data: bytes, name: str, status: int, code: str | None
) -> None:
    problem = assert_problem(upload(client, data, name), status, code)
    assert problem["errors"][0]["pointer"] == "/file"
    assert client.get(f"{V1}/jobs").get_json() == {"items": []}


def test_an_open_quote_is_told_with_its_line(client: FlaskClient) -> None:
    assert assert_problem(upload(client, b'text\nfine\n"never closed\n'), 422)["line"] == 3


def test_bad_options_are_refused(client: FlaskClient) -> None:
    assert_problem(upload(client, CSV, columns="{"), 422)
    assert_problem(upload(client, CSV, columns='{"doc": "text"}'), 422, "unknown_field")
    assert_problem(upload(client, CSV, columns='{"doc_text": "none"}'), 422, "missing_column")
    assert_problem(upload(client, CSV, on_error="stop"), 422)
    assert_problem(upload(client, CSV, encoding="klingon"), 422)
    assert_problem(client.post(f"{V1}/jobs", data={"name": "x"}, content_type="multipart/form-data"), 422)
    assert_problem(client.post(f"{V1}/jobs", data=b"text\na\n"), 415)
    assert_problem(client.post(f"{V1}/jobs", data=b"x", content_type="image/png"), 415)


def test_a_file_over_the_limit_is_413(settings: Settings) -> None:
    from dataclasses import replace

    small = create_app(replace(settings, max_body_bytes=100, max_rows=2))
    client = small.test_client()
    assert_problem(upload(client, b"text\n" + b"a" * 200), 413)
    assert_problem(upload(client, b"text\na\nb\nc\n", "a.csv"), 413)
    small.extensions["rubrika"].engine.dispose()
    small.extensions["rubrika"].bell.close()


def test_a_hostile_file_name_is_made_harmless(client: FlaskClient) -> None:
    job = upload(client, CSV, name="../../etc/па\r\nсс\x00wd.csv").get_json()
    assert job["filename"] == "пассwd.csv"
    assert upload(client, CSV, name="C:\\temp\\x.csv").get_json()["filename"] == "x.csv"
    long = upload(client, CSV, "я" * 10_000 + ".csv").get_json()
    assert len(long["filename"]) <= 200
    assert long["filename"].endswith(".csv")


def test_cancel_delete_and_list(client: FlaskClient, worker: Worker) -> None:
    first, second = (upload(client, CSV).get_json() for _ in range(2))
    cancelled = client.post(first["links"]["cancel"])
    assert (cancelled.status_code, cancelled.get_json()["status"]) == (202, "cancelled")
    assert worker.work() == 3
    listed = client.get(f"{V1}/jobs").get_json()["items"]
    assert [(job["id"], job["status"]) for job in listed] == [(second["id"], "succeeded"), (first["id"], "cancelled")]
    only = client.get(f"{V1}/jobs?status=cancelled,running").get_json()["items"]
    assert [job["id"] for job in only] == [first["id"]]
    assert_problem(client.post(second["links"]["cancel"]), 409)
    assert client.delete(second["links"]["self"]).status_code == 204
    assert_problem(client.get(second["links"]["self"]), 404)
    assert_problem(client.delete(second["links"]["self"]), 404)
    assert_problem(client.get(f"{V1}/jobs?status=paused"), 422)


def test_a_running_job_tells_its_rate(client: FlaskClient, worker: Worker) -> None:
    data = "text\n" + "".join(f"текст {n}\n" for n in range(600))
    job = upload(client, data.encode()).get_json()
    engine: Engine = worker._engine
    run(engine, lambda c: worker._one(c, Lane.BULK))
    client.delete(upload(client, CSV).get_json()["links"]["self"])
    now = client.get(job["links"]["self"]).get_json()
    if now["status"] == "running":
        assert now["rows_per_second"] > 0
        assert now["eta_seconds"] > 0
        assert 0 < now["progress"] < 1
    worker.work()
    assert client.get(job["links"]["self"]).get_json()["rows_per_second"] > 0


def test_a_preview_shows_what_would_be_read_and_stores_nothing(client: FlaskClient) -> None:
    data = "Пост;автор\nБольшой матч;Иван\n  ;Пётр\n".encode("cp1251") + "ещё;Анна\n".encode("cp1251") * 30
    answer = client.post(f"{V1}/jobs/preview", data={"file": (io.BytesIO(data), "a.csv")})
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (body["format"], body["encoding"], body["delimiter"], body["guessed"]) == ("csv", "windows-1251", ";", True)
    assert (body["columns"], body["mapping"]) == (["Пост", "автор"], {"doc_text": "Пост"})
    assert len(body["rows"]) == 20
    assert (body["rows"][0]["doc_text"], body["rows"][0]["columns"]) == ("Большой матч", {"автор": "Иван"})
    assert [(error["row"], error["code"]) for error in body["errors"]] == [(2, "empty_text")]
    assert client.get(f"{V1}/jobs").get_json() == {"items": []}
    assert_problem(client.post(f"{V1}/jobs/preview", data={"file": (io.BytesIO(b""), "a.csv")}), 422, "empty_file")


def test_a_summary_counts_what_the_rows_say(client: FlaskClient, worker: Worker) -> None:
    data = 'text\nматч раз\nдлинный матч\nтишина\n" "\nсломай\n'.encode()
    job = upload(client, data).get_json()
    worker.work()
    found = client.get(job["links"]["summary"]).get_json()
    assert (found["computed"], found["none_assigned"], found["truncated"]) == (3, 0, 1)
    sport, humour, ads = found["topics"]
    assert (sport["topic"], sport["assigned"]) == ("sport", 2)
    assert sport["mean_probability"] == pytest.approx((0.9 + 0.9 + 0.1) / 3, abs=1e-5)
    assert {number: rows for number, rows in enumerate(sport["histogram"]) if rows} == {2: 1, 17: 2}
    assert (humour["assigned"], ads["assigned"]) == (0, 3)
    assert {"topics": ["sport", "ads"], "rows": 2} in found["pairs"]
    assert {(item["code"], item["rows"]) for item in found["failures"]} == {("empty_text", 1), ("model_failed", 1)}
    stricter = client.get(f"{job['links']['summary']}?thresholds=ads:0.5").get_json()
    assert (stricter["topics"][2]["assigned"], stricter["none_assigned"]) == (0, 1)


def test_failed_rows_are_tried_again_as_a_new_job(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, 'id,text\n7,матч\n8,сломай\n9,"  "\n'.encode()).get_json()
    assert_problem(client.post(job["links"]["retry"]), 409)
    worker.work()
    again = client.post(job["links"]["retry"])
    assert again.status_code == 202, again.text
    new = client.get(again.headers["Location"]).get_json()
    assert (new["rows"]["total"], new["layout"]["retry_of"]) == (1, job["id"])
    [row] = client.get(new["links"]["results"]).get_json()["items"]
    assert (row["doc_text"], row["columns"]) == ("сломай", {"id": "8"})
    fine = upload(client, CSV).get_json()
    worker.work()
    assert_problem(client.post(fine["links"]["retry"]), 409)


# --- the rest -------------------------------------------------------------------------------------------------------


def test_topics_and_models(client: FlaskClient, app: Any, settings: Settings) -> None:
    assert_problem(client.get(f"{V1}/topics"), 404)
    worker = Worker(settings, app.extensions["rubrika"])
    wait_until(lambda: client.get(f"{V1}/topics").status_code == 200, what="the model to be seen")
    topics = client.get(f"{V1}/topics").get_json()
    assert (topics["model"], topics["items"][0]["id"]) == ("tiny@1.0.0", "sport")
    [model] = client.get(f"{V1}/models").get_json()["items"]
    assert client.get(f"{V1}/models/tiny").get_json() == model
    assert_problem(client.get(f"{V1}/models/other"), 404)
    worker.close()


def test_health_and_readiness(client: FlaskClient, app: Any, settings: Settings) -> None:
    for prefix in ("", V1):
        assert client.get(f"{prefix}/healthz").get_json() == {"status": "ok"}
        waiting = client.get(f"{prefix}/readyz")
        assert waiting.status_code == 503
        assert waiting.get_json()["checks"]["worker"] == {"ok": False, "alive": 0}
    worker = Worker(settings, app.extensions["rubrika"])
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "ready")
    worker.close()


@pytest.mark.parametrize(
    "path",
    [
        f"{V1}/classifications/nothing",
        f"{V1}/classifications/{'0' * 32}-1",
        f"{V1}/jobs/nothing",
        f"{V1}/jobs/{'0' * 32}",
        f"{V1}/jobs/{'0' * 32}/results",
        f"{V1}/jobs/{'0' * 32}/results.csv",
        f"{V1}/jobs/{'0' * 32}/results.exe",
        f"{V1}/nothing",
    ],
)
def test_what_is_not_there_is_404(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        f"{V1}/classifications?limit=0",
        f"{V1}/classifications?limit=many",
        f"{V1}/classifications?cursor=%00",
        f"{V1}/classifications?cursor=W10",
        f"{V1}/classifications?cursor=WyJ4IiwgMV0",
        f"{V1}/jobs?cursor=WyJ4Il0",
        f"{V1}/jobs?colour=red",
    ],
)
def test_bad_parameters_are_told(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in {404, 422}
    assert_problem(response, response.status_code)


def test_bad_thresholds_are_told(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    worker.work()
    for bad in ("sport", "sport:2", "sport:nan", "weather:0.5", "sport:0.1;ads:0.2"):
        assert_problem(client.get(f"{job['links']['csv']}?thresholds={bad}"), 422)
    assert client.get(f"{job['links']['results']}?thresholds=sport:0.95").get_json()["items"][0]["assigned"] == ["ads"]


def test_methods_that_are_not_there_are_405(client: FlaskClient) -> None:
    response = client.put(f"{V1}/jobs")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_pages_of_other_sites_cannot_post(client: FlaskClient) -> None:
    response = client.post(f"{V1}/classifications", json={"text": "a"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert_problem(response, 403)
    assert client.get(f"{V1}/classifications", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_the_document_describes_every_route_of_the_interface(client: FlaskClient, app: Any) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(V1) and not rule.rule.endswith("openapi.json")
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert routes <= described
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])


def test_every_answer_carries_the_policy(client: FlaskClient) -> None:
    for path in ("/", "/docs", f"{V1}/jobs", "/nothing", f"{V1}/nothing"):
        headers = client.get(path, headers={"Accept": "text/html"}).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    docs = client.get("/docs").text
    assert "<script>" not in docs
    assert "http" not in docs.replace("http-equiv", "")
    for file in ("css/swagger-ui.css", "js/swagger-ui-bundle.js", "docs.js"):
        with client.get(f"/docs/{file}") as response:
            assert response.status_code == 200
            assert response.data
    assert client.get("/docs/../app.py").status_code == 404


def test_a_database_that_is_away_is_503(settings: Settings) -> None:
    from dataclasses import replace

    away = create_app(replace(settings, database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    client = away.test_client()
    for response in (client.get(f"{V1}/jobs"), client.post(f"{V1}/classifications", json={"text": "a"})):
        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    away.extensions["rubrika"].bell.close()


def test_a_redis_that_is_away_does_not_refuse_a_text(settings: Settings) -> None:
    from dataclasses import replace

    away = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    client = away.test_client()
    assert client.post(f"{V1}/classifications", json={"text": "a"}).status_code == 202
    assert upload(client, CSV).status_code == 202
    context = away.extensions["rubrika"]
    context.engine.dispose()
    context.bell.close()
