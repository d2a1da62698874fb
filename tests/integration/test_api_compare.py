"""Two jobs of the same rows beside each other: every number against one that is counted here from the probabilities."""

import hashlib
from collections.abc import Callable
from statistics import correlation, fmean
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.comparing import TEXT_CHARS
from jobs.database import run
from jobs.records import Topic
from jobs.settings import Settings
from jobs.states import Lane
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload

FIRST = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.4), Topic("old", "Старое", "Old", 0.5))
SECOND = (Topic("new", "Новое", "New", 0.5), Topic("ads", "Реклама", "Ads", 0.6), Topic("sport", "Спорт", "Sport", 0.5))
ROWS = 300


def shares(model: str, topics: int) -> Callable[[str], list[float]]:
    """Probabilities that follow from the text and the model: thousandths, so that thresholds are hit exactly."""

    def judge(doc_text: str) -> list[float]:
        digest = hashlib.sha256(f"{model} {doc_text}".encode()).digest()
        return [int.from_bytes(digest[2 * n : 2 * n + 2]) % 11 / 10 for n in range(topics)]

    return judge


@pytest.fixture
def workers(app: Any, settings: Settings) -> tuple[Worker, Worker]:
    context = app.extensions["rubrika"]
    return (
        Worker(settings, context, name="one", topics=FIRST, judge=shares("one", 3)),
        Worker(settings, context, name="two", topics=SECOND, judge=shares("two", 3)),
    )


