"""A worker on trial beside another one, and alone: what it computes, and what it leaves; over a real drain."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from cli.main import main
from jobs import fleet, sweeping
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.integration.explain_support import Recorder
from worker import trial as trial_module
from worker.drain import Drain
from worker.heart import Heart
from worker.main import register
from worker.succession import choose
from worker.trial import look_for_work

TRIED = "fake@1.0.0"


@pytest.fixture
def tried(app: Any, settings: Settings, engine: Engine, classifier: Recorder, tmp_path: Path) -> Iterator[Drain]:
    """The drain of a worker on trial; its model is the fake."""
    settings = replace(settings, model=tmp_path, model_is_given=True, trial=True)
    choice = run(engine, lambda c: choose(c, settings))
    model_id = register(engine, settings, classifier, choice)  # type: ignore[arg-type]
    heart = Heart(engine, worker="tried", model_id=model_id, device="fake", lease_seconds=10, trial=True)
    heart.start()
    bell = app.extensions["rubrika"].bell
    made = Drain(settings, engine, bell, classifier, model_id, heart)  # type: ignore[arg-type]
    yield made
    made.close()
    heart.stop()


def now(client: FlaskClient, resource: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = client.get(resource["links"]["self"]).get_json()
    return found


def models_of(client: FlaskClient, job: dict[str, Any]) -> set[str]:
    return {row["model"] for row in client.get(f"{job['links']['results']}?limit=100").get_json()["items"]}


def explanation(job: dict[str, Any], row: int = 1) -> str:
    return f"{V1}/jobs/{job['id']}/rows/{row}/explanation"


def test_beside_another_worker_it_computes_what_names_its_model_and_nothing_else(
    client: FlaskClient, worker: Worker, tried: Drain, classifier: Recorder
) -> None:
    assert client.get(f"{V1}/topics").get_json()["model"] == "tiny@1.0.0"
    posted = client.post(f"{V1}/classifications", json={"text": "матч", "explain": True}).get_json()
    first = upload(client, CSV).get_json()
    tried.run()
    assert classifier.computed == []
    assert now(client, first)["status"] == "queued"
    assert worker.work() == 4
    assert (now(client, first)["status"], now(client, first)["model"]) == ("succeeded", "tiny@1.0.0")

    # What the other has classified is for the other to explain.
    assert client.post(explanation(first)).status_code == 202
    tried.run()
    assert client.get(explanation(first)).get_json()["status"] == "queued"
    assert client.get(f"{V1}/classifications/{posted['id']}").get_json()["explanation"] is None
    assert classifier.computed == []

    again = client.post(first["links"]["rerun"], json={"model": "fake"}).get_json()
    assert worker.work() == 0
    tried.run()
    assert (now(client, again)["status"], now(client, again)["model"]) == ("succeeded", TRIED)
    assert client.post(explanation(again)).status_code == 202
    tried.run()
    assert client.get(explanation(again)).get_json()["status"] == "succeeded"
    compared = client.get(f"{V1}/jobs/{first['id']}/compare/{again['id']}").get_json()
    assert (compared["first"]["model"], compared["second"]["model"]) == ("tiny@1.0.0", TRIED)
    assert client.get(f"{V1}/topics").get_json()["model"] == "tiny@1.0.0"


def test_it_stays_on_trial_when_its_own_model_is_activated(
    client: FlaskClient, worker: Worker, tried: Drain, engine: Engine, classifier: Recorder
) -> None:
    run(engine, lambda c: c.execute(text("UPDATE models SET active = false WHERE active")))
    run(engine, lambda c: c.execute(text("UPDATE models SET active = true WHERE name = 'fake'")))
    first = upload(client, CSV).get_json()
    again = client.post(first["links"]["rerun"]).get_json()
    tried.run()
    assert (now(client, first)["status"], now(client, again)["status"]) == ("queued", "succeeded")


def test_alone_it_leaves_new_texts_waiting_and_nobody_counts_on_it(
    client: FlaskClient, worker: Worker, tried: Drain, engine: Engine
) -> None:
    first = upload(client, CSV).get_json()
    worker.work()
    run(engine, lambda c: fleet.worker_left(c, "tiny"))
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["checks"]["worker"]) == (503, {"ok": False, "alive": 0})
    assert "rubrika_workers{" not in client.get("/metrics").text
    late = client.post(f"{V1}/classifications", json={"text": "позже"}).get_json()
    again = client.post(first["links"]["rerun"], json={"model": "fake"}).get_json()
    tried.run()
    assert now(client, again)["status"] == "succeeded"
    assert client.get(f"{V1}/classifications/{late['id']}").get_json()["status"] == "queued"

    refused = assert_problem(client.post(first["links"]["rerun"]), 409, "model_not_running")
    assert f"Running now: {TRIED}." in refused["detail"]
    assert "RUBRIKA_TRIAL=1 RUBRIKA_MODEL=FOLDER rubrika worker" in refused["detail"]

    # Nobody is sent to the model on trial for an explanation, at once or later: the other may come back.
    assert client.post(explanation(first)).status_code == 202
    long_ago = "now() - interval '1 hour'"
    for statement in (
        f"UPDATE explanations SET queued_at = {long_ago}",
        f"UPDATE workers SET started_at = {long_ago}",
        f"UPDATE workers SET seen_at = {long_ago} WHERE name = 'tiny'",
    ):
        run(engine, lambda c, one=statement: c.execute(text(one)))
    run(engine, sweeping.sweep)
    assert client.get(explanation(first)).get_json()["status"] == "queued"


def test_the_list_of_models_says_who_is_on_trial(worker: Worker, tried: Drain, settings: Settings) -> None:
    env = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    listed = CliRunner(env=env).invoke(main, ["models", "list"]).stdout.splitlines()
    assert [line.split()[:2] for line in listed if line.startswith("*")] == [["*", "tiny@1.0.0"]]
    assert [line for line in listed if "on trial" in line] == [
        "    tried: fake, on trial: it computes only what names this model"
    ]


def test_it_looks_again_whatever_a_look_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_module, "LOOK_SECONDS", 0.01)

    class Looks:
        """Fails at first, and asks the process to end when it was looked three times."""

        def __init__(self) -> None:
            self.runs = 0
            self.stopped = threading.Event()

        def run(self) -> None:
            self.runs += 1
            if self.runs == 1:
                raise UnavailableError("away")
            if self.runs == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                assert self.stopped.wait(10)

        def stop(self) -> None:
            self.stopped.set()

    looks = Looks()
    before = signal.getsignal(signal.SIGTERM)
    look_for_work(looks)  # type: ignore[arg-type]
    assert looks.runs == 3
    assert signal.getsignal(signal.SIGTERM) is before
