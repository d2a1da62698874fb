"""How long `rubrika up` waits for its first worker: longer than usual as long as that tells what it is doing."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import Settings
from local import up
from local.processes import Child

COMMANDS = up.UpCommands(migrate=("migrate",), api=("api",), worker=("worker",), sweeper=("sweeper",))


class Recorder:
    """Stands for the supervisor: nothing runs, and the children in `news` have printed something."""

    def __init__(self) -> None:
        self.news: set[str] = set()
        self.at_work: Callable[[], bool] = lambda: False

    def start(self, *children: Child) -> None:
        self.names = [child.name for child in children]

    def run_once(self, child: Child, timeout: float) -> None:
        pass

    def wait(self, ready: Callable[[], bool], timeout: float, what: str, **options: Any) -> None:
        self.at_work = options["at_work"]

    def has_news(self, name: str) -> bool:
        assert name in self.names
        return name in self.news

    def run(self) -> None:
        pass


@pytest.mark.parametrize(
    ("workers", "news", "lacks_only_workers", "at_work"),
    [
        (1, {"worker"}, True, True),
        (2, {"worker-2"}, True, True),
        (1, set(), True, False),
        (1, {"api", "sweeper"}, True, False),
        (1, {"worker"}, False, False),
        (0, {"api"}, True, False),
    ],
)
def test_a_worker_that_prints_something_is_given_its_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    news: set[str],
    lacks_only_workers: bool,
    at_work: bool,
) -> None:
    monkeypatch.setattr(up, "_start_servers", lambda *_: {"DATABASE_URL": "postgresql://here"})
    monkeypatch.setattr(up, "_lacks_only_workers", lambda _: lacks_only_workers)
    settings = replace(Settings.from_env({"RUBRIKA_DATA_DIR": str(tmp_path)}), workers=workers, auth="off")
    supervisor = Recorder()
    supervisor.news = news
    with ExitStack() as afterwards:
        up._serve(supervisor, settings, COMMANDS, afterwards)  # type: ignore[arg-type]
    assert supervisor.at_work() is at_work


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of an API that says so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/readyz"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "postgres", "redis", "worker", "expected"),
    [
        (503, True, True, False, True),
        (503, False, True, False, False),
        (503, True, False, False, False),
        (200, True, True, True, False),
    ],
)
def test_only_the_worker_is_missing(status: int, postgres: bool, redis: bool, worker: bool, expected: bool) -> None:
    """A worker that cannot reach Redis says so every few seconds: no reason to wait for an hour."""
    checks = {"postgres": {"ok": postgres}, "redis": {"ok": redis}, "worker": {"ok": worker, "alive": int(worker)}}
    with answering(status, json.dumps({"status": "not_ready", "checks": checks})) as url:
        assert up._lacks_only_workers(url) is expected


@pytest.mark.parametrize("body", ["", "no JSON", "[]", '{"checks": null}', '{"checks": {"postgres": true}}'])
def test_another_answer_says_nothing(body: str) -> None:
    with answering(503, body) as url:
        assert not up._lacks_only_workers(url)


def test_no_answer_says_nothing() -> None:
    with answering(503, "") as url:
        pass
    assert not up._lacks_only_workers(url)
