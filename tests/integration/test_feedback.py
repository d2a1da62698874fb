"""What people say is right: taken by the interface, shown again, and written out as data to train with."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from cli.main import main
from jobs import fleet, partitions
from jobs.database import run, transaction
from jobs.records import Topic
from jobs.settings import Settings
from ml import counter_examples, data
from ml.counter_examples import Source
from ml.posts import Post
from tests.integration.api_support import V1, Worker, assert_problem, upload

MATCH = "Наши выиграли матч"
PIE = "Рецепт пирога с вишней"


@pytest.fixture
def engine(app: Any) -> Engine:
    engine: Engine = app.extensions["rubrika"].engine
    return engine


def post_text(client: FlaskClient, worker: Worker, **fields: str) -> str:
    address: str = client.post(f"{V1}/classifications", json=fields).headers["Location"]
    worker.work()
    return address


def from_feedback(settings: Settings, *arguments: object) -> Result:
    environment = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    return CliRunner(env=environment).invoke(main, ["data", "from-feedback", *map(str, arguments)])


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_judged_text_shows_the_judgement_and_the_last_one_counts(client: FlaskClient, worker: Worker) -> None:
    address = post_text(client, worker, text=MATCH)
    assert client.get(address).get_json()["feedback"] is None
    answer = client.post(f"{address}/feedback", json={"topics": ["ads", "sport", "ads"]})
    assert answer.status_code == 200
    assert answer.get_json()["feedback"] == ["ads", "sport"]
    assert client.post(f"{address}/feedback", json={"topics": []}).get_json()["feedback"] == []
    read = client.get(address).get_json()
    assert read["feedback"] == []
    assert read["assigned"] == ["sport", "ads"]
    assert [item["feedback"] for item in client.get(f"{V1}/classifications").get_json()["items"]] == [[]]


def test_a_row_of_a_file_is_judged_before_and_after_it_is_computed(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, f"text\n{MATCH}\n{PIE}\n".encode()).get_json()
    rows = f"{job['links']['self']}/rows"
    early = client.post(f"{rows}/2/feedback", json={"topics": []})
    assert (early.status_code, early.get_json()["status"], early.get_json()["feedback"]) == (200, "queued", [])
    worker.work()
    late = client.post(f"{rows}/1/feedback", json={"topics": ["sport"]}).get_json()
    assert (late["row"], late["assigned"], late["feedback"]) == (1, ["sport", "ads"], ["sport"])
    shown = client.get(job["links"]["results"]).get_json()["items"]
    assert [row["feedback"] for row in shown] == [["sport"], []]


def test_a_page_that_a_client_has_is_sent_again_when_a_row_of_it_was_judged(
    client: FlaskClient, worker: Worker
) -> None:
    job = upload(client, f"text\n{MATCH}\n".encode()).get_json()
    worker.work()
    address = job["links"]["results"]
    tags = []
    for topics in (["sport"], ["ads"], ["ads"]):
        known = {"If-None-Match": client.get(address).headers["ETag"]}
        tags.append(known["If-None-Match"])
        assert client.get(address, headers=known).status_code == 304
        client.post(f"{job['links']['self']}/rows/1/feedback", json={"topics": topics})
        again = client.get(address, headers=known)
        assert (again.status_code, again.get_json()["items"][0]["feedback"]) == (200, topics)
    assert len(set(tags)) == 3


def test_what_cannot_be_judged_is_refused(client: FlaskClient, worker: Worker) -> None:
    address = post_text(client, worker, text=MATCH)
    job = upload(client, f"text\n{PIE}\n".encode()).get_json()
    row = f"{job['links']['self']}/rows"
    unknown = client.post(f"{address}/feedback", json={"topics": ["sport", "погода"]})
    assert_problem(unknown, 422, "invalid_input")
    assert unknown.get_json()["errors"][0]["pointer"] == "/topics/1"
    for body in ({}, {"topics": "sport"}, {"topics": [1]}, {"topics": [], "why": "?"}):
        assert client.post(f"{address}/feedback", json=body).status_code == 422
    for missing in (f"{address}9/feedback", f"{row}/2/feedback", f"{row}/0/feedback", f"{row}/{2**40}/feedback"):
        assert_problem(client.post(missing, json={"topics": []}), 404, "not_found")
    # A text is not reached as a row of a file, nor a row as a text.
    text_job = address.rsplit("/", 1)[1].rsplit("-", 1)[0]
    assert client.post(f"{V1}/jobs/{text_job}/rows/1/feedback", json={"topics": []}).status_code == 404
    assert client.post(f"{V1}/classifications/{job['id']}-1/feedback", json={"topics": []}).status_code == 404
    assert client.get(address).get_json()["feedback"] is None


def test_a_deleted_job_takes_its_judgements_along_and_an_expired_one_leaves_them(
    client: FlaskClient, worker: Worker, engine: Engine
) -> None:
    def judged() -> int:
        with transaction(engine) as connection:
            return int(connection.execute(text("SELECT count(*) FROM feedback")).scalar_one())

    job = upload(client, f"text\n{MATCH}\n".encode()).get_json()
    client.post(f"{job['links']['self']}/rows/1/feedback", json={"topics": ["sport"]})
    assert judged() == 1
    assert client.delete(job["links"]["self"]).status_code == 204
    assert judged() == 0

    address = post_text(client, worker, text=PIE)
    client.post(f"{address}/feedback", json={"topics": []})
    with transaction(engine) as connection:
        day = connection.execute(text("SELECT day FROM jobs")).scalar_one()
    run(engine, lambda connection: partitions.drop_day(connection, day))
    assert client.get(address).status_code == 404
    assert judged() == 1


def test_what_was_said_is_taken_back_and_the_page_of_it_is_sent_again(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, f"text\n{MATCH}\n{PIE}\n".encode()).get_json()
    text_ = post_text(client, worker, text=MATCH)
    rows, results = f"{job['links']['self']}/rows", job["links"]["results"]
    for address in (text_, f"{rows}/1", f"{rows}/2"):
        assert_problem(client.delete(f"{address}/feedback"), 404, "not_found")
        client.post(f"{address}/feedback", json={"topics": ["sport"]})
    known = {"If-None-Match": client.get(results).headers["ETag"]}
    assert client.get(results, headers=known).status_code == 304
    # The judgement of row 2 is the last one, and stays.
    assert client.delete(f"{rows}/1/feedback").status_code == 204
    again = client.get(results, headers=known)
    assert [row["feedback"] for row in again.get_json()["items"]] == [None, ["sport"]]
    assert client.delete(f"{text_}/feedback").status_code == 204
    assert client.get(text_).get_json()["feedback"] is None
    # Neither is a text reached as a row of a file, nor a row as a text.
    request_id = text_.rsplit("/", 1)[1].partition("-")[0]
    client.post(f"{text_}/feedback", json={"topics": []})
    for missing in (
        f"{V1}/jobs/{request_id}/rows/1/feedback",
        f"{V1}/classifications/{job['id']}-2/feedback",
        f"{rows}/0/feedback",
        f"{rows}/{2**40}/feedback",
        f"{V1}/classifications/nothing/feedback",
    ):
        assert_problem(client.delete(missing), 404, "not_found")
    assert client.get(text_).get_json()["feedback"] == []
    assert client.get(results).get_json()["items"][1]["feedback"] == ["sport"]


def test_what_was_said_of_what_has_expired_can_be_forgotten(
    client: FlaskClient, worker: Worker, engine: Engine
) -> None:
    def judged() -> int:
        with transaction(engine) as connection:
            return int(connection.execute(text("SELECT count(*) FROM feedback")).scalar_one())

    job = upload(client, f"text\n{MATCH}\n{PIE}\n".encode()).get_json()
    text_ = post_text(client, worker, text=PIE)
    for address in (text_, f"{job['links']['self']}/rows/1", f"{job['links']['self']}/rows/2"):
        client.post(f"{address}/feedback", json={"topics": ["sport"]})
    # What is there is not expired: posted texts are no file, whose judgements would go by this.
    request_id = text_.rsplit("/", 1)[1].partition("-")[0]
    assert_problem(client.delete(f"{V1}/jobs/{request_id}"), 404)
    with transaction(engine) as connection:
        day = connection.execute(text("SELECT day FROM jobs LIMIT 1")).scalar_one()
        connection.execute(text("UPDATE feedback SET owner = 'boris' WHERE row_no = 2"))
    run(engine, lambda connection: partitions.drop_day(connection, day))
    assert judged() == 3
    assert_problem(client.get(job["links"]["self"]), 404)
    assert client.delete(job["links"]["self"]).status_code == 204
    assert_problem(client.delete(job["links"]["self"]), 404)
    assert judged() == 2, "that of another owner is not ours to remove"
    assert client.delete(f"{text_}/feedback").status_code == 204
    assert_problem(client.delete(f"{text_}/feedback"), 404)
    assert judged() == 1


def test_judgements_become_a_folder_to_train_with(
    client: FlaskClient, worker: Worker, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    for fields, topics in (
        ({"text": MATCH, "image2text": "счёт 3:0"}, ["humour"]),
        ({"text": "Купите билет на матч"}, ["sport", "ads"]),
        ({"text": PIE}, []),
        ({"text": MATCH, "image2text": "счёт 3:0"}, ["sport"]),
    ):
        address = post_text(client, worker, **fields)
        assert client.post(f"{address}/feedback", json={"topics": topics}).status_code == 200
    # Names and order are those of the active model, whatever others there are.
    others = [Topic("ads", "Ads", "Ads", 0.5), Topic("sport", "Sport", "Sport", 0.5)]
    with transaction(engine) as connection:
        fleet.register_model(connection, name="b", version="1", sha256="b" * 64, topics=others, card={}, activate=False)
    out = tmp_path / "judged"
    done = from_feedback(settings, out)
    assert done.exit_code == 0, done.output
    assert "2 posts with topics, 1 with none" in done.output
    assert "1 judgements were replaced" in done.output
    found = data.read_folder(out)
    assert [topic.name for topic in found.topics] == ["Спорт", "Реклама"]
    labelled = {post: row.tolist() for post, row in zip(found.posts, found.labels, strict=True)}
    assert labelled == {
        Post(MATCH, "счёт 3:0"): [1.0, 0.0],
        Post("Купите билет на матч"): [1.0, 1.0],
    }
    assert counter_examples.read([Source(out / "none" / "feedback.csv", ("feedback",))]).posts == (Post(PIE),)
    again = from_feedback(settings, out)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_judgements_correct_the_data_that_they_are_merged_with(
    client: FlaskClient, worker: Worker, settings: Settings, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "names.json").write_text(json.dumps({"weather": {"name": "Погода", "name_en": "Weather"}}), "utf-8")
    (old / "ads.csv").write_text(f"doc_text\n{MATCH}\n{PIE}\nСкидки\n", "utf-8")
    (old / "weather.csv").write_text("doc_text\nДождь\n", "utf-8")
    for words, topics in ((MATCH, ["sport"]), (PIE, [])):
        client.post(f"{post_text(client, worker, text=words)}/feedback", json={"topics": topics})
    out = tmp_path / "new"
    done = from_feedback(settings, out, "--merge", old)
    assert done.exit_code == 0, done.output
    assert "2 posts of" in done.output
    assert [row["doc_text"] for row in rows_of(out / "ads.csv")] == ["Скидки"]
    assert [row["doc_text"] for row in rows_of(out / "sport.csv")] == [MATCH]
    assert [row["doc_text"] for row in rows_of(out / "weather.csv")] == ["Дождь"]
    assert json.loads((out / "names.json").read_text("utf-8"))["weather"]["name_en"] == "Weather"


def test_without_judgements_or_a_database_there_is_one_sentence(settings: Settings, tmp_path: Path, app: Any) -> None:
    nothing = from_feedback(settings, tmp_path / "out")
    assert (nothing.exit_code, nothing.stdout) == (2, "")
    assert "Nobody has said yet" in nothing.stderr
    future = from_feedback(settings, tmp_path / "out", "--since", "2999-01-01")
    assert future.exit_code == 2
    nowhere = CliRunner(env={"RUBRIKA_DATA_DIR": str(tmp_path / "empty"), "DATABASE_URL": "", "REDIS_URL": ""}).invoke(
        main, ["data", "from-feedback", str(tmp_path / "out")]
    )
    assert nowhere.exit_code == 2
    assert "start the service" in nowhere.stderr
    assert not (tmp_path / "out").exists()
