"""What nobody should send: each gets a clear 4xx or a row error, takes no neighbour along, and is never our error."""

import gzip
import io
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload

NESTED = 200_000


def post_raw(client: FlaskClient, data: bytes, media_type: str = "text/csv", **query: str) -> TestResponse:
    return client.post(f"{V1}/jobs", query_string=query, data=data, content_type=media_type)


def rows_of(client: FlaskClient, worker: Worker, answer: TestResponse) -> list[dict[str, Any]]:
    """The rows of an accepted upload when everything is computed."""
    assert answer.status_code == 202, answer.text
    worker.work()
    rows: list[dict[str, Any]] = client.get(answer.get_json()["links"]["results"]).get_json()["items"]
    return rows


def jobs(client: FlaskClient) -> list[str]:
    return [job["id"] for job in client.get(f"{V1}/jobs").get_json()["items"]]


def codes(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["error"] and row["error"]["code"] for row in rows]


# --- rows that are not rows -----------------------------------------------------------------------------------------


BAD_OBJECTS = [
    "{",
    '{"text": NaN}',
    '{"text": "a", "n": Infinity}',
    '{"text": {"of": "text"}}',
    '{"text": ["a"]}',
    '{"text": "\\ud800"}',
    '{"text": "a\\u0000b"}',
    '{"text": "a", "\\ud800": 1}',
    '{"text": "a", "more": "\\u0000"}',
    "[1, 2]",
    "5",
    "null",
    '"text"',
    "{}",
    '{"text": "' + "я" * 100_001 + '"}',
    '{"text": ' + "[" * NESTED + "]" * NESTED + "}",
    '{"text": "a", "n": ' + "9" * 5000 + "}",
]


