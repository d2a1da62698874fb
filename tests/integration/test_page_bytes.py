"""Pages end by their length in bytes as well, and whoever follows `next` meets every row once."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from jobs import history, reading
from jobs.database import run
from tests.integration.api_support import TOPICS, V1, Worker

CHARS = 100_000
ROWS = 60


def pages(client: FlaskClient, url: str) -> list[list[dict[str, object]]]:
    """The items of each page, following `next` as it is."""
    found = []
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        body = answer.get_json()
        items = body["items"]
        if items:
            longest = max(len(str(item).encode()) for item in items)
            assert len(answer.data) < reading.PAGE_BYTES + longest + 2000 * len(items)
        found.append(items)
        url = body.get("next", "")
    return found


def results_of(client: FlaskClient, worker: Worker, data: bytes) -> str:
    """The address of the results of a file, all of which are there."""
    job = client.post(f"{V1}/jobs", data=data, content_type="text/csv").get_json()
    worker.work()
    address: str = job["links"]["results"]
    return address


def long_file(long: str) -> bytes:
    """Every row has 200 kB, in its text or in a column beside it."""
    filler = "ё" * (CHARS - 10)
    lines = (f"матч {n},{filler}" if long == "column" else f"матч {n} {filler},б" for n in range(1, ROWS + 1))
    return "\n".join(["text,page", *lines]).encode()


@pytest.mark.parametrize("long", ["text", "column"])
def test_a_page_of_long_rows_is_shorter_and_no_row_is_missing(client: FlaskClient, worker: Worker, long: str) -> None:
    results = results_of(client, worker, long_file(long))
    for query in ("", "&topic=sport", "&q=матч", "&sort=sport", "&sort=-ads&q=матч"):
        found = pages(client, f"{results}?limit=1000{query}")
        assert len([page for page in found if page]) >= 2, query
        assert [row["row"] for page in found for row in page] == list(range(1, ROWS + 1)), query


@pytest.mark.parametrize("query", ["", "&topic=ads", "&q=а", "&sort=sport", "&sort=-sport", "&sort=-sport&q=а"])
def test_a_row_that_is_longer_than_a_page_is_a_page(
    client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    texts = ["матч а", "а", "матч а", "б", "сломай а", "матч а", "а"]
    results = results_of(client, worker, "\n".join(["text", *texts]).encode())
    whole = [row["row"] for page in pages(client, f"{results}?limit=5{query}") for row in page]
    assert len(whole) >= 5
    monkeypatch.setattr(reading, "PAGE_BYTES", 1)
    # The last but one may lead to a page on which nothing is left.
    found = [page for page in pages(client, f"{results}?limit=5{query}") if page]
    assert [[row["row"] for row in page] for page in found] == [[row] for row in whole]


def test_the_history_is_cut_in_the_same_way(client: FlaskClient) -> None:
    filler = "ё" * (CHARS - 10)
    sent = []
    for request in range(2):
        items = [{"text": f"{request} {n} {filler}"} for n in range(30)]
        assert client.post(f"{V1}/classifications", json={"items": items}).status_code == 202
        sent = [item["text"] for item in items] + sent
    for query in ("", "&q=ё", "&status=queued"):
        found = pages(client, f"{V1}/classifications?limit=1000{query}")
        assert len([page for page in found if page]) >= 2, query
        assert [text["doc_text"] for page in found for text in page] == sorted(sent, key=order_of), query
    exported = client.get(f"{V1}/classifications.json").get_json()
    assert [text["doc_text"] for text in exported] == sorted(sent, key=order_of)


def test_explanations_count_for_the_length_of_a_page(
    client: FlaskClient, worker: Worker, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        client.post(f"{V1}/classifications", json={"text": f"{number}", "explain": True})
    worker.work()
    pieces = 50
    explained = """
        UPDATE explanations SET state = 'done', finished_at = now(),
            fields = array_fill('doc_text'::text, ARRAY[:pieces]), starts = array_fill(0, ARRAY[:pieces]),
            ends = array_fill(1, ARRAY[:pieces]), weights = array_fill(0.5::real, ARRAY[:pieces * :topics])
    """
    run(engine, lambda c: c.execute(text(explained), {"pieces": pieces, "topics": len(TOPICS)}))
    monkeypatch.setattr(history, "PAGE_BYTES", 2 * pieces * len(TOPICS) * history.WEIGHT_BYTES)
    for query in ("", "&status=succeeded"):
        found = [len(page) for page in pages(client, f"{V1}/classifications?limit=1000{query}") if page]
        assert found == [2, 2, 2, 2], query


def order_of(text: str) -> tuple[int, int]:
    """Newest request first, and within it as it was sent."""
    request, number, _ = text.split(" ", 2)
    return -int(request), int(number)


def test_a_text_that_is_longer_than_a_page_is_a_page(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for request in range(2):
        client.post(f"{V1}/classifications", json={"items": [{"text": f"{request} {n} а"} for n in range(3)]})
    monkeypatch.setattr(history, "PAGE_BYTES", 1)
    for query in ("", "&q=а"):
        found = [page for page in pages(client, f"{V1}/classifications?limit=5{query}") if page]
        assert [[text["doc_text"] for text in page] for page in found] == [
            [f"{request} {n} а"] for request in (1, 0) for n in range(3)
        ]
