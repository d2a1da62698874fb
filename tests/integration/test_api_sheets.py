"""Results as an Excel sheet and as Parquet: the same rows as the other exports give, readable by other programs."""

import csv
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, cast
from xml.etree import ElementTree

import arro3.io
import psycopg2
import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.files import Limits, ReadOptions, open_file
from api.resources import exports
from jobs import exporting_xlsx
from jobs.database import transaction
from jobs.errors import UnavailableError
from jobs.exporting_parquet import _converted
from tests.integration.api_support import CSV, TOPICS, V1, Worker, assert_problem, upload
from tests.sheets import sheet_xml, xlsx

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LIMITS = Limits(max_rows=10_000, max_columns=100, max_text_chars=100_000)
ODD = [
    "=1+1",
    "+7 (495) 000-00-00",
    "a & b < c > d \"quoted\" 'single'",
    "первая\nвторая\r\nтретья\tс табуляцией",
    "  пробелы  ",
    "_x0041_ и _x000D_",
    "bell \x07, escape \x1b, not a character \ufffe \uffff",
    "эмодзи 👍🏽 и 中文",
    "]]> &amp; &#13;",
]


def uploaded(client: FlaskClient, worker: Worker, data: bytes, filename: str = "посты.csv") -> str:
    response = upload(client, data, filename)
    assert response.status_code == 202, response.text
    worker.work()
    identifier: str = response.get_json()["id"]
    return identifier


def uploaded_long(client: FlaskClient) -> str:
    """A job of 10 MB, more than any buffer on the way out holds."""
    words = " ".join(str(number * 7919) for number in range(3_000))
    data = table(["text"], *[[f"{number} {words}"] for number in range(600)])
    identifier: str = client.post(f"{V1}/jobs", data=data, content_type="text/csv").get_json()["id"]
    return identifier


def table(header: list[str], *rows: list[str]) -> bytes:
    target = io.StringIO()
    csv.writer(target).writerows([header, *rows])
    return target.getvalue().encode()


def exported(client: FlaskClient, job: str, form: str, **parameters: str) -> bytes:
    response = client.get(f"{V1}/jobs/{job}/results.{form}", query_string=parameters)
    assert response.status_code == 200, response.text
    assert f".rubrika.{form}" in response.headers["Content-Disposition"]
    data: bytes = response.data
    return data


def ndjson(client: FlaskClient, job: str, **parameters: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(client, job, "ndjson", **parameters).splitlines()]


def parquet_rows(data: bytes) -> list[dict[str, Any]]:
    lines = io.BytesIO()
    arro3.io.write_ndjson(arro3.io.read_parquet(io.BytesIO(data)), lines, explicit_nulls=True)
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def sheet_of(data: bytes) -> ElementTree.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))  # noqa: S314  (it is our own)


def sheet_rows(data: bytes) -> list[list[tuple[str | None, str | None]]]:
    """Rows of (type, value) as the XML has them."""
    return [
        [
            (cell.get("t"), next((part.text or "" for part in cell.iter() if part is not cell and not len(part)), None))
            for cell in row
        ]
        for row in sheet_of(data).iter(f"{SHEET}row")
    ]


