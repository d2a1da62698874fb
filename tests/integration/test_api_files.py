"""`/jobs` over a real database: files in, results out, and files that cannot be read."""

import gzip
import io
import json
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from api.app import create_app
from jobs.database import run
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload


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
    assert done["rows"] == {"total": 3, "succeeded": 3, "failed": 0, "queued": 0, "cached": 0}
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


def test_keys_that_come_up_late_come_back_in_the_results(client: FlaskClient) -> None:
    lines = ['{"text": "тишина"}'] * 1200 + ['{"text": "матч", "image2text": "счёт", "label": [1]}']
    job = upload(client, "\n".join(lines).encode(), "a.ndjson").get_json()
    rows = [json.loads(line) for line in client.get(job["links"]["ndjson"]).text.splitlines()]
    assert (rows[-1]["image2text"], rows[-1]["label"]) == ("счёт", [1])
    assert (rows[0]["image2text"], rows[0]["label"]) == ("", None)


@pytest.mark.parametrize(
    ("data", "name", "status", "code"),
    [
        (b"", "a.csv", 422, "empty_file"),
        (b"text\n", "a.csv", 422, "no_rows"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a.csv", 415, "looks_like_media"),
        (b"PK\x03\x04" + bytes(100), "a.csv", 415, None),
        (b"\x1f\x8b" + bytes(100), "a.csv.gz", 422, "broken_gzip"),
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
    job = upload(client, CSV, "../../etc/пассwd.csv").get_json()
    assert job["filename"] == "пассwd.csv"
    bare = client.post(f"{V1}/jobs", query_string={"filename": "C:\\temp\\x.csv"}, data=CSV, content_type="text/csv")
    assert bare.get_json()["filename"] == "x.csv"
    named = upload(client, CSV, name="../../etc/па\r\nсс\x00wd.csv").get_json()
    assert named["filename"] == "../../etc/па ссwd.csv"
    told = client.get(named["links"]["csv"]).headers["Content-Disposition"]
    assert unquote(told.rpartition("''")[2]) == ".._.._etc_па ссwd.rubrika.csv"
    long = upload(client, CSV, "я" * 10_000 + ".csv").get_json()
    assert len(long["filename"]) <= 200
    assert long["filename"].endswith(".csv")


@pytest.mark.parametrize(
    ("name", "shown", "saved"),
    [
        ("Отзывы 05/2026", "Отзывы 05/2026", "Отзывы 05_2026.rubrika.csv"),
        ("Посты 12.01.2026", "Посты 12.01.2026", "Посты 12.01.2026.rubrika.csv"),
        ("  Посты\tза\xa0 май\r\n", "Посты за май", "Посты за май.rubrika.csv"),
        ('а:б*"в"\\г', 'а:б*"в"\\г', "а_б__в__г.rubrika.csv"),
        ("Посты.CSV.gz", "Посты.CSV.gz", "Посты.rubrika.csv"),
        ("", "посты.csv.gz", "посты.rubrika.csv"),
    ],
)
def test_a_name_of_ones_own_stays_whole_and_names_the_download(
    client: FlaskClient, worker: Worker, name: str, shown: str, saved: str
) -> None:
    job = upload(client, CSV, "посты.csv.gz", name=name).get_json()
    assert job["filename"] == shown
    worker.work()
    told = client.get(job["links"]["csv"]).headers["Content-Disposition"]
    assert unquote(told.rpartition("''")[2]) == saved
    assert client.get(f"{V1}/jobs/{job['id']}").get_json()["filename"] == shown


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


def test_a_running_job_tells_its_rate(client: FlaskClient, worker: Worker, engine: Engine) -> None:
    data = "text\n" + "".join(f"текст {n}\n" for n in range(600))
    job = upload(client, data.encode()).get_json()
    assert (job["progress"], job["rows_per_second"], job["eta_seconds"]) == (0, None, None)
    assert worker.work_chunk() == 256
    # As if this had taken ten seconds; of longer ones the last twenty count.
    run(engine, lambda c: c.execute(text("UPDATE jobs SET started_at = started_at - interval '10 s'")))
    now = client.get(job["links"]["self"]).get_json()
    assert (now["status"], now["rows"]["queued"]) == ("running", 344)
    assert now["progress"] == pytest.approx(256 / 600, abs=1e-4)
    rate = now["rows_per_second"]
    assert 12.8 <= rate <= 25.6
    # Of all rows that are left, and rounded up; the rate is rounded to a tenth.
    assert 344 / (rate + 0.06) <= now["eta_seconds"] < 344 / (rate - 0.06) + 1
    worker.work()
    done = client.get(job["links"]["self"]).get_json()
    assert (done["status"], done["progress"], done["eta_seconds"]) == ("succeeded", 1, 0)
    assert done["rows_per_second"] > 0


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
    again = client.post(job["links"]["retry"], headers={"Idempotency-Key": "again"})
    assert again.status_code == 202, again.text
    repeated = client.post(job["links"]["retry"], headers={"Idempotency-Key": "again"})
    assert repeated.get_json()["id"] == again.get_json()["id"]
    new = client.get(again.headers["Location"]).get_json()
    assert (new["rows"]["total"], new["layout"]["retry_of"]) == (1, job["id"])
    [row] = client.get(new["links"]["results"]).get_json()["items"]
    assert (row["doc_text"], row["columns"]) == ("сломай", {"id": "8"})
    fine = upload(client, CSV).get_json()
    worker.work()
    assert_problem(client.post(fine["links"]["retry"]), 409)


def form_of(*parts: tuple[str, bytes]) -> bytes:
    """The body of a form with its fields in this order, which the test client does not keep."""
    return b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="posts.csv"' if name == "file" else b"")
        + b"\r\n\r\n" + value + b"\r\n"
        for name, value in parts
    ) + b"--edge--\r\n"  # fmt: skip


def test_options_may_stand_on_either_side_of_the_file_but_not_on_both(client: FlaskClient) -> None:
    def post(*parts: tuple[str, bytes]) -> TestResponse:
        return client.post(f"{V1}/jobs", data=form_of(*parts), content_type="multipart/form-data; boundary=edge")

    data = "n;text\n1;матч, да\n".encode("koi8-r")
    before = post(("encoding", b"koi8-r"), ("name", b"a"), ("file", data))
    after = post(("file", data), ("encoding", b"koi8-r"), ("name", b"a"))
    assert (before.status_code, after.status_code) == (202, 202)
    assert before.get_json()["layout"] == after.get_json()["layout"]
    assert (before.get_json()["layout"]["encoding"], after.get_json()["filename"]) == ("koi8-r", "a")
    both = assert_problem(post(("name", b"a"), ("file", CSV), ("encoding", b"koi8-r")), 422)
    assert both["errors"][0]["code"] == "option_after_file"
    for parts in ([("file", CSV), ("file", CSV)], [("name", b"a"), ("file", CSV), ("file", CSV)]):
        assert assert_problem(post(*parts), 422)["errors"][0]["code"] == "one_file"
    assert_problem(post(("name", b"a"), *[("x", b"y")] * 60, ("file", CSV)), 413, "too_many_fields")
    assert_problem(post(("columns", b"x" * 300_000), ("file", CSV)), 413, "field_too_long")
    assert_problem(client.post(f"{V1}/jobs", data=b"x", content_type="multipart/form-data"), 400, "invalid_form")
    assert len(client.get(f"{V1}/jobs").get_json()["items"]) == 2


def test_a_file_packed_by_gzip_is_read_however_that_is_said(client: FlaskClient) -> None:
    def post(data: bytes, media_type: str = "text/csv", **headers: str) -> TestResponse:
        url = f"{V1}/jobs?filename=posts.csv.gz"
        return client.post(url, data=data, content_type=media_type, headers=headers)

    packed = gzip.compress(CSV)
    encoded = {"Content-Encoding": "gzip"}
    answers = [post(packed, "application/gzip"), post(packed, **encoded), upload(client, packed, "posts.csv.gz")]
    assert [answer.status_code for answer in answers] == [202] * 3, answers[0].text
    assert [answer.get_json()["rows"]["total"] for answer in answers] == [3] * 3
    assert_problem(post(gzip.compress(packed), **encoded), 415, "packed_twice")
    for encoding in ("br", "gzip"):
        refused = post(CSV, **{"Content-Encoding": encoding})
        assert_problem(refused, 415, "unsupported_encoding")
        assert refused.headers["Accept-Encoding"] == "gzip"
    assert_problem(post(gzip.compress(b"text\n" + (b"a" * 90_000 + b"\n") * 300)), 413, "unpacks_too_far")
    assert_problem(post(packed[:-3]), 422, "broken_gzip")
    assert len(client.get(f"{V1}/jobs").get_json()["items"]) == 3


def test_the_encoding_of_a_job_is_the_one_that_showed_late(client: FlaskClient) -> None:
    data = b"text,n\n" + b"only english here,1\n" * 20_000 + "и вдруг по-русски,2\n".encode("cp1251")
    preview = client.post(f"{V1}/jobs/preview", data=data, content_type="text/csv")
    assert preview.get_json()["encoding"] == "utf-8"
    job = client.post(f"{V1}/jobs", data=data, content_type="text/csv").get_json()
    assert (job["layout"]["encoding"], job["rows"]["total"]) == ("windows-1251", 20_001)
    broken = client.post(f"{V1}/jobs", data=data + b"\x98,3\n", content_type="text/csv")
    problem = assert_problem(broken, 422, "bad_encoding")
    assert problem["byte"] == len(data)
    assert len(client.get(f"{V1}/jobs").get_json()["items"]) == 1


def test_a_key_stands_for_the_file_and_its_options(client: FlaskClient) -> None:
    def post(data: bytes, **options: str) -> TestResponse:
        return client.post(
            f"{V1}/jobs", query_string=options, data=data, content_type="text/csv", headers={"Idempotency-Key": "k"}
        )

    first = post(CSV, filename="a.csv")
    assert post(CSV, filename="a.csv").get_json()["id"] == first.get_json()["id"]
    for data, options in ((CSV + b"4,x,y\n", {"filename": "a.csv"}), (CSV, {"filename": "b.csv"})):
        assert_problem(post(data, **options), 422, "idempotency_mismatch")
    assert_problem(post(CSV, filename="a.csv", on_error="fail"), 422, "idempotency_mismatch")


class _Silent:
    """A connection on which something came, and then nothing."""

    def __init__(self, last: Exception) -> None:
        self._sent = b"text\n" + b"a\n" * 10
        self._last = last

    def read(self, size: int, /) -> bytes:
        block, self._sent = self._sent[:size], self._sent[size:]
        if not block:
            raise self._last
        return block


@pytest.mark.parametrize(
    ("last", "status", "code"),
    [(TimeoutError("timed out"), 408, "request_timeout"), (ConnectionResetError("gone"), 400, "incomplete_body")],
)
def test_a_client_that_falls_silent_is_given_up(client: FlaskClient, last: Exception, status: int, code: str) -> None:
    sent = {"wsgi.input": _Silent(last), "CONTENT_LENGTH": "1000"}
    assert_problem(client.post(f"{V1}/jobs", content_type="text/csv", environ_overrides=sent), status, code)
    assert client.get(f"{V1}/jobs").get_json() == {"items": []}
