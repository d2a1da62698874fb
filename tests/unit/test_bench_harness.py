"""What benchmarks share: whose time counts, what a single value tells, and that nothing is left running."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench import throughput
from bench.harness import in_turns, interleaved, started, summary
from jobs.settings import PROJECT_ROOT

BENCH = """
import signal, sys, threading
from bench import harness

# Else it would be ignored below `nohup`, as `harness.run` leaves it there.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

harness.SERVICE = (sys.executable, "-c", sys.argv[1])
harness.END_SECONDS = 0.5

def main():
    with harness.service() as running:
        print(running.pid, flush=True)
        threading.Event().wait()

harness.run(main)
"""
SAYS_ITS_PORT = "import os, signal; print(os.environ['RUBRIKA_PORT'], flush=True); signal.pause()"
DOES_NOT_LISTEN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SAYS_ITS_PORT}"


class FakeService(ThreadingHTTPServer):
    """Takes a job that is done as soon as it is there, and says so when it is asked."""

    accepted = 0.0


class Handler(BaseHTTPRequestHandler):
    server: FakeService

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.accepted = time.time()
        self.answer(None)

    def do_GET(self) -> None:
        self.answer(datetime.fromtimestamp(self.server.accepted, UTC).isoformat())

    def do_DELETE(self) -> None:
        self.answer(None)

    def answer(self, finished_at: str | None) -> None:
        body = json.dumps({"finished_at": finished_at, "links": {"self": "/job"}, "rows": {"succeeded": 3}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def fake_service() -> Iterator[FakeService]:
    with FakeService(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_job_that_ends_between_two_looks_took_until_its_end(fake_service: FakeService) -> None:
    host, port = "127.0.0.1", fake_service.server_address[1]
    before = time.time()
    arms = {"ours": lambda: throughput.through_service(host, port, b"text", 3)}
    [seconds] = in_turns(arms, 1, warm_ups=0)["ours"]
    assert seconds <= fake_service.accepted - before


def test_every_round_runs_all_arms_and_the_first_counts_for_nothing() -> None:
    ran: list[str] = []

    def arm(name: str) -> float:
        ran.append(name)
        return float(len(ran))

    seconds = in_turns({"a": lambda: arm("a"), "b": lambda: arm("b")}, 2)
    assert [sorted(ran[start : start + 2]) for start in (0, 2, 4)] == [["a", "b"]] * 3
    assert sorted(seconds["a"] + seconds["b"]) == [3.0, 4.0, 5.0, 6.0]
    _, returned = interleaved({"a": lambda: "what a says", "b": lambda: "what b says"}, 1)
    assert returned == {"a": "what a says", "b": "what b says"}


def test_a_single_value_has_no_quartiles() -> None:
    assert summary([2.0]) == {"median": 2.0}
    assert summary([1.0, 2.0, 3.0]) == {"median": 2.0, "q1": 1.5, "q3": 2.5, "min": 1.0, "max": 3.0}


@pytest.mark.parametrize("stand_in", [SAYS_ITS_PORT, DOES_NOT_LISTEN], ids=["it listens", "it does not listen"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_benchmark_that_is_told_to_end_leaves_no_service(stand_in: str, number: signal.Signals) -> None:
    command = [sys.executable, "-c", BENCH, stand_in]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        pid = int(bench.stdout.readline())
        try:
            bench.send_signal(number)
            assert bench.wait(60) == 128 + number
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        finally:
            bench.kill()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


LEAVES_ANOTHER = """
import signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
signal.pause()
"""


def test_what_a_server_has_started_ends_with_it() -> None:
    with started([sys.executable, "-c", LEAVES_ANOTHER], os.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
    # The other one holds this pipe too.
    assert select.select([process.stdout], [], [], 30)[0]
    with process.stdout:
        assert process.stdout.read() == ""