@pytest.mark.parametrize("as_array", [False, True])
def test_a_bad_object_is_an_error_of_its_row_or_of_the_file(
    client: FlaskClient, worker: Worker, as_array: bool, subtests: pytest.Subtests
) -> None:
    good = '{"text": "матч"}'
    for bad in BAD_OBJECTS:
        with subtests.test(bad[:30]):
            data = f"[{good},{bad},{good}]" if as_array else f"{good}\n{bad}\n{good}\n"
            before = jobs(client)
            answer = post_raw(client, data.encode(), "application/json" if as_array else "application/x-ndjson")
            if answer.status_code == 422:
                # A file may be refused as a whole only where its lines cannot be told apart.
                assert as_array
                assert_problem(answer, 422)
                assert jobs(client) == before
                continue
            rows = rows_of(client, worker, answer)
            found = codes(rows)
            assert (len(found), found[0], found[2]) == (3, None, None)
            # What stands beside the text may be kept as it is; what cannot be kept is said.
            assert found[1] is not None or rows[1]["doc_text"] == "a"
            assert client.get(answer.get_json()["links"]["ndjson"]).status_code == 200


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("text\nматч\r\nматч\rматч\n", [None, None, None]),
        ("text,\nматч,1\n", [None]),
        ("\ufefftext\n\ufeffматч\nма\ufeffтч\n", [None, None]),
        ("text\n" + "я" * 100_001 + "\nматч\n", ["text_too_long", None]),
        ("text,more\nматч\nматч,1,2,3\nматч,1\n", None),
        ('text\n"матч"лишнее\nматч\n', None),
        ("text\n\n\n\nматч\n", None),
        ("text\n" + "=cmd|' /C calc'!A0\n" + "<script>alert(1)</script>\n", [None, None]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_odd_tables_keep_their_good_rows(
    client: FlaskClient, worker: Worker, data: str, expected: list[str | None] | None
) -> None:
    rows = rows_of(client, worker, post_raw(client, data.encode()))
    found = codes(rows)
    if expected is None:
        assert None in found
        assert set(found) <= {None, "broken_row", "empty_text"}
    else:
        assert found == expected


def test_a_text_that_looks_like_a_page_comes_out_as_text(client: FlaskClient, worker: Worker) -> None:
    answer = post_raw(client, b'text\n"<script>alert(1)</script>"\n=1+1\n')
    rows = rows_of(client, worker, answer)
    assert rows[0]["doc_text"] == "<script>alert(1)</script>"
    links = answer.get_json()["links"]
    for link in (links["results"], links["csv"], links["ndjson"], links["json"]):
        response = client.get(link)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "html" not in response.content_type
    assert "\n'=1+1," in client.get(links["csv"]).text


# --- files that are not files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "media_type", "statuses"),
    [
        (",".join(f"c{number}" for number in range(10_000)).encode() + b"\n1\n", "text/csv", {422}),
        (b"a" * 3_000_000, "text/csv", {422, 413}),
        (b'"' * 1_000_001, "text/csv", {422}),
        (b"[" * NESTED + b"]" * NESTED, "application/json", {422}),
        ("text,text\nматч,ещё\n".encode(), "text/csv", {422}),
        (b'[{"text": "a"}', "application/json", {422}),
        (b'{"text": "a"}' * 3, "application/json", {422, 202}),
        (b"\x00" * 10_000, "text/csv", {415, 422}),
        (bytes(range(256)) * 100, "text/csv", {415, 422}),
        (b"PK\x03\x04" + b"\x00" * 1000, "text/csv", {415, 422}),
        (b"PAR1" + b"\x00" * 1000 + b"PAR1", "application/vnd.apache.parquet", {415, 422}),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 1000, "application/vnd.ms-excel", {415, 422}),
        (gzip.compress(b"text\na\n")[:-6], "application/gzip", {422}),
        (gzip.compress(gzip.compress(b"text\na\n")), "application/gzip", {415, 422}),
        (b"text\n\xd1", "text/csv", {422, 202}),
        (b"\xff\xfet\x00", "text/csv", {422}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_files_that_nobody_can_read_are_refused_with_a_sentence(
    client: FlaskClient, data: bytes, media_type: str, statuses: set[int]
) -> None:
    answer = post_raw(client, data, media_type)
    assert answer.status_code in statuses, answer.text
    if answer.status_code != 202:
        assert_problem(answer, answer.status_code)
        assert client.get(f"{V1}/jobs").get_json() == {"items": []}
    assert upload(client, CSV).status_code == 202


def form(*parts: tuple[str, bytes], boundary: str = "X") -> tuple[bytes, str]:
    """A multipart body of raw headers and contents, and its media type."""
    body = b"".join(b"--X\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--X--\r\n", f"multipart/form-data; boundary={boundary}"


def test_a_hundred_thousand_parts_are_refused(client: FlaskClient) -> None:
    part = ('Content-Disposition: form-data; name="note"', b"x")
    body, media_type = form(*[part] * 100_000)
    answer = post_raw(client, body, media_type)
    assert_problem(answer, answer.status_code)
    assert answer.status_code in {413, 422}


NAMES = [
    "../../../etc/passwd",
    "..\\..\\boot.ini",
    "a\x00b.csv",
    "a\rb.csv",
    "я" * 10_000 + ".csv",
    "\u202egpj.csv",
    '";x="y.csv',
    "",
    ".",
    "%00%0d%0aX-Evil:1",
    "<img src=x>.csv",
]


@pytest.mark.parametrize("raw", [False, True])
def test_file_names_are_made_harmless_wherever_they_come_out(
    client: FlaskClient, worker: Worker, raw: bool, subtests: pytest.Subtests
) -> None:
    for name in NAMES:
        with subtests.test(repr(name)[:20]):
            if raw:
                answer = post_raw(client, CSV, filename=name)
            else:
                answer = client.post(f"{V1}/jobs", data={"file": (io.BytesIO(CSV), name or " ")})
            assert answer.status_code == 202, answer.text
            job = answer.get_json()
            shown = job["filename"] or ""
            assert len(shown) <= 200
            assert not set(shown) & set('/\\\x00\r\n\u202e')  # fmt: skip
            worker.work()
            download = client.get(job["links"]["csv"])
            assert download.status_code == 200
            assert "X-Evil" not in download.headers
            assert not set(download.headers["Content-Disposition"]) & set("/\\\x00\r\n")


@pytest.mark.parametrize(
    ("head", "data"),
    [
        ('Content-Disposition: form-data; name="file"; filename="a\r\nX-Evil: 1\r\n.csv"', CSV),
        ('Content-Disposition: form-data; name="file"', CSV),
        ("Content-Disposition: attachment", CSV),
        ("X-Nothing: 1", CSV),
        ("X-Long: " + "a" * 100_000, CSV),
        ('Content-Disposition: form-data; name="columns"', b'{"doc_text": ' + b"[" * NESTED),
        ('Content-Disposition: form-data; name="encoding"', b"\xff\xfe\x00"),
        ('Content-Disposition: form-data; name="delimiter"', b"\x00"),
        ('Content-Disposition: form-data; name="name"', b"a" * 10_000_000),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_forms_that_no_browser_sends_are_no_error_of_ours(client: FlaskClient, head: str, data: bytes) -> None:
    good = ('Content-Disposition: form-data; name="file"; filename="a.csv"', CSV)
    for parts in ([(head, data)], [(head, data), good], [good, (head, data)]):
        answer = post_raw(client, *form(*parts))
        assert answer.status_code < 500, answer.text
        if answer.status_code != 202:
            assert_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "multipart/form-data; boundary=X"),
        (b"--X", "multipart/form-data; boundary=X"),
        (b"--X\r\n", "multipart/form-data; boundary=X"),
        (b"--X--\r\n", "multipart/form-data; boundary=X"),
        (b"nothing of the kind", "multipart/form-data; boundary=X"),
        (b"--X--", "multipart/form-data"),
        (b"--X--", "multipart/form-data; boundary="),
        (b"--X--", "multipart/form-data; boundary=" + "x" * 10_000),
        (form(('Content-Disposition: form-data; name="file"', CSV))[0][:-12], "multipart/form-data; boundary=X"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_forms_that_are_cut_or_empty_are_told(client: FlaskClient, body: bytes, media_type: str) -> None:
    answer = post_raw(client, body, media_type)
    assert answer.status_code in {400, 413, 415, 422}, answer.text
    assert_problem(answer, answer.status_code)
    assert client.get(f"{V1}/jobs").get_json() == {"items": []}


# --- parameters, headers, addresses ---------------------------------------------------------------------------------

ODD = ("\x00", "\ud800", "'", '"', "%", "\\", "-1", "1e999", "9" * 400, "null", "[]", "../", "\r\nX: 1", "я" * 3000)


@pytest.fixture
def job(client: FlaskClient, worker: Worker) -> dict[str, Any]:
    made: dict[str, Any] = upload(client, CSV).get_json()
    worker.work()
    return made


def encoded(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")


def test_odd_values_of_every_parameter_are_answered(client: FlaskClient, job: dict[str, Any]) -> None:
    asked = 0
    for path, operations in client.get("/openapi.json").get_json()["paths"].items():
        here = path.replace("{id}", job["id"]).replace("{other}", job["id"])
        for parameter in operations.get("get", {}).get("parameters", []):
            if parameter["in"] != "query" or "{" in here or here.endswith("/events"):
                continue
            for value in ODD:
                response = client.get(f"{here}?{parameter['name']}={encoded(value)}")
                assert response.status_code < 500, (here, parameter["name"], value, response.text)
                assert "X" not in response.headers
                response.close()
                asked += 1
    assert asked > 300


def test_odd_names_in_every_address_are_not_there(client: FlaskClient, job: dict[str, Any]) -> None:
    for path, operations in client.get("/openapi.json").get_json()["paths"].items():
        if "{" not in path:
            continue
        for value in ODD:
            here = "/".join(encoded(value) if part.startswith("{") else part for part in path.split("/"))
            for method in operations:
                # 308 leads to the address without the doubled slash, which is not there either.
                response = client.open(here, method=method.upper())
                assert response.status_code in {308, 404, 405, 415, 422}, (method, here, response.text)
                response.close()
    assert client.get(job["links"]["self"]).get_json()["status"] == "succeeded"


def test_an_id_is_written_in_one_way(client: FlaskClient, job: dict[str, Any], worker: Worker) -> None:
    text = client.post(f"{V1}/classifications", json={"text": "a"}).get_json()["id"]
    assert client.get(f"{V1}/classifications/{text}").status_code == 200
    for there, odd in (("classifications", text), ("jobs", job["id"])):
        for other in (f"{odd}%0A", f"%20{odd}", odd.upper(), f"{odd}%00", odd.replace("-1", "-01"), f"{{{odd}}}"):
            if other != odd:
                assert client.get(f"{V1}/{there}/{other}").status_code == 404, other


def test_odd_keys_are_refused_or_kept(client: FlaskClient) -> None:
    kept = []
    for value in ("", " ", "k" * 256, "a\tb", "ключ", "\x7f", "a" * 8000):
        header = {"Idempotency-Key": value.encode().decode("latin-1")}
        first = client.post(f"{V1}/classifications", json={"text": "a"}, headers=header)
        if first.status_code == 202:
            again = client.post(f"{V1}/classifications", json={"text": "a"}, headers=header)
            assert again.get_json()["id"] == first.get_json()["id"]
            kept.append(value)
        else:
            assert_problem(first, 422, "invalid_key")
    assert set(kept) <= {"ключ"}


def test_odd_preferences_are_passed_over(client: FlaskClient, worker: Worker) -> None:
    for value in ("wait", "wait=", "wait=-1", "wait=1e9", "wait=" + "9" * 100, "wait=0", ";;;,,,", "\xff"):
        answer = client.post(f"{V1}/classifications", json={"text": "a"}, headers={"Prefer": value})
        assert answer.status_code == 202, value
        assert "Preference-Applied" not in answer.headers


def test_odd_headers_are_passed_over(client: FlaskClient, job: dict[str, Any]) -> None:
    for header in ("If-None-Match", "Accept", "Range", "Last-Event-ID", "If-Modified-Since", "Accept-Encoding"):
        for value in ("\xff", '"', "W/", "bytes=-1-", "*/*;q=x", "9" * 4000):
            for link in (job["links"]["self"], job["links"]["csv"]):
                response = client.get(link, headers={header: value})
                assert response.status_code in {200, 304}, (header, value, response.text)
                response.close()


def test_items_beside_a_bad_one_are_told_apart(client: FlaskClient) -> None:
    items: list[Any] = [{"text": "матч"}, {"text": "a\x00"}, 5, None, {"text": "матч", "more": 1}]
    problem = assert_problem(client.post(f"{V1}/classifications", json={"items": items}), 422)
    assert client.get(f"{V1}/classifications").get_json() == {"items": []}
    assert {error["pointer"].split("/")[2] for error in problem["errors"]} <= {"1", "2", "3", "4"}
