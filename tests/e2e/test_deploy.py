"""A deploy while people work: what is in work is finished, what comes in between is served or refused, never broken."""

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.e2e.rows import assert_whole, posts
from tests.e2e.service import V1, Service
from tests.support import wait_until


def test_a_stopping_api_finishes_the_requests_in_work(service: Service) -> None:
    service.start_all(FAKE_SECONDS="1")
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(service.classify({"text": "долго"}, wait=20).status))
    thread.start()
    wait_until(lambda: service.get(f"{V1}/classifications").json["items"], what="the request to be accepted")
    service.processes[0].terminate()
    thread.join(30)
    assert answers == [200]
    assert service.processes[0].wait(30) == 0


class Clients:
    """Three who post texts one after the other, and what they were answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(3)]
        self.statuses: Counter[int] = Counter()
        self.ids: dict[str, str] = {}

    def _work(self) -> None:
        while not self._stopping.is_set():
            number = next(self._numbers)
            text = f"текст {number}"
            while True:
                answer = self._service.classify({"text": text}, wait=30, key=f"key {number}")
                self.statuses[answer.status] += 1
                if answer.status in {200, 202}:
                    self.ids[answer.json["id"]] = text
                    break

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Let each finish the text in hand; twice is the same as once."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        """Until each of them was answered anew."""
        enough = len(self.ids) + 10
        wait_until(lambda: len(self.ids) >= enough, 60, what="the clients to be answered")


def assert_each_once(service: Service, clients: Clients) -> None:
    """What was accepted is there with its result, once, and nothing else is."""
    found: dict[str, str] = {}
    url = f"{V1}/classifications?limit=100"
    while url:
        page = service.get(url).json
        assert not set(found) & {item["id"] for item in page["items"]}
        found |= {item["id"]: item["doc_text"] for item in page["items"]}
        assert {item["status"] for item in page["items"]} == {"succeeded"}
        url = page.get("next", "")
    assert found == clients.ids


def test_workers_and_an_api_that_are_replaced_one_by_one_fail_no_row(service: Service) -> None:
    """The API is started anew on the same port: in between it refuses, and who repeats under a key loses nothing."""
    texts, data = posts(1500)
    service.start_all(FAKE_SECONDS="0.004")
    service.start("fake", FAKE_SECONDS="0.004")
    api, _, *workers = service.processes
    clients = Clients(service)
    with clients.at_work():
        job = service.upload(data)
        for worker in workers:
            service.start("fake", FAKE_SECONDS="0.002")
            worker.terminate()
            assert worker.wait(30) == 0
            clients.wait_for_more()
        api.terminate()
        assert api.wait(30) == 0
        service.start("api")
        clients.wait_for_more()
    done = service.wait_finished(job)
    assert (done["status"], done["rows"]["failed"]) == ("succeeded", 0)
    assert_whole(service.rows(job), texts)
    # 0 is a connection that was refused.
    assert set(clients.statuses) <= {200, 202, 0}
    assert_each_once(service, clients)


def test_an_api_that_hands_its_port_to_its_successor_breaks_and_refuses_nothing(service: Service) -> None:
    """SIGUSR2 starts the new program on the same open port, SIGTERM then ends the old one (as gunicorn has it)."""
    service.start_all()
    api = service.processes[0]
    clients = Clients(service)
    with clients.at_work():
        before = set(psutil.Process(api.pid).children())
        os.kill(api.pid, signal.SIGUSR2)
        successor = wait_until(
            lambda: next((p for p in psutil.Process(api.pid).children() if p not in before and p.children()), None),
            30,
            what="the new API",
        )
        assert successor is not None
        try:
            clients.wait_for_more()
            api.terminate()
            assert api.wait(30) == 0
            clients.wait_for_more()
            assert successor.is_running()
        finally:
            clients.stop()
            successor.terminate()
            successor.wait(30)
    assert set(clients.statuses) == {200}
    service.start("api")
    service.wait_ready()
    assert_each_once(service, clients)
