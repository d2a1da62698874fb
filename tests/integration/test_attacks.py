"""What a holder of a key may try against the service, or against those who read what it gives out."""

import csv
import io
import logging
import zipfile
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask

from api.resources import jobs as job_resources
from jobs.settings import Settings
from tests.integration.api_support import V1, Worker, assert_problem
from tests.integration.keys_support import OWN_PAGE, SECRET, Keyed, sign_in

SECRET_TEXT = "Тайна Анны"
BROKEN = "слово\r=1+1"
FORMULAS = ("=1+1", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", '=HYPERLINK("http://evil.example","x")')


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET)


def uploaded(who: Keyed, rows: list[list[str]], filename: str, worker: Worker) -> Any:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    address = f"{V1}/jobs?filename={quote(filename)}"
    answer = who.post(address, data=written.getvalue().encode(), content_type="text/csv")
    assert answer.status_code == 202, answer.text
    worker.work()
    return answer.get_json()


def cells(data: bytes) -> list[str]:
    """As a spreadsheet sees them, to which a bare carriage return ends a row as well."""
    return [cell for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) for cell in row]


def test_no_cell_of_a_download_is_a_formula(anna: Keyed, worker: Worker) -> None:
    rows = [["text", "=cmd", "note"], *([formula, formula, "x"] for formula in (*FORMULAS, BROKEN))]
    job = uploaded(anna, rows, "=1+1.csv", worker)
    for formula in (*FORMULAS, BROKEN):
        posted = anna.post(f"{V1}/classifications", json={"text": formula, "custom_id": "=1+1"})
        assert posted.status_code == 202, posted.text
    worker.work()
    for address in (job["links"]["csv"], f"{V1}/classifications.csv", f"{V1}/jobs.csv"):
        found = cells(anna.get(address).data)
        assert any(cell.startswith("'=") for cell in found), address
        if address != f"{V1}/jobs.csv":
            assert BROKEN in found, address
        suspicious = [cell for cell in found if cell[:1] in set("=+-@\t\r")]
        assert not suspicious, address
    with zipfile.ZipFile(io.BytesIO(anna.get(job["links"]["csv"].replace(".csv", ".xlsx")).data)) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "HYPERLINK" in sheet
    assert "<f>" not in sheet
    assert "<f " not in sheet


@pytest.mark.parametrize("words", ["%", "_", "%%", "\\", "a%b", "[a-z]", ".*", "(a+)+$", "' OR 1=1 --", "x') OR ('1"])
def test_what_is_searched_for_is_text_and_no_pattern(anna: Keyed, worker: Worker, words: str) -> None:
    job = uploaded(anna, [["text"], ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"], ["второй"]], "a.csv", worker)
    anna.post(f"{V1}/classifications", json={"text": "третий"})
    worker.work()
    for address in (f"{V1}/jobs/{job['id']}/results", f"{V1}/classifications", f"{V1}/jobs"):
        assert anna.get(f"{address}?q={quote(words)}").get_json()["items"] == [], address
    found = uploaded(anna, [["text"], [f"до {words} после"], ["второй"]], "b.csv", worker)
    shown = anna.get(f"{V1}/jobs/{found['id']}/results?q={quote(words)}").get_json()["items"]
    assert [row["row"] for row in shown] == [1]


def test_no_header_and_no_parameter_makes_one_method_of_another(anna: Keyed, worker: Worker) -> None:
    job = uploaded(anna, [["text"], ["a"]], "a.csv", worker)["id"]
    sign_in(anna.client, anna.key)
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    for method in ("GET", "POST"):
        for name in names:
            answer = anna.client.open(
                f"{V1}/jobs/{job}?_method=DELETE", method=method, headers={name: "DELETE", **OWN_PAGE}
            )
            assert answer.status_code == (200 if method == "GET" else 405)
    assert anna.get(f"{V1}/jobs/{job}").status_code == 200


def test_an_error_of_ours_says_nothing_of_how_it_came_about(
    app: Flask, anna: Keyed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("/srv/secret/place: password=hunter2")

    monkeypatch.setattr(job_resources, "reading", type("broken", (), {"get_job": broken}))
    answer = anna.get(f"{V1}/jobs/{'0' * 32}")
    problem = assert_problem(answer, 500, "internal_error")
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    for secret in ("hunter2", "/srv", "RuntimeError", "Traceback", __file__):
        assert secret not in answer.text
    assert "hunter2" in caplog.text, "who runs the service is told"


def test_metrics_tell_nothing_of_what_is_classified_and_for_whom(anna: Keyed, worker: Worker) -> None:
    job = uploaded(anna, [["text"], [SECRET_TEXT]], f"{SECRET_TEXT}.csv", worker)
    text = anna.post(f"{V1}/classifications", json={"text": SECRET_TEXT, "custom_id": "особое"}).get_json()
    worker.work()
    anna.get(f"{V1}/jobs/{job['id']}/results?q={quote(SECRET_TEXT)}")
    anna.get(f"/{quote(SECRET_TEXT)}")
    shown = anna.client.get("/metrics").text
    assert "rubrika_http_requests" in shown
    for secret in (SECRET_TEXT, quote(SECRET_TEXT), "особое", "anna", job["id"], text["id"], anna.key[:8]):
        assert secret not in shown


def test_nobody_writes_into_the_log(anna: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for address in ("/x%0AFAKE", f"{V1}/jobs/%0AFAKE%1B[31m", f"{V1}/models/%0AFAKE", f"{V1}/jobs?q=%0AFAKE"):
            anna.get(address, headers={"User-Agent": "FAKE", "Referer": "FAKE", "X-Request-Id": "FAKE FAKE"})
            anna.client.get(address, headers={"Authorization": "Bearer FAKE"})
    assert caplog.records
    for record in caplog.records:
        assert "FAKE" not in f"{record.getMessage()}{record.__dict__}"
