"""Another model is activated while a worker is at work: nothing is lost, and what comes later is for the new one."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.settings import PROJECT_ROOT
from ml import artifact
from ml.classifier import Classifier
from ml.posts import Post
from tests.e2e.rows import csv_of
from tests.e2e.service import V1, Service
from tests.support import environment_outside, wait_until
from tests.tiny_model import make_tiny_model

ROWS = 20_000
AFTER = "Сборная выиграла матч"


def rubrika(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=PROJECT_ROOT,
        env={**environment_outside(), **service.environment(), "RUBRIKA_MODEL": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two models that answer differently."""
    return [make_tiny_model(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))]


def probabilities(folder: Path, cache: Path) -> dict[str, float]:
    """What a model says of the text that comes after the change, by topic."""
    classifier = Classifier.load(folder, threads=1, cache_dir=cache)
    said = classifier.predict([Post(AFTER)]).probabilities[0]
    return {topic.id: float(one) for topic, one in zip(classifier.info.topics, said, strict=True)}


def test_a_worker_changes_over_to_a_model_that_is_activated(
    service: Service, models: list[Path], tmp_path: Path
) -> None:
    first, second = (artifact.read(folder).info for folder in models)
    before, after = (probabilities(folder, tmp_path) for folder in models)
    assert max(abs(before[topic] - after[topic]) for topic in after) > 0.2, "their answers can be told apart"
    service.env |= {"RUBRIKA_MODEL": "", "RUBRIKA_CACHE_ROWS": "0", "RUBRIKA_THREADS": "1"}
    service.env["RUBRIKA_LEASE_SECONDS"] = "60"
    for command in ("api", "sweeper"):
        service.start(command)
    wait_until(lambda: service.get("/healthz").status == 200, what="the API")
    done = rubrika(service, "models", "activate", str(models[0]))
    assert done.returncode == 0, done.stderr
    worker = service.start("worker")
    service.wait_ready()
    job = service.upload(csv_of([f"пост номер {number}" for number in range(ROWS)]))
    address = f"{V1}/jobs/{job['id']}"
    wait_until(lambda: service.get(address).json["rows"]["succeeded"] > 0, what="the first rows")

    # It stands still meanwhile, so that the file is not done however quick it is.
    worker.send_signal(signal.SIGSTOP)
    activated = rubrika(service, "models", "activate", str(models[1]))
    assert activated.returncode == 0, activated.stderr
    assert f"{second.name}@{second.version}" in activated.stdout
    assert service.get(address).json["status"] == "running"
    worker.send_signal(signal.SIGCONT)

    def runs_second() -> bool:
        listed = json.loads(rubrika(service, "models", "list", "--json").stdout)
        active = [model for model in listed if model["active"]]
        assert [model["sha256"] for model in active] == [second.sha256]
        return bool(active[0]["workers"])

    wait_until(runs_second, 60, what="a worker with the second model")
    wait_until(lambda: service.get(address).json["finished_at"], 120, what="the end of the file")
    rows = service.get(address).json["rows"]
    assert (rows["total"], rows["succeeded"], rows["failed"]) == (ROWS, ROWS, 0)
    assert worker.poll() is None
    text = service.classify({"text": AFTER}, wait=30)
    assert text.status == 200
    assert {topic["topic"]: topic["probability"] for topic in text.json["topics"]} == pytest.approx(after, abs=0.03)
    assert service.get(f"{V1}/models").json["items"][0]["sha256"] == second.sha256
    assert {model["sha256"] for model in service.get(f"{V1}/models").json["items"]} == {first.sha256, second.sha256}
    shown = rubrika(service, "models", "show", second.name)
    assert shown.returncode == 0, shown.stderr
    assert second.sha256 in shown.stdout


def test_a_model_that_is_not_here_or_damaged_is_not_activated(service: Service, models: list[Path]) -> None:
    service.env |= {"RUBRIKA_MODEL": str(models[0]), "RUBRIKA_THREADS": "1"}
    service.start_all(worker="worker")
    weights = models[1] / artifact.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    for model, words in ((str(models[1]), artifact.WEIGHTS), ("nobody@1.0.0", "neither a folder nor a model")):
        refused = rubrika(service, "models", "activate", model)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr
    assert [item["sha256"] for item in service.get(f"{V1}/models").json["items"]] == [
        artifact.read(models[0]).info.sha256
    ]
    assert service.classify({"text": "всё по-прежнему"}, wait=30).status == 200