def test_parquet_holds_what_ndjson_holds_with_types(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(
        client, worker, table(["id", "text", "note"], *[[str(n), f"{t} матч", t] for n, t in enumerate(ODD)])
    )
    data = exported(client, job, "parquet")
    types = {
        field.name: str(field.type) for field in map(arro3.io.read_parquet(io.BytesIO(data)).schema.field, range(10))
    }
    expected = ndjson(client, job)
    found = parquet_rows(data)
    assert list(types) == list(expected[0])
    for row in expected:
        row["topics"] = ";".join(row["topics"])
    assert found == expected
    assert found[6]["text"].startswith("bell \x07")
    assert "Int64" in types["row"]
    assert "Float64" in types["sport"]
    assert "Boolean" in types["truncated"]
    assert "Utf8" in types["id"]


def test_a_sheet_holds_texts_as_texts_and_numbers_as_numbers(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(
        client, worker, table(["=id", "text", "note"], *[[str(n), f"{t} матч", t] for n, t in enumerate(ODD)])
    )
    data = exported(client, job, "xlsx")
    root = sheet_of(data)
    header, *rows = sheet_rows(data)
    assert [value for _, value in header] == [
        "=id",
        "text",
        "note",
        "row",
        "sport",
        "humour",
        "ads",
        "topics",
        "truncated",
        "error",
    ]
    assert not list(root.iter(f"{SHEET}f")), "nothing is a formula"
    assert [kind for kind, _ in rows[0]] == ["inlineStr"] * 3 + [None] * 4 + ["inlineStr", "b", None]
    assert [value for _, value in rows[0]][3:] == ["1", "0.900000", "0.200000", "0.450000", "sport;ads", "0", None]
    pane = next(root.iter(f"{SHEET}pane"))
    assert (pane.get("state"), pane.get("ySplit")) == ("frozen", "1")
    assert next(root.iter(f"{SHEET}autoFilter")).get("ref") == f"A1:J{len(ODD) + 1}"


def test_a_sheet_that_went_out_comes_in_again_as_it_was(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(client, worker, table(["id", "text"], *[[str(n), t] for n, t in enumerate(ODD)]))
    reader = open_file(io.BytesIO(exported(client, job, "xlsx")), None, None, ReadOptions(), LIMITS)
    assert reader.layout.format == "xlsx"
    replaced = [*ODD[:6], "bell \ufffd, escape \ufffd, not a character \ufffd \ufffd", *ODD[7:]]
    assert [row.doc_text for row in reader] == replaced


def test_numbers_of_a_sheet_stay_numbers(client: FlaskClient, worker: Worker) -> None:
    lines = [{"text": "матч", "n": 5, "f": 0.25, "b": True, "big": 12345678901234567890, "o": {"a": [1]}, "e": None}]
    job = uploaded(client, worker, "\n".join(map(json.dumps, lines)).encode(), "posts.ndjson")
    cells = sheet_rows(exported(client, job, "xlsx"))[1]
    assert cells[1:7] == [
        (None, "5"),
        (None, "0.25"),
        ("b", "1"),
        ("inlineStr", "12345678901234567890"),
        ("inlineStr", '{"a": [1]}'),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("я" * 32_767, "я" * 32_767),
        ("я" * 40_000, "я" * 32_700 + " … [40000]"),
        ("👍" * 16_383, "👍" * 16_383),
        ("👍" * 20_000, "👍" * 12_700 + " … [20000]"),
        ("👍" * 40_000, " … [40000]"),
    ],
)
def test_a_text_longer_than_a_cell_is_cut_and_says_so(
    client: FlaskClient, worker: Worker, value: str, expected: str
) -> None:
    job = uploaded(client, worker, table(["text"], [value]))
    found = sheet_rows(exported(client, job, "xlsx"))[1][0][1]
    assert found == expected
    assert len(found.encode("utf-16-le")) // 2 <= exporting_xlsx.MAX_CELL_CHARS
    assert parquet_rows(exported(client, job, "parquet"))[0]["text"] == value


@pytest.mark.parametrize("form", ["xlsx", "parquet"])
def test_an_export_follows_thresholds_and_filters_and_needs_no_model(
    client: FlaskClient, worker: Worker, form: str
) -> None:
    job = uploaded(client, worker, CSV)

    def columns(**parameters: str) -> list[dict[str, Any]]:
        data = exported(client, job, form, **parameters)
        if form == "parquet":
            return parquet_rows(data)
        header, *rows = [[value for _, value in row] for row in sheet_rows(data)]
        return [dict(zip(map(str, header), row, strict=True)) for row in rows]

    assert [row["topics"] for row in columns()] == ["sport;ads", "ads", "ads"]
    assert next(row["topics"] for row in columns(thresholds="ads:0.9")) == "sport"
    assert [str(row["row"]) for row in columns(topic="sport")] == ["1"]
    assert columns(q="нет такого") == []


@pytest.mark.parametrize("form", ["xlsx", "parquet"])
def test_a_job_that_nobody_has_begun_on_can_be_taken(client: FlaskClient, form: str) -> None:
    job = upload(client, CSV).get_json()["id"]
    data = exported(client, job, form)
    texts = (
        [row["text"] for row in parquet_rows(data)] if form == "parquet" else [r[1][1] for r in sheet_rows(data)[1:]]
    )
    assert texts[1] == "Купите слона"


def test_a_sheet_that_excel_cannot_hold_is_refused_with_a_way_out(
    app: Any, client: FlaskClient, worker: Worker
) -> None:
    job = uploaded(client, worker, CSV)
    with transaction(app.extensions["rubrika"].engine) as connection:
        connection.execute(text("UPDATE jobs SET rows_total = 1048576, state = 'cancelled'"))
    body = assert_problem(client.get(f"{V1}/jobs/{job}/results.xlsx"), 422, "too_many_rows_for_xlsx")
    assert "1048575" in body["detail"]
    assert "Parquet" in body["detail"]
    assert len(sheet_rows(exported(client, job, "xlsx", topic="sport"))) == 2
    assert len(parquet_rows(exported(client, job, "parquet"))) == 3


@pytest.mark.parametrize("sampled", [5_000, 7])
def test_rows_that_are_too_long_for_a_sheet_are_refused_before_it_begins(
    client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch, sampled: int
) -> None:
    job = uploaded(client, worker, table(["id", "text"], *[[str(n), f"матч & {n:02} {'я' * 400}"] for n in range(60)]))
    with zipfile.ZipFile(io.BytesIO(exported(client, job, "xlsx"))) as archive:
        size = archive.getinfo("xl/worksheets/sheet1.xml").file_size
    monkeypatch.setattr(exporting_xlsx, "SAMPLED_ROWS", sampled)
    monkeypatch.setattr(exporting_xlsx, "MAX_SHEET_BYTES", size * 11 // 10)
    assert len(sheet_rows(exported(client, job, "xlsx"))) == 61
    monkeypatch.setattr(exporting_xlsx, "MAX_SHEET_BYTES", size * 8 // 10)
    body = assert_problem(client.get(f"{V1}/jobs/{job}/results.xlsx"), 422, "too_large_for_xlsx")
    assert "CSV, NDJSON, JSON or Parquet" in body["detail"]
    assert len(sheet_rows(exported(client, job, "xlsx", q="матч & 07"))) == 2
    assert len(parquet_rows(exported(client, job, "parquet"))) == 60


def test_a_sheet_that_breaks_in_the_middle_does_not_look_whole(app: Any, client: FlaskClient) -> None:
    job = uploaded_long(client)
    response = client.get(f"{V1}/jobs/{job}/results.xlsx", buffered=False)
    blocks = cast(Iterator[bytes], iter(response.response))
    got = [next(blocks)]
    with transaction(app.extensions["rubrika"].engine) as connection:
        ended = connection.execute(
            text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
        ).scalar_one()
    assert ended == 1
    # In the middle of COPY psycopg2 has no better word for a lost server than its most general one.
    with pytest.raises((UnavailableError, psycopg2.DatabaseError)):
        got.extend(blocks)
    assert b"PK\5\6" not in b"".join(got)


def test_parquet_takes_names_of_columns_that_are_long_together(client: FlaskClient) -> None:
    names = [f"{number:03}{'я' * 167}" for number in range(150)]
    job = upload(client, table(["text", *names], ["матч", *names])).get_json()["id"]
    [row] = parquet_rows(exported(client, job, "parquet"))
    assert [row[name] for name in names] == names


def test_parquet_that_breaks_in_the_middle_does_not_look_whole() -> None:
    def rows() -> Iterator[bytes]:
        for number in range(40_000):
            yield f"{number},{sha256(b'%d' % number).hexdigest()}\n".encode()
        raise UnavailableError("the server went away")

    got: list[bytes] = []
    with pytest.raises(UnavailableError):
        got.extend(_converted([("row", "int"), ("text", "text")], rows()))
    assert b"".join(got).startswith(b"PAR1")
    assert not b"".join(got).endswith(b"PAR1")


def test_parquet_of_rows_that_do_not_fit_is_no_file() -> None:
    with pytest.raises(UnavailableError):
        list(_converted([("row", "int"), ("text", "text")], iter([b"1,post\n", b"one,post\n"])))


def test_a_reader_that_leaves_takes_the_process_of_its_export_along(client: FlaskClient) -> None:
    job = uploaded_long(client)
    response = client.get(f"{V1}/jobs/{job}/results.parquet", buffered=False)
    next(iter(response.response))
    response.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "parquet"]


def test_the_links_of_a_job_name_both(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(client, worker, CSV)
    links = client.get(f"{V1}/jobs/{job}").get_json()["links"]
    for form, media_type in (("xlsx", exports.XLSX), ("parquet", exports.PARQUET)):
        response = client.get(links[form])
        assert response.status_code == 200
        assert response.content_type == media_type


def test_the_topics_are_columns(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(client, worker, CSV)
    header = [value for _, value in sheet_rows(exported(client, job, "xlsx"))[0]]
    assert [topic.id for topic in TOPICS] == header[4:7]


# --- and on their way in --------------------------------------------------------------------------------------------


def test_a_workbook_is_previewed_with_its_sheets_and_one_is_chosen(client: FlaskClient, worker: Worker) -> None:
    first, second = {1: ["a", "b"], 2: [1, 2]}, {1: ["id", "Текст"], 2: [7, "Сегодня матч"], 3: [8, None]}
    data = xlsx({"Сводка": sheet_xml(first), "Посты": sheet_xml(second)})

    def preview(**fields: str) -> TestResponse:
        return client.post(f"{V1}/jobs/preview", data={"file": (io.BytesIO(data), "книга.xlsx"), **fields})

    assert_problem(preview(), 422, "no_text_column")
    assert_problem(preview(sheet="я" * 30_000), 422, "unknown_sheet")
    assert "'Сводка', 'Посты'" in assert_problem(preview(sheet="Лист1"), 422, "unknown_sheet")["detail"]
    shown = preview(sheet="2").get_json()
    assert shown["format"] == "xlsx"
    assert (shown["sheet"], shown["sheets"]) == ("Посты", ["Сводка", "Посты"])
    assert (shown["encoding"], shown["mapping"], shown["guessed"]) == (None, {"doc_text": "Текст"}, True)
    assert [error["code"] for error in shown["errors"]] == ["empty_text"]
    response = upload(client, data, "книга.xlsx", sheet="Посты")
    assert response.status_code == 202, response.text
    assert response.get_json()["layout"]["sheet"] == "Посты"
    worker.work()
    rows = ndjson(client, response.get_json()["id"])
    assert [(row["id"], row["Текст"], row["row"]) for row in rows] == [(7, "Сегодня матч", 1), (8, "", 2)]
    assert rows[0]["topics"] == ["sport", "ads"]


def test_what_went_out_as_parquet_comes_in_again(client: FlaskClient, worker: Worker) -> None:
    job = uploaded(client, worker, CSV)
    data = exported(client, job, "parquet")
    again = uploaded(client, worker, data, "posts.parquet")
    rows = ndjson(client, again)
    assert [row["text"] for row in rows] == [row["text"] for row in ndjson(client, job)]
    assert rows[0]["sport"] == 0.9
    assert rows[0]["rubrika_row"] == 1


@pytest.mark.parametrize("form", ["xlsx", "parquet"])
def test_a_damaged_file_is_refused_and_nothing_is_stored(client: FlaskClient, worker: Worker, form: str) -> None:
    data = exported(client, uploaded(client, worker, CSV), form)
    response = upload(client, data[: len(data) // 2], f"posts.{form}")
    assert_problem(response, 422, "broken_parquet" if form == "parquet" else "broken_sheet")
    assert len(client.get(f"{V1}/jobs").get_json()["items"]) == 1
