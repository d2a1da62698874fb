"""Real processes: whichever of them answers speaks for all, and the log of a job can be followed by its id."""

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.rows import posts
from tests.e2e.service import V1, Service
from tests.support import wait_until


def value(service: Service, name: str, **labels: str) -> float:
    """One sample of `/metrics`; 0 when there is none."""
    text = service.get("/metrics").body.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def test_any_process_tells_the_counts_of_all_and_keeps_those_of_the_dead(service: Service, tmp_path: Path) -> None:
    # In a folder of its own: other services of this machine keep their counts in the common one.
    api = service.start("api", RUBRIKA_API_PROCESSES="3", TMPDIR=str(tmp_path))
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API", every=0.1)
    before = value(service, "rubrika_http_requests_total", method="GET", route=f"{V1}/topics", status="404")
    for number in range(1, 31):
        service.get(f"{V1}/topics")
        found = value(service, "rubrika_http_requests_total", method="GET", route=f"{V1}/topics", status="404")
        assert found == before + number
    children = psutil.Process(api.pid).children()
    assert len(children) == 3
    for child in children[:2]:
        os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: len(psutil.Process(api.pid).children()) == 3, what="the processes to be there again")
    found = value(service, "rubrika_http_requests_total", method="GET", route=f"{V1}/topics", status="404")
    assert found == before + 30
    assert list(tmp_path.glob("rubrika-counts-*"))
    api.terminate()
    api.wait(30)
    assert not list(tmp_path.glob("rubrika-counts-*"))


def test_a_stream_is_counted_while_it_is_held(service: Service) -> None:
    service.start_all(FAKE_SECONDS="0.05")
    job = service.upload(posts(400)[1])
    with urllib.request.urlopen(f"{service.url}{V1}/jobs/{job['id']}/events", timeout=30) as stream:
        assert stream.readline().startswith(b"retry:")
        assert value(service, "rubrika_streams") == 1
    wait_until(lambda: value(service, "rubrika_streams") == 0, what="the stream to be given back")
    assert service.call("POST", f"{V1}/jobs/{job['id']}/cancel").status == 202


GOODBYE = {"", "worker: Warm shutdown (MainProcess)"}
"""What Celery says on stdout when it is told to stop, whatever the format."""


def lines(service: Service) -> list[dict[str, Any]]:
    said = [line for log in service.logs.glob("*.log") for line in log.read_text().splitlines()]
    return [json.loads(line) for line in said if line not in GOODBYE]


def test_a_job_can_be_followed_through_the_logs_and_no_text_is_in_them(service: Service) -> None:
    service.env["RUBRIKA_LOG_FORMAT"] = "json"
    service.start_all("worker")
    answer = service.call(
        "POST",
        f"{V1}/classifications",
        json.dumps({"text": "совершенно секретно", "custom_id": "мой-ключ"}).encode(),
        {"Content-Type": "application/json", "Prefer": "wait=20", "X-Request-Id": "followed-1"},
    )
    assert answer.status == 200
    assert answer.headers["X-Request-Id"] == "followed-1"
    job = answer.json["id"].partition("-")[0]
    service.call("GET", f"{V1}/nothing%0Ainvented", headers={"X-Request-Id": "two\tids"})
    recorded = wait_until(
        lambda: [line for line in lines(service) if line.get("job") == job and line["message"] == "recorded"],
        what="the worker's line",
    )
    assert recorded[0]["lease"]
    [answered] = [line for line in lines(service) if line.get("request") == "followed-1"]
    assert (answered["job"], answered["status"], answered["method"]) == (job, 200, "POST")
    service.stop()
    said = "".join(log.read_text() for log in service.logs.glob("*.log"))
    assert "секретно" not in said
    assert "мой-ключ" not in said
    assert {line["logger"].partition(".")[0] for line in lines(service)} >= {"api", "worker", "gunicorn"}
