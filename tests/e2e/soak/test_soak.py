"""Mixed load with misfortune for an hour, or for `MINUTES`: no 5xx but 503, nothing lost or doubled, memory flat.

    make test-long ARGS="-k soak" MINUTES=10 SOAK_WORKER=fake

Two APIs serve: one is restarted and killed, the other is not, so that its memory can be watched. Likewise for workers
and sweepers. With `SOAK_WORKER=worker` (the default) the workers run the shipped model; with `fake` results are known
beforehand, and each is compared with what it must be.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from redis import Redis

from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.chaos import drop_connections, flush, kill_redis, sql
from tests.e2e.service import Service
from tests.e2e.soak.clients import Person
from tests.e2e.soak.ledger import Ledger
from tests.e2e.soak.memory import trend
from tests.e2e.soak.scales import Scales, private, resident
from tests.e2e.test_state_machine import MISCOUNTED
from tests.support import free_port, wait_until

PEOPLE = 5
ROWS = {"worker": 60, "fake": 400}
DOUBLED = "SELECT job_id, row_no, count(*) FROM results GROUP BY 1, 2 HAVING count(*) > 1"
ORPHANS = "SELECT count(*) FROM results r WHERE NOT EXISTS (SELECT FROM jobs WHERE id = r.job_id)"


class Misfortune:
    """What happens to the parts that are there to suffer."""

    def __init__(self, service: Service, second: Service, redis: EmbeddedValkey, worker: str, seed: int) -> None:
        self._service, self._second, self._redis, self._worker = service, second, redis, worker
        self._dice = random.Random(seed)
        self._api = second.start("api")
        self._parts = {name: service.start(name) for name in (worker, "sweeper")}
        self.happened: list[str] = []

    def strike(self) -> None:
        """One thing, by dice."""
        act = self._dice.choice(
            (self.kill_a_worker, self.stop_a_worker, self.kill_an_api, self.stop_an_api, self.kill_a_sweeper,
             self.wipe_redis, self.restart_redis, self.drop_connections)
        )  # fmt: skip
        act()
        self.happened.append(act.__name__)

    def kill_a_worker(self) -> None:
        self._again(self._worker, signal.SIGKILL)

    def stop_a_worker(self) -> None:
        self._again(self._worker, signal.SIGTERM)

    def kill_a_sweeper(self) -> None:
        self._again("sweeper", signal.SIGKILL)

    def kill_an_api(self) -> None:
        os.killpg(self._api.pid, signal.SIGKILL)
        self._api.wait(10)
        self._api = self._second.start("api")

    def stop_an_api(self) -> None:
        self._api.terminate()
        self._api.wait(60)
        self._api = self._second.start("api")

    def wipe_redis(self) -> None:
        flush(self._redis)

    def restart_redis(self) -> None:
        kill_redis(self._redis)
        self._redis.start()

    def drop_connections(self) -> None:
        drop_connections(self._service.settings.database_url)

    def _again(self, name: str, number: signal.Signals) -> None:
        process = self._parts[name]
        process.send_signal(number)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            self._service.kill(process)
        self._parts[name] = self._service.start(name)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_an_hour_of_everything(service: Service, own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey) -> None:
    minutes = float(os.environ.get("MINUTES", "60"))
    worker = os.environ.get("SOAK_WORKER", "worker")
    seed = int(os.environ.get("SEED", "0"))
    service.env |= {"RUBRIKA_CHUNK_ROWS": "50", "RUBRIKA_API_PROCESSES": "2", "RUBRIKA_LEASE_SECONDS": "5",
                   "RUBRIKA_THREADS": "1", "RUBRIKA_CACHE_ROWS": "5000", "FAKE_SECONDS": "0.001"}  # fmt: skip
    steady = {name: service.start(name).pid for name in ("api", "sweeper", worker)}
    service.wait_ready(180)
    second_logs = service.logs / "second"
    second_logs.mkdir()
    second = Service(replace(service.settings, port=free_port()), second_logs, service.env)
    ledger = Ledger(fake=worker == "fake")
    stopping = threading.Event()
    people = [
        Person(one.url, ledger, stopping, seed=seed + n, rows=ROWS[worker], may_break=one is second)
        for n, one in ((n, service if n % 2 == 0 else second) for n in range(PEOPLE))
    ]
    scales = Scales(lambda: weigh(steady, own_postgres, own_valkey))
    try:
        misfortune = Misfortune(service, second, own_valkey, worker, seed)
        wait_until(lambda: second.get("/healthz").status == 200, 60, what="the second API")
        for person in people:
            person.thread.start()
        dice, until = random.Random(seed), time.monotonic() + minutes * 60
        while time.monotonic() < until and len(ledger.problems) < 20:
            stopping.wait(min(dice.uniform(4, 20), max(until - time.monotonic(), 0.1)))
            misfortune.strike()
    finally:
        stopping.set()
        for person in people:
            if person.thread.is_alive():
                person.thread.join(600)
        scales.stop()
        second.stop()
    report(ledger, misfortune, scales, warm_up=min(minutes * 60 / 4, 600))
    dsn = service.settings.database_url
    wait_until(lambda: not sql(dsn, "SELECT 1 FROM jobs WHERE finished_at IS NULL"), 120, what="every job to end")
    assert not ledger.problems, "\n".join([*ledger.problems[:20], service.tails(), second.tails()])
    assert sql(dsn, MISCOUNTED) == []
    assert sql(dsn, DOUBLED) == []
    assert sql(dsn, ORPHANS) == [(0,)]
    found = [trend(name, samples, min(minutes * 60 / 4, 600)) for name, samples in scales.samples.items()]
    measured = [one for one in found if one is not None]
    assert {one.name.split()[0].rstrip(",") for one in measured} >= {"api", "sweeper", worker, "postgres"}
    assert [str(one) for one in measured if one.grows] == []


def weigh(steady: dict[str, int], postgres: EmbeddedPostgres, redis: EmbeddedValkey) -> dict[str, float]:
    """Bytes of all that nobody kills. Redis tells its own, because its process is another one after each restart."""
    found: dict[str, float] = {}
    for name, pid in steady.items():
        found |= resident(name, pid)
    postmaster = postgres.postmaster_pid()
    if postmaster is not None:
        found |= private("postgres", postmaster)
    try:
        with Redis.from_url(redis.url.replace("redis+socket://", "unix://"), socket_timeout=2) as client:
            found["redis"] = float(client.info("memory")["used_memory"])
    except OSError:
        pass
    except Exception as error:
        if "redis" not in type(error).__module__:
            raise
    return found


def report(ledger: Ledger, misfortune: Misfortune, scales: Scales, warm_up: float) -> None:
    """What was seen, for who reads along with -s."""
    lines = [
        f"done: {dict(sorted(ledger.done.items()))}",
        f"answers: {dict(sorted(ledger.answers.items()))}",
        f"misfortune: {dict(sorted(Counter(misfortune.happened).items()))}",
        *(str(one) for name, samples in scales.samples.items() if (one := trend(name, samples, warm_up))),
        f"problems: {len(ledger.problems)}",
    ]
    print("\n" + "\n".join(lines))  # noqa: T201