@pytest.fixture
def jobs(client: FlaskClient, workers: tuple[Worker, Worker]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A file that the first model computes, and its rerun by the second; nothing of either is computed yet."""
    data = "text,author\n" + "".join(f"{'сломай' if n % 50 == 7 else 'пост'} {n},a{n}\n" for n in range(ROWS))
    uploaded = upload(client, data.encode() + b'" ",nobody\n').get_json()
    first = client.post(uploaded["links"]["rerun"], json={"model": "one"}).get_json()
    second = client.post(first["links"]["rerun"], json={"model": "two"}).get_json()
    client.delete(uploaded["links"]["self"])
    return first, second


def compare(client: FlaskClient, *jobs: dict[str, Any], more: str = "") -> dict[str, Any]:
    answer = client.get(f"{V1}/jobs/{jobs[0]['id']}/compare/{jobs[1]['id']}{more}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def results(client: FlaskClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{job['links']['results']}?limit=1000").get_json()["items"]
    return found


def pairs(client: FlaskClient, *jobs: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows that both have computed."""
    both = zip(results(client, jobs[0]), results(client, jobs[1]), strict=True)
    return [(a, b) for a, b in both if a["probabilities"] and b["probabilities"]]


def is_same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    common = {"sport", "ads"}
    return common & set(a["assigned"]) == common & set(b["assigned"])


def test_every_count_is_that_of_the_rows(
    client: FlaskClient, workers: tuple[Worker, Worker], jobs: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    for worker in workers:
        worker.work()
    found = compare(client, *jobs)
    rows = pairs(client, *jobs)
    assert [(found[side]["model"], found[side]["status"]) for side in ("first", "second")] == [
        ("one@1.0.0", "partially_succeeded"),
        ("two@1.0.0", "partially_succeeded"),
    ]
    same = sum(is_same(a, b) for a, b in rows)
    assert len(rows) == ROWS - 6
    assert found["rows"] == {"total": ROWS + 1, "compared": len(rows), "same": same, "changed": len(rows) - same}
    assert found["agreement"] == pytest.approx(same / len(rows), abs=1e-6)
    assert [topic["topic"] for topic in found["topics"]] == ["sport", "ads"]
    assert (found["only_first"], found["only_second"]) == (["old"], ["new"])
    for topic in found["topics"]:
        name = topic["topic"]
        marks = [(name in a["assigned"], name in b["assigned"]) for a, b in rows]
        assert {key: topic[key] for key in ("both", "only_first", "only_second", "neither")} == {
            "both": marks.count((True, True)),
            "only_first": marks.count((True, False)),
            "only_second": marks.count((False, True)),
            "neither": marks.count((False, False)),
        }
        assert topic["agreement"] == pytest.approx(fmean(a == b for a, b in marks), abs=1e-6)
        p, q = ([row[side]["probabilities"][name] for row in rows] for side in (0, 1))
        assert topic["mean_difference"] == pytest.approx(fmean(abs(a - b) for a, b in zip(p, q, strict=True)), abs=1e-5)
        assert topic["correlation"] == pytest.approx(correlation(p, q), abs=1e-5)
    mirrored = compare(client, jobs[1], jobs[0])
    assert mirrored["rows"] == found["rows"]
    assert mirrored["only_first"] == ["new"]


def test_the_rows_that_changed_come_in_file_order_page_by_page(
    client: FlaskClient, workers: tuple[Worker, Worker], jobs: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    for worker in workers:
        worker.work()
    expected = [(a["row"], a["assigned"], b["assigned"]) for a, b in pairs(client, *jobs) if not is_same(a, b)]
    assert len(expected) > 100
    page = compare(client, *jobs, more="?limit=40")
    rows = page["items"]
    while "next" in page:
        page = client.get(page["next"]).get_json()
        assert len(page["items"]) <= 40
        rows += page["items"]
    assert [(row["row"], row["first"]["assigned"], row["second"]["assigned"]) for row in rows] == expected
    whole = {row["row"]: row for row in results(client, jobs[1])}
    for row in rows:
        assert row["second"]["probabilities"] == whole[row["row"]]["probabilities"]
        assert row["doc_text"] == whole[row["row"]]["doc_text"]
    alone = client.get(f"{V1}/jobs/{jobs[0]['id']}/compare/{jobs[1]['id']}/rows?limit=1000").get_json()
    assert alone["items"] == rows
    assert_problem(client.get(f"{V1}/jobs/{jobs[0]['id']}/compare/{jobs[1]['id']}/rows?cursor=x"), 422)


def test_beside_a_row_that_changed_stand_the_beginnings_of_its_texts_and_of_its_id(
    client: FlaskClient, workers: tuple[Worker, Worker]
) -> None:
    fields = ("doc_text", "image2text", "speech2text", "custom_id")
    lines = [",".join(f"{name} {number} {'ё' * 1000}" for name in fields) for number in range(20)]
    uploaded = upload(client, "\n".join([",".join(fields), *lines]).encode()).get_json()
    again = uploaded["links"]["rerun"]
    first, second = (client.post(again, json={"model": name}).get_json() for name in ("one", "two"))
    for worker in workers:
        worker.work()
    found = compare(client, first, second)["items"]
    assert found
    for row in found:
        whole = dict(zip(fields, lines[row["row"] - 1].split(","), strict=True))
        assert {name: row[name] for name in fields} == {name: text[:TEXT_CHARS] for name, text in whole.items()}


def test_a_running_job_is_compared_as_far_as_it_is(
    client: FlaskClient, workers: tuple[Worker, Worker], jobs: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    one, two = workers
    assert compare(client, *jobs)["rows"]["compared"] == 0
    one.work()
    nothing = compare(client, *jobs)
    assert (nothing["agreement"], nothing["items"]) == (None, [])
    assert {topic["mean_difference"] for topic in nothing["topics"]} == {None}
    run(two._engine, lambda c: two._one(c, Lane.BULK))
    some = compare(client, *jobs)
    assert some["rows"]["compared"] == len(pairs(client, *jobs)) > 0


def test_two_uploads_of_one_file_can_be_compared_and_other_jobs_cannot(client: FlaskClient, worker: Worker) -> None:
    first, second = (upload(client, CSV).get_json() for _ in range(2))
    shorter = upload(client, CSV.rsplit(b"\n", 2)[0] + b"\n").get_json()
    other = upload(client, CSV.replace("слона".encode(), "кота".encode())).get_json()
    worker.work()
    found = compare(client, first, second)
    assert (found["agreement"], found["items"]) == (1.0, [])
    assert [topic["correlation"] for topic in found["topics"]] == [pytest.approx(1), None, None]
    base = f"{V1}/jobs/{first['id']}/compare"
    for path in ("", "/rows"):
        answer = assert_problem(client.get(f"{base}/{shorter['id']}{path}"), 409, "conflict")
        assert "one has 3, the other 2" in answer["detail"]
        answer = assert_problem(client.get(f"{base}/{other['id']}{path}"), 409, "conflict")
        assert "row 2 has other texts" in answer["detail"]
        assert_problem(client.get(f"{base}/{'0' * 32}{path}"), 404)
        assert_problem(client.get(f"{base}/nothing{path}"), 404)


def test_before_any_model_is_known_there_is_nothing_to_compare(client: FlaskClient) -> None:
    first, second = (upload(client, CSV).get_json() for _ in range(2))
    assert_problem(client.get(f"{V1}/jobs/{first['id']}/compare/{second['id']}"), 409, "no_model")
