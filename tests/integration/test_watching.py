"""Dashboard, alerts and scaling ask for what is there: names and labels of `/metrics`, rows as Postgres has them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text

from jobs import accepting, fleet, sweeping
from jobs.database import run
from jobs.records import NewJob
from jobs.settings import PROJECT_ROOT
from jobs.states import JobKind, Lane
from tests.integration.api_support import CSV, Worker, upload
from tests.integration.store_support import TOPICS, add, posts, take

DEPLOY = PROJECT_ROOT / "deploy"
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "rubrika.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
METRIC = re.compile(r"(rubrika_\w+)(?:\{([^}]*)\})?")


@pytest.fixture
def offered(client: FlaskClient, worker: Worker, engine: Engine) -> dict[str, dict[str, set[str]]]:
    """The metrics of a service that has done something of everything: name to labels to values."""
    upload(client, CSV)
    worker.work()
    run(engine, sweeping.sweep)
    client.get("/nothing")
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


def used() -> Iterator[tuple[str, str]]:
    for expression in EXPRESSIONS:
        yield from METRIC.findall(expression)


def test_every_metric_and_label_that_is_asked_for_is_there(offered: dict[str, dict[str, set[str]]]) -> None:
    asked = list(used())
    assert len(asked) > 30
    assert {name for name, _ in asked} <= set(offered)
    for name, selector in asked:
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', selector):
            assert label in offered[name], f"{name} has no label {label}"
            if operator == "=" and label != "method":
                assert value in offered[name][label], f"{name} never has {label}={value}"


def test_every_label_that_is_summed_by_is_there(offered: dict[str, dict[str, set[str]]]) -> None:
    known = {label for labels in offered.values() for label in labels} | {"instance"}
    for expression in EXPRESSIONS:
        for listed in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in listed.split(",")} <= known


def test_everything_that_is_offered_is_shown(offered: dict[str, dict[str, set[str]]]) -> None:
    shown = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _ in used()}
    given = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in offered if name.startswith("rubrika_")}
    # What is queued is told in rows; chunks are for whoever looks closer. `_created` is the library's own.
    assert given - shown <= {"rubrika_queue_chunks", "rubrika_http_requests"}


def test_the_dashboard_can_be_read_by_grafana() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & mine, f"{panel['title']} lies over another"
        taken |= mine
        assert panel["datasource"]["uid"] == "${source}"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    guide = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    assert f"| `{rule['alert']}` |" in guide


def test_alerts_speak_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, which comes with Prometheus, is not there")
    for asked in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(
            [promtool, *asked], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_keda_asks_how_many_rows_wait_or_are_in_work(engine: Engine, model: int) -> None:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "base" / "scaling.yaml").read_text())
    [scaled] = [found for found in documents if found["kind"] == "ScaledObject"]
    query = text(scaled["spec"]["triggers"][0]["metadata"]["query"])
    assert run(engine, lambda c: c.execute(query).scalar_one()) == 0
    add(engine, 10, chunk_rows=4)
    assert run(engine, lambda c: c.execute(query).scalar_one()) == 10
    assert run(engine, lambda c: take(c, seconds=30)) is not None
    assert run(engine, lambda c: c.execute(query).scalar_one()) == 10
    # What names another model is nothing for the workers that are scaled.
    other = run(
        engine,
        lambda c: fleet.register_model(
            c, name="n", version="2", sha256="1" * 64, topics=TOPICS, card={}, activate=False
        ),
    )
    for asked in (other, model):
        named = NewJob("me", JobKind.FILE)
        accepting.add_job(engine, named, posts(5), lane=Lane.BULK, chunk_rows=5, model_id=asked)
    assert run(engine, lambda c: c.execute(query).scalar_one()) == 15
