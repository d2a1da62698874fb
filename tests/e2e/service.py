"""The service as real processes, which a test can stop, kill, freeze and start again."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.settings import Settings
from tests.e2e.nursery import Launch, Process, launch
from tests.support import environment_outside, wait_until

V1 = "/api/v1"
COMMANDS = {
    "api": ("-m", "cli.main", "api"),
    "sweeper": ("-m", "cli.main", "sweeper"),
    "worker": ("-m", "cli.main", "worker"),
    "fake": ("-m", "tests.fake_classifier"),
    "impatient": ("-m", "tests.impatient_api"),
}


@dataclass(frozen=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


@dataclass
class Service:
    """Processes of one service on the loopback interface; `stop` and `discard` end those that still run."""

    settings: Settings
    logs: Path
    env: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    launch: Launch = launch

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self, command: str, **env: str) -> Process:
        """Start one process: api (or impatient, one that soon gives up slow clients), sweeper, worker (the model of the
        settings) or fake (a worker without a model)."""
        log = self.logs / f"{command}-{len(self.processes)}.log"
        process = self.launch(COMMANDS[command], {**environment_outside(), **self.environment(), **env}, log)
        self.processes.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """The settings of its processes, as variables."""
        return {
            "DATABASE_URL": self.settings.database_url,
            "REDIS_URL": self.settings.redis_url,
            "RUBRIKA_PORT": str(self.settings.port),
            "RUBRIKA_DATA_DIR": str(self.settings.data_dir),
            "RUBRIKA_MODEL": str(self.settings.model),
            "RUBRIKA_API_PROCESSES": "1",
            "RUBRIKA_LEASE_SECONDS": "1",
            "RUBRIKA_SWEEP_SECONDS": "0.2",
            "RUBRIKA_CHUNK_ROWS": "50",
            **self.env,
        }

    def start_all(self, worker: str = "fake", **env: str) -> None:
        """Start api, sweeper and one worker, and wait until a text would be computed."""
        for command in ("api", "sweeper", worker):
            self.start(command, **env)
        self.wait_ready()

    def wait_ready(self, timeout: float = 90) -> None:
        """Wait until a text would be computed. Fails at once when a process gives up by itself."""
        wait_until(
            lambda: self.get("/readyz").status == 200 or self._gave_up(),
            timeout,
            what="the service to be ready",
            every=0.1,
        )
        assert not self._gave_up(), f"a process ended at its start\n{self.tails()}"

    def _gave_up(self) -> bool:
        return any(process.poll() not in {None, 0, -signal.SIGKILL} for process in self.processes)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 70,
    ) -> Answer:
        """One request. A connection that is refused or broken is an answer with status 0."""
        request = urllib.request.Request(self.url + path, data=body, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return Answer(0, {}, b"null")

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def classify(self, body: Any, wait: int = 0, *, key: str = "", timeout: float = 70) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Prefer": f"wait={wait}"} if wait else {}) | _keyed(key)
        return self.call("POST", f"{V1}/classifications", json.dumps(body).encode(), headers, timeout)

    def post_file(self, data: bytes, filename: str = "posts.csv", *, key: str = "", timeout: float = 70) -> Answer:
        """Send a CSV file, whatever the answer."""
        headers = {"Content-Type": "text/csv"} | _keyed(key)
        return self.call("POST", f"{V1}/jobs?filename={filename}", data, headers, timeout)

    def upload(self, data: bytes, filename: str = "posts.csv", *, timeout: float = 70) -> dict[str, Any]:
        """Upload a CSV file; the job. Fails when it is not accepted."""
        answer = self.post_file(data, filename, timeout=timeout)
        assert answer.status == 202, answer.body.decode()
        job: dict[str, Any] = answer.json
        return job

    def job(self, job: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.get(job["links"]["self"])
        return answer.json if answer.status == 200 else {}

    def wait_finished(self, job: Mapping[str, Any], timeout: float = 120) -> dict[str, Any]:
        """Wait until the job has a terminal status, and return it."""
        try:
            found = wait_until(
                lambda: found if (found := self.job(job)).get("finished_at") else None,
                timeout,
                what="the job to finish",
                every=0.1,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.job(job)}\n{self.tails()}") from error
        assert found
        return found

    def rows(self, job: Mapping[str, Any]) -> list[dict[str, Any]]:
        """All rows of a job as its NDJSON export gives them."""
        return [json.loads(line) for line in self.get(job["links"]["ndjson"]).body.splitlines()]

    def tails(self) -> str:
        """The ends of the logs, for the message of a failure."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.logs.glob("*.log")))

    def kill(self, process: Process) -> None:
        """SIGKILL, and the body is gone when this returns."""
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        """End everything in order; what does not end is killed."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(process)

    def discard(self) -> None:
        """Kill everything, with all that it has started, when nobody looks any more at how it ends."""
        for process in self.processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)
