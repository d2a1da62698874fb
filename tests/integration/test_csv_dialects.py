"""Downloads as the Excel of a country reads them: another delimiter, a comma in numbers, and nothing else changed."""

import csv
import io
import json

import pytest
from flask.testing import FlaskClient

from tests.integration.api_support import V1, Worker, assert_problem, upload

SIGNS = {"comma": ",", "semicolon": ";", "tab": "\t"}
RUSSIAN = "delimiter=semicolon&decimal=comma"
POSTS = [
    {"text": 'матч; "финал", 1\t2', "a;b": 3.5, "note": "1.5"},
    {"text": "первая\nвторая;\r\nтретья", "a;b": -2, "note": "=1+1;2"},
    {"text": "=1+1", "a;b": 1e-7, "note": "-5.5"},
    {"text": "тишина", "a;b": "=2;2", "note": None},
    {"text": "сломай", "a;b": [1.5], "note": "\t7.5"},
]


@pytest.fixture
def results(client: FlaskClient, worker: Worker) -> str:
    """The address of the results of `POSTS` as CSV."""
    lines = "\n".join(json.dumps(post, ensure_ascii=False) for post in POSTS)
    job = upload(client, lines.encode(), "посты.ndjson").get_json()
    worker.work()
    return f"{V1}/jobs/{job['id']}/results.csv"


def rows_of(client: FlaskClient, address: str, delimiter: str = ",") -> list[list[str]]:
    answer = client.get(address)
    assert (answer.status_code, answer.content_type) == (200, "text/csv; charset=utf-8"), answer.text
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"), newline=""), delimiter=delimiter))


def with_points(rows: list[list[str]], *columns: str) -> list[list[str]]:
    """The rows with the commas of numbers made points, in `columns`; cells there that are no numbers have none."""
    places = [rows[0].index(column) for column in columns]
    return [
        rows[0],
        *([cell.replace(",", ".") if place in places else cell for place, cell in enumerate(row)] for row in rows[1:]),
    ]


@pytest.mark.parametrize("raw", [0, 1])
@pytest.mark.parametrize("delimiter", SIGNS)
def test_results_are_the_same_rows_in_every_dialect(
    client: FlaskClient, results: str, delimiter: str, raw: int
) -> None:
    usual = rows_of(client, f"{results}?raw={raw}")
    assert [row[0] for row in usual[1:]] == [f"'{text}" if text == "=1+1" and not raw else text for text in (
        post["text"] for post in POSTS
    )]  # fmt: skip
    for decimal in ("point", "comma"):
        found = rows_of(client, f"{results}?raw={raw}&delimiter={delimiter}&decimal={decimal}", SIGNS[delimiter])
        if decimal == "comma":
            assert found != usual
            found = with_points(found, "a;b", "sport", "humour", "ads")
        assert found == usual


def test_what_programs_were_given_so_far_stays_to_the_byte(client: FlaskClient, results: str) -> None:
    for address in (results, f"{V1}/jobs.csv", f"{V1}/classifications.csv"):
        assert client.get(address).data == client.get(f"{address}?delimiter=comma&decimal=point").data


def test_numbers_have_a_comma_and_texts_stay_as_they_were_written(client: FlaskClient, results: str) -> None:
    data = client.get(f"{results}?{RUSSIAN}").data
    assert data.startswith('\ufefftext;"a;b";note;row;sport;humour;ads;topics;truncated;error\n'.encode())
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert [row["a;b"] for row in rows] == ["3,5", "-2", "0,0000001", "'=2;2", "[1.5]"]
    assert [row["note"] for row in rows] == ["1.5", "'=1+1;2", "-5.5", "", "'\t7.5"]
    assert [(row["sport"], row["ads"], row["topics"]) for row in rows[2:]] == [
        ("0,100000", "0,450000", "ads"),
        ("0,100000", "0,450000", "ads"),
        ("", "", ""),
    ]
    assert (rows[0]["sport"], rows[0]["topics"], rows[0]["truncated"]) == ("0,900000", "sport;ads", "false")
    quoted = client.get(f"{results}?decimal=comma&bom=0&q=тишина").text.splitlines()[1]
    assert quoted == 'тишина,\'=2;2,,4,"0,100000","0,200000","0,450000",ads,false,'


def test_a_filter_that_matches_nothing_leaves_the_header(client: FlaskClient, results: str) -> None:
    [header] = rows_of(client, f"{results}?{RUSSIAN}&q=нет+такого", ";")
    assert header[:3] == ["text", "a;b", "note"]


@pytest.mark.parametrize("delimiter", SIGNS)
def test_histories_are_the_same_rows_in_every_dialect(client: FlaskClient, worker: Worker, delimiter: str) -> None:
    texts = [post["text"] for post in POSTS]
    assert client.post(f"{V1}/classifications", json={"items": [{"text": text} for text in texts]}).status_code == 202
    upload(client, "text\nматч\n".encode(), "a;b\t.csv")
    worker.work()
    for name in ("classifications", "jobs"):
        usual = rows_of(client, f"{V1}/{name}.csv")
        found = rows_of(client, f"{V1}/{name}.csv?delimiter={delimiter}&decimal=comma", SIGNS[delimiter])
        if name == "classifications":
            at = found[0].index("sport")
            assert [row[at] for row in found[1:]] == ["0,9", "0,1", "0,1", "0,1", ""]
            found = with_points(found, "sport", "humour", "ads")
            assert [row[4] for row in found[1:]] == [f"'{text}" if text == "=1+1" else text for text in texts]
        assert found == usual


@pytest.mark.parametrize("query", ["delimiter=;", "delimiter=pipe", "delimiter=", "decimal=,", "decimal=Comma"])
def test_other_dialects_are_refused(client: FlaskClient, results: str, query: str) -> None:
    for address in (results, f"{V1}/jobs.csv", f"{V1}/classifications.csv"):
        problem = assert_problem(client.get(f"{address}?{query}"), 422, "literal_error")
        assert problem["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"


def test_a_dialect_is_of_csv_alone(client: FlaskClient, results: str) -> None:
    for form in ("ndjson", "json", "xlsx", "parquet"):
        assert_problem(client.get(f"{results.removesuffix('csv')}{form}?delimiter=tab"), 422, "extra_forbidden")


def test_the_document_names_the_dialects(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    for path in ("jobs/{id}/results.csv", "jobs.csv", "classifications.csv"):
        schemas = {one["name"]: one["schema"] for one in paths[f"{V1}/{path}"]["get"]["parameters"]}
        assert (schemas["delimiter"]["enum"], schemas["delimiter"]["default"]) == (list(SIGNS), "comma")
        assert (schemas["decimal"]["enum"], schemas["decimal"]["default"]) == (["point", "comma"], "point")
