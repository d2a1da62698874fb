"""A model on trial beside the active one, with real processes: people notice nothing, and a rerun is computed by it."""

import json
from pathlib import Path

import pytest

from ml import artifact
from tests.e2e.rows import csv_of
from tests.e2e.service import V1, Service
from tests.support import wait_until
from tests.tiny_model import make_tiny_model

TEXTS = 12


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two models of different versions, which answer differently."""
    made = []
    for seed, name in enumerate(("first", "tried")):
        folder = make_tiny_model(tmp_path / name, seed=seed)
        content = json.loads((folder / artifact.SETTINGS).read_text(encoding="utf-8"))
        artifact.write_json(folder / artifact.SETTINGS, content | {"name": name, "version": "1.0.0"})
        artifact.write_manifest(folder)
        made.append(folder)
    return made


def models_of(service: Service) -> dict[str, bool]:
    """The registered models, and whether each is active."""
    items = service.get(f"{V1}/models").json["items"]
    return {f"{item['name']}@{item['version']}": item["active"] for item in items}


def test_beside_a_worker_it_takes_neither_texts_nor_bells(service: Service, models: list[Path]) -> None:
    # A sweeper that rings again would hide a bell that was heard by the wrong one.
    service.env |= {"RUBRIKA_MODEL": "", "RUBRIKA_THREADS": "1", "RUBRIKA_SWEEP_SECONDS": "600"}
    service.start_all("worker", RUBRIKA_MODEL=str(models[0]))
    tried = service.start("worker", RUBRIKA_MODEL=str(models[1]), RUBRIKA_TRIAL="1")
    wait_until(lambda: "tried@1.0.0" in models_of(service) or service._gave_up(), 90, what="the model on trial")
    job = service.upload(csv_of([f"строка {number}" for number in range(120)]))
    for number in range(TEXTS):
        answer = service.classify({"text": f"текст {number}"}, wait=30)
        assert (answer.status, answer.json["model"]) == (200, "first@1.0.0")
    assert service.wait_finished(job)["model"] == "first@1.0.0"

    asked = json.dumps({"model": "tried"}).encode()
    again = service.call("POST", job["links"]["rerun"], asked, {"Content-Type": "application/json"})
    assert again.status == 202, again.body
    done = service.wait_finished(again.json)
    assert (done["status"], done["model"], done["rows"]["succeeded"]) == ("succeeded", "tried@1.0.0", 120)
    compared = service.get(f"{V1}/jobs/{job['id']}/compare/{again.json['id']}").json
    assert compared["rows"]["compared"] == 120

    tried.terminate()
    assert tried.wait(30) == 0
    assert models_of(service) == {"first@1.0.0": True, "tried@1.0.0": False}
    assert service.classify({"text": "и после"}, wait=30).json["model"] == "first@1.0.0"


def test_alone_it_leaves_new_texts_to_a_worker_that_comes(service: Service, models: list[Path]) -> None:
    service.env |= {"RUBRIKA_MODEL": "", "RUBRIKA_THREADS": "1"}
    for command in ("api", "sweeper"):
        service.start(command)
    service.start("worker", RUBRIKA_MODEL=str(models[1]), RUBRIKA_TRIAL="1")
    wait_until(lambda: service.get(f"{V1}/models").status == 200, 60, what="the API")
    wait_until(lambda: models_of(service) or service._gave_up(), 90, what="the model on trial")
    assert models_of(service) == {"tried@1.0.0": False}
    job = service.upload(csv_of(["один", "два"]))
    again = service.call("POST", job["links"]["rerun"], b'{"model": "tried"}', {"Content-Type": "application/json"})
    assert service.wait_finished(again.json)["model"] == "tried@1.0.0"
    # It waited before the rerun did.
    assert (service.job(job)["status"], service.job(job)["model"]) == ("queued", None)
    ready = service.get("/readyz")
    assert (ready.status, ready.json["checks"]["worker"]["alive"]) == (503, 0)
    service.start("worker", RUBRIKA_MODEL=str(models[0]))
    assert service.wait_finished(job)["model"] == "first@1.0.0"
    assert models_of(service) == {"first@1.0.0": True, "tried@1.0.0": False}
