"""A file that two models have computed, one after the other, and two models that go by one name."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from jobs import fleet
from jobs.database import run, transaction
from jobs.records import Topic
from jobs.settings import Settings
from jobs.states import Lane
from tests.integration.api_support import V1, Worker, upload

NEWER = (Topic("travel", "Поездки", "Travel", 0.5), Topic("sport", "Спорт, заново", "Sport, anew", 0.6))
ROWS = 32


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, chunk_rows=2)


@pytest.fixture
def shared(app: Any, client: FlaskClient, settings: Settings, worker: Worker) -> dict[str, Any]:
    """A file of which the first half was computed by one model and the rest by another, which became the active one."""
    posts = "text\n" + "".join(f"матч {number}\n" for number in range(ROWS - 1)) + "сломай\n"
    job = upload(client, posts.encode()).get_json()
    assert run(worker._engine, lambda c: worker._one(c, Lane.BULK)) == ROWS // 2
    newer = Worker(settings, app.extensions["rubrika"], name="newer", topics=NEWER, judge=lambda _: [0.7, 0.55])
    assert newer.work() == ROWS // 2
    newer.close()
    found: dict[str, Any] = client.get(job["links"]["self"]).get_json()
    return found


@pytest.mark.parametrize("tallied", [True, False])
def test_a_summary_says_how_many_rows_it_does_not_count(
    client: FlaskClient, worker: Worker, shared: dict[str, Any], tallied: bool
) -> None:
    if not tallied:
        with transaction(worker._engine) as connection:
            connection.execute(text("DELETE FROM tallies"))
    for thresholds in ("", "?thresholds=sport:0.5"):
        found = client.get(shared["links"]["summary"] + thresholds).get_json()
        assert (found["model"], found["model_sha256"]) == ("newer@1.0.0", f"{'newer':0<64}")
        other = {"model": "tiny@1.0.0", "model_sha256": f"{'tiny':0<64}", "rows": ROWS // 2}
        assert found["other_models"] == [other]
        assert found["computed"] + other["rows"] == shared["rows"]["succeeded"] == ROWS - 1
        own = ("topic", "name", "name_en", "threshold")
        assert [[topic[key] for key in own] for topic in found["topics"]] == [
            ["travel", "Поездки", "Travel", 0.5],
            ["sport", "Спорт, заново", "Sport, anew", 0.6],
        ]
        assert found["topics"][1]["assigned"] == (found["computed"] if thresholds else 0)


def test_each_row_names_the_model_that_has_read_it(client: FlaskClient, shared: dict[str, Any]) -> None:
    items = client.get(f"{shared['links']['results']}?limit=1000").get_json()["items"]
    labels = [item["model"] for item in items]
    assert sorted(labels) == ["newer@1.0.0"] * (ROWS // 2) + ["tiny@1.0.0"] * (ROWS // 2)
    for item in items:
        known = {"tiny@1.0.0": ["sport", "humour", "ads"], "newer@1.0.0": ["travel", "sport"]}[item["model"]]
        assert item["status"] == "failed" or list(item["probabilities"]) == known
    first, *_, last = client.get(f"{shared['links']['results']}?sort=-sport&limit=1000").get_json()["items"]
    assert (first["model"], last["model"]) == ("tiny@1.0.0", "newer@1.0.0"), "0.9 and 0.55"


def test_a_file_of_one_model_has_no_others_and_rows_that_wait_have_none(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, 'text\nматч\n" "\n'.encode()).get_json()
    assert [row["model"] for row in client.get(job["links"]["results"]).get_json()["items"]] == [None, None]
    worker.work()
    assert [row["model"] for row in client.get(job["links"]["results"]).get_json()["items"]] == ["tiny@1.0.0", None]
    assert client.get(job["links"]["summary"]).get_json()["other_models"] == []


def test_models_of_one_name_are_told_apart_by_their_digest(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, "text\nматч\n".encode()).get_json()
    worker.work()
    label, digest = "tiny@1.0.0", "f" * 64
    register = {"name": "tiny", "version": "1.0.0", "sha256": digest, "topics": NEWER, "card": {}}
    run(worker._engine, lambda c: fleet.register_model(c, **register))
    client.application.extensions["rubrika"].models._read_at = float("-inf")
    done = client.get(job["links"]["self"]).get_json()
    assert (done["model"], done["model_sha256"]) == (label, f"{'tiny':0<64}")
    found = client.get(job["links"]["summary"]).get_json()
    assert [topic["name"] for topic in found["topics"]] == ["Спорт", "Юмор", "Реклама"]
    assert client.get(f"{V1}/models/{label}").get_json()["sha256"] == digest, "the active one of two with that name"
    for sha256 in (digest, done["model_sha256"]):
        assert client.get(f"{V1}/models/{sha256}").get_json()["sha256"] == sha256
    assert upload(client, "text\nматч\n".encode()).get_json()["model_sha256"] == digest
