"""The history of texts and of files: words, states, dates, pages, and all of it as CSV and JSON."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from api.context import OWNER
from jobs.database import transaction
from jobs.filtering import RowStatus
from jobs.history import Wanted, list_texts
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload

TEXTS = f"{V1}/classifications"
JOBS = f"{V1}/jobs"
POSTS = ["Матч 100% в субботу", "тишина", "сломай", "=1+1", "ещё один матч"]


@pytest.fixture
def posted(client: FlaskClient, worker: Worker) -> list[str]:
    """`POSTS` a request each, all of them computed (the third fails), and then one that waits."""
    for post in POSTS:
        assert client.post(TEXTS, json={"text": post, "custom_id": f"id-{post[:3]}"}).status_code == 202
    worker.work()
    assert client.post(TEXTS, json={"text": "ждёт"}).status_code == 202
    return [*POSTS, "ждёт"]


def pages(client: FlaskClient, url: str) -> list[str]:
    """The texts of all pages, following `next` as it is."""
    found: list[str] = []
    while url:
        page = client.get(url).get_json()
        found += [item["doc_text"] for item in page["items"]]
        url = page.get("next", "")
    return found


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("q=МАТЧ", [4, 0]),
        ("q=100%25", [0]),
        ("q=матч+ещё", [4]),
        ("q=ЕЩЕ", [4]),
        ("q=ждет", [5]),
        ("q=тёшина", []),
        ("q=мёж", []),
        ("q=ID-ТИШ", [1]),
        ("q=нет+такого", []),
        ("status=failed", [2]),
        ("status=queued", [5]),
        ("status=succeeded", [4, 3, 1, 0]),
        ("status=succeeded&q=матч", [4, 0]),
        ("since=2000-01-01&until=2100-01-01T00:00:00Z&q=тишина", [1]),
        ("until=2000-01-01", []),
        ("since=2100-01-01", []),
        # Years and zones of which Postgres knows nothing.
        ("since=0001-01-01T00:00:00%2B23:59&until=9999-12-31T23:59:59-23:59&q=тишина", [1]),
    ],
)
def test_texts_that_are_asked_for(client: FlaskClient, posted: list[str], query: str, numbers: list[int]) -> None:
    wanted = [posted[number] for number in numbers]
    assert pages(client, f"{TEXTS}?{query}") == wanted
    assert pages(client, f"{TEXTS}?limit=1&{query}") == wanted
    assert [item["doc_text"] for item in client.get(f"{TEXTS}.json?{query}").get_json()] == wanted


def test_a_moment_divides_the_history_and_belongs_to_what_follows(client: FlaskClient, posted: list[str]) -> None:
    moment = client.get(f"{TEXTS}?q=тишина").get_json()["items"][0]["created_at"]
    assert pages(client, f"{TEXTS}?until={moment}") == [posted[0]]
    assert pages(client, f"{TEXTS}?since={moment}") == posted[:0:-1]


def test_a_request_of_many_texts_is_cut_into_pages_where_it_stands(client: FlaskClient, worker: Worker) -> None:
    items = [{"text": f"{'матч' if n % 3 else 'тишина'} {n}"} for n in range(30)]
    client.post(TEXTS, json={"items": items})
    client.post(TEXTS, json={"items": items})
    worker.work()
    matches = [item["text"] for item in items if "матч" in item["text"]] * 2
    assert pages(client, f"{TEXTS}?limit=7&q=матч&status=succeeded") == matches


def test_a_search_that_finds_nothing_ends_in_time_and_says_where_to_go_on(
    client: FlaskClient, posted: list[str], engine: Engine
) -> None:
    with transaction(engine) as connection:
        found, behind = list_texts(
            connection, OWNER, before=None, limit=5, wanted=Wanted(status=RowStatus.FAILED), seconds=0.0
        )
        assert ([row.doc_text for _, row in found], behind) == (["сломай"], None), "one window has all six requests"
        connection.execute(
            text("""
                INSERT INTO jobs (
                    id, day, owner, kind, state, layout, rows_total, rows_succeeded, created_at, finished_at
                )
                SELECT ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, current_date, :owner, 'texts',
                       'succeeded', '{}', 1, 1, now(), now() FROM generate_series(1, 300) AS n
            """),
            {"owner": OWNER},
        )
        wanted = Wanted(words=("сломай",))
        found, behind = list_texts(connection, OWNER, before=None, limit=5, wanted=wanted, seconds=0.0)
        assert found == []
        assert behind is not None
        found, behind = list_texts(connection, OWNER, before=behind, limit=5, wanted=wanted, seconds=60.0)
        assert ([row.doc_text for _, row in found], behind) == (["сломай"], None)


def test_files_by_name_state_and_date(client: FlaskClient, worker: Worker) -> None:
    for name in ("Январь 1.csv", "февраль.csv", "январь 2.csv"):
        upload(client, CSV, name)
    worker.work()
    upload(client, CSV, "март 4-й отчёт.csv")

    def names(query: str) -> list[str]:
        page = client.get(f"{JOBS}?{query}").get_json()
        as_json = client.get(f"{JOBS}.json?{query}").get_json()
        assert [item["id"] for item in as_json] == [item["id"] for item in page["items"]]
        return [item["filename"] for item in page["items"]]

    assert names("") == ["март 4-й отчёт.csv", "январь 2.csv", "февраль.csv", "Январь 1.csv"]
    assert names("q=ЯНВАРЬ") == ["январь 2.csv", "Январь 1.csv"]
    assert names("q=январь+1") == ["Январь 1.csv"]
    assert names("q=отчет") == names("q=ОТЧЁТ") == names("status=queued,running") == ["март 4-й отчёт.csv"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    assert names(f"since={tomorrow}") == []
    assert names(f"until={tomorrow}&q=март") == ["март 4-й отчёт.csv"]
    first = client.get(f"{JOBS}?limit=1&q=январь").get_json()
    assert [item["filename"] for item in client.get(first["next"]).get_json()["items"]] == ["Январь 1.csv"]


def test_texts_as_csv_have_a_column_for_each_topic_and_no_formula(client: FlaskClient, posted: list[str]) -> None:
    response = client.get(f"{TEXTS}.csv")
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="rubrika-texts.csv"'
    assert response.data.startswith("\ufeffid,".encode())
    rows = list(csv.DictReader(io.StringIO(response.data.decode("utf-8-sig"))))
    assert [row["doc_text"] for row in rows] == ["ждёт", "ещё один матч", "'=1+1", "сломай", "тишина", posted[0]]
    assert (rows[1]["sport"], rows[1]["ads"], rows[1]["topics"]) == ("0.9", "0.45", "sport;ads")
    assert (rows[0]["status"], rows[0]["sport"]) == ("queued", "")
    assert (rows[3]["error"], rows[3]["topics"]) == ("model_failed", "")

    raw = client.get(f"{TEXTS}.csv?raw=1&bom=0&q=%3D1").data.decode()
    assert raw.startswith("id,")
    assert ",=1+1," in raw
    assert client.get(f"{TEXTS}.csv?q=нет+такого&bom=0").data.count(b"\n") == 1
    assert client.get(f"{TEXTS}.json?q=нет+такого").get_json() == []


def test_files_as_csv_have_their_counts(client: FlaskClient, worker: Worker) -> None:
    upload(client, CSV, "+посты.csv")
    worker.work()
    [row] = csv.DictReader(io.StringIO(client.get(f"{JOBS}.csv").data.decode("utf-8-sig")))
    assert (row["filename"], row["format"], row["status"]) == ("'+посты.csv", "csv", "succeeded")
    assert (row["rows"], row["succeeded"], row["failed"]) == ("3", "3", "0")


def test_what_cannot_be_asked_for_is_said(client: FlaskClient) -> None:
    assert_problem(client.get(f"{TEXTS}?status=broken"), 422)
    assert_problem(client.get(f"{TEXTS}?since=gestern"), 422)
    assert_problem(client.get(f"{TEXTS}?q=%00"), 422, "invalid_characters")
    assert_problem(client.get(f"{JOBS}.csv?status=broken"), 422, "unknown_status")
    assert_problem(client.get(f"{JOBS}.json?limit=5"), 422)
    assert_problem(client.get(f"{JOBS}?q=%00"), 422, "invalid_characters")
