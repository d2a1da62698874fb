"""Every accepted text ends with exactly one result or one error, whatever becomes of the workers."""

import os
import random
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobs.bell import DRAIN_TASK, QUEUE, celery_app
from tests.e2e.chaos import sql
from tests.e2e.rows import assert_whole, posts
from tests.e2e.service import V1, Answer, Service
from tests.support import wait_until


def wait_for_rows(service: Service, job: Mapping[str, Any], enough: int) -> None:
    wait_until(lambda: service.job(job)["rows"]["succeeded"] >= enough, 60, what="the job to go on")


def test_workers_killed_in_the_middle_change_nothing_but_the_time(service: Service) -> None:
    texts, data = posts(2000)
    service.start_all(FAKE_SECONDS="0.002")
    job = service.upload(data)
    shuffler = random.Random(7)
    for _ in range(4):
        before = service.job(job)["rows"]["succeeded"]
        wait_for_rows(service, job, min(before + shuffler.randint(60, 250), 2000))
        service.kill(service.processes[-1])
        service.start("fake", FAKE_SECONDS="0.002")
    done = service.wait_finished(job)
    assert (done["status"], done["rows"]["succeeded"]) == ("succeeded", 2000)
    assert_whole(service.rows(job), texts)


@pytest.mark.parametrize("deadly", ["!kill", "!choke"])
def test_a_text_that_kills_every_worker_fails_alone(service: Service, deadly: str) -> None:
    """Whether it kills when it is computed or already when it is tokenised, beside another chunk in hand."""
    texts, data = posts(120, {77: deadly})
    service.start("api")
    service.start("sweeper")
    stopping = threading.Event()

    def keep_a_worker() -> None:
        while not stopping.is_set():
            worker = service.start("fake")
            while worker.poll() is None and not stopping.wait(0.05):
                pass

    keeper = threading.Thread(target=keep_a_worker)
    keeper.start()
    try:
        service.wait_ready()
        job = service.upload(data)
        other = service.upload(posts(30)[1])
        done = service.wait_finished(job, 180)
        assert service.wait_finished(other)["status"] == "succeeded"
    finally:
        stopping.set()
        keeper.join()
    assert (done["status"], done["rows"]["succeeded"], done["rows"]["failed"]) == ("partially_succeeded", 119, 1)
    rows = service.rows(job)
    assert_whole(rows, texts)
    assert [row["row"] for row in rows if row["error"]] == [77]
    assert rows[76]["error"].startswith("worker_lost: ")


def test_a_network_that_breaks_on_a_text_fails_that_text_alone(service: Service) -> None:
    texts, data = posts(60, {5: "!explode", 50: "!fail"})
    service.start_all()
    job = service.upload(data)
    done = service.wait_finished(job)
    assert (done["rows"]["succeeded"], done["rows"]["failed"]) == (58, 2)
    rows = service.rows(job)
    assert_whole(rows, texts)
    assert [row["row"] for row in rows if row["error"]] == [5, 50]


def test_a_worker_that_sleeps_past_its_lease_changes_nothing_when_it_wakes(service: Service) -> None:
    texts, data = posts(300)
    service.start_all(FAKE_SECONDS="0.004")
    sleeper = service.processes[-1]
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] > 0, what="the first rows")
    os.kill(sleeper.pid, signal.SIGSTOP)
    other = service.start("fake")
    done = service.wait_finished(job)
    assert done["status"] == "succeeded"
    other.terminate()
    assert other.wait(20) == 0
    before = results_of(service)
    os.kill(sleeper.pid, signal.SIGCONT)
    # Nobody but the sleeper is left to compute this, and it ends in order: what it held is past.
    assert service.classify({"text": "после"}, wait=20).status == 200
    sleeper.terminate()
    assert sleeper.wait(20) == 0
    assert service.job(job) == done
    assert before < results_of(service)
    assert len(results_of(service)) == len(texts) + 1
    assert_whole(service.rows(job), texts)


def results_of(service: Service) -> set[tuple[object, ...]]:
    """Every recorded result with the transaction that has written it."""
    return set(sql(service.settings.database_url, "SELECT job_id, row_no, xmin::text FROM results"))


def test_a_worker_that_is_asked_to_stop_leaves_nothing_half_done(service: Service) -> None:
    texts, data = posts(400)
    service.start_all(FAKE_SECONDS="0.005")
    job = service.upload(data)
    wait_until(lambda: service.job(job)["rows"]["succeeded"] > 0, what="the first rows")
    worker = service.processes[-1]
    worker.terminate()
    assert worker.wait(20) == 0
    after = service.job(job)
    assert 0 < after["rows"]["succeeded"] < 400
    service.start("fake")
    assert service.wait_finished(job)["status"] == "succeeded"
    assert_whole(service.rows(job), texts)


def test_a_message_given_five_times_is_one_inference(service: Service) -> None:
    texts, data = posts(500)
    # No lease shall end while a worker waits for a core: its chunk would rightly be given to another.
    service.env["RUBRIKA_LEASE_SECONDS"] = "30"
    service.start_all(FAKE_SECONDS="0.001")
    service.start("fake", FAKE_SECONDS="0.001")
    app = celery_app(service.settings)
    job = service.upload(data)
    for _ in range(5):
        app.send_task(DRAIN_TASK, queue=QUEUE)
    assert service.wait_finished(job)["rows"]["succeeded"] == 500
    before = results_of(service)
    for _ in range(5):
        app.send_task(DRAIN_TASK, queue=QUEUE)
    assert service.classify({"text": "после"}, wait=20).status == 200
    app.close()
    assert before < results_of(service)
    assert len(results_of(service)) == 501
    assert set(sql(service.settings.database_url, "SELECT attempts FROM chunks")) == {(1,)}
    assert_whole(service.rows(job), texts)


def test_twenty_equal_requests_at_once_with_one_key_are_one_job(service: Service) -> None:
    service.start_all(RUBRIKA_API_PROCESSES="2")
    _, data = posts(3000)
    gate = threading.Barrier(20)

    def post(number: int) -> Answer:
        gate.wait()
        if number % 2:
            return service.post_file(data, key="file")
        return service.classify({"text": "один раз"}, key="text")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {answer.status for answer in answers} <= {202, 200, 409}
    for first, path in ((1, "jobs"), (0, "classifications")):
        ids = {answer.json["id"] for answer in answers[first::2] if answer.status in {200, 202}}
        assert len(ids) == 1
        assert [item["id"] for item in service.get(f"{V1}/{path}").json["items"]] == list(ids)
    assert service.post_file(data, key="file").json["id"] == answers_id(answers[1::2])
    assert service.post_file(data + b"more\n", key="file").status == 422


def answers_id(answers: list[Answer]) -> str:
    [found] = {answer.json["id"] for answer in answers if answer.status == 202}
    return str(found)


def test_an_interactive_text_overtakes_a_file(service: Service) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    job = service.upload(posts(500)[1])
    wait_until(lambda: service.job(job)["status"] == "running", what="the file to be begun")
    answer = service.classify({"text": "срочно"}, wait=20)
    assert (answer.status, answer.json["status"]) == (200, "succeeded")
    assert service.job(job)["status"] == "running"
    assert service.call("POST", f"{V1}/jobs/{job['id']}/cancel").status == 202
    assert service.wait_finished(job)["status"] == "cancelled"
