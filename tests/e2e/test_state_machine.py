"""A random mixture of work and misfortune on real processes, checked as sets: nothing lost, doubled or unexpected.

Hypothesis chooses what happens next. At the end of each example everything is started again and waited for; then the
multiset of (job, row, hash of text) in the database must be the one that was sent and accepted, with one result each.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from api.context import OWNER
from jobs import ending, sweeping
from jobs.bell import DRAIN_TASK, QUEUE, celery_app
from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from local.valkey import EmbeddedValkey
from tests.e2e.chaos import drop_connections, flush, kill_redis, sql
from tests.e2e.crew import Crew
from tests.e2e.rows import csv_of, digest
from tests.e2e.service import V1, Answer, Service
from tests.fake_classifier import expected
from tests.support import wait_until

PLACES = 2
CREATED = frozenset({200, 202})
AWAY = 503
"""The one excuse of an API whose database drops its connections. The client does not know then what has happened."""


@dataclass
class Sent:
    """What a client has sent under a key, and what it knows of it."""

    key: str
    texts: Sequence[str]
    as_file: bool
    id: str | None = None
    may_be_cancelled: bool = False
    deleted: bool = False

    @property
    def rows(self) -> Counter[tuple[int, str]]:
        return Counter((number, digest(text)) for number, text in enumerate(self.texts, 1))


@dataclass
class World:
    """A service with its servers, which all examples of a test share, and what was sent to it in this one."""

    service: Service
    redis: EmbeddedValkey
    crew: Crew
    redis_runs: bool = True
    sent: list[Sent] = field(default_factory=list)
    keys: int = 0
    leases: dict[int, list[str]] = field(default_factory=dict)
    """What was held by anybody when the worker of this place was frozen."""

    def __post_init__(self) -> None:
        self.dsn = self.service.settings.database_url

    # --- what a client does ---------------------------------------------------------------------------------------

    def new(self, texts: Sequence[str], *, as_file: bool) -> Sent:
        self.keys += 1
        made = Sent(f"key-{self.keys}", [f"{text} {self.keys}-{number}" for number, text in enumerate(texts)], as_file)
        self.sent.append(made)
        return made

    def post(self, sent: Sent) -> bool:
        """Send it, once more perhaps; whether the answer was that it is accepted."""
        if sent.as_file:
            answer = self.service.post_file(csv_of(sent.texts), key=sent.key)
        else:
            answer = self.service.classify({"items": [{"text": text} for text in sent.texts]}, key=sent.key)
        if answer.status == 409 and sent.id is None:
            # The server has not yet noticed that the connection of the request before is gone.
            return False
        if not self.excused(answer, CREATED):
            return False
        made = answer.json["id"] if sent.as_file else answer.json["items"][0]["id"].partition("-")[0]
        assert sent.id in {None, made}, "one key has made two jobs"
        sent.id = made
        return True

    def cancel(self, sent: Sent) -> None:
        sent.may_be_cancelled = True
        self.excused(self.service.call("POST", f"{V1}/jobs/{sent.id}/cancel"), {202, 409})

    def delete(self, sent: Sent) -> bool:
        sent.deleted = True
        return self.excused(self.service.call("DELETE", f"{V1}/jobs/{sent.id}"), {204, 404})

    @staticmethod
    def excused(answer: Answer, good: frozenset[int] | set[int]) -> bool:
        """Whether the answer is a good one; an answer that is neither good nor an excuse fails the test."""
        assert answer.status in good | {AWAY}, (answer.status, answer.body.decode())
        return answer.status in good

    # --- what is expected -----------------------------------------------------------------------------------------

    def heal(self) -> None:
        if not self.redis_runs:
            self.redis.start()
            self.redis_runs = True
        self.crew.fill()

    def settle(self) -> None:
        """Everything runs again, every client has its answer, and every job has its end."""
        self.heal()
        for sent in self.sent:
            if sent.id is None:
                wait_until(partial(self.post, sent), 60, what="a repeated request to be accepted", every=0.1)
            if sent.deleted:
                wait_until(partial(self.delete, sent), 60, what="a job to be deleted", every=0.1)
        open_jobs = "SELECT id::text, state FROM jobs WHERE finished_at IS NULL"
        try:
            wait_until(lambda: not sql(self.dsn, open_jobs), 120, what="every job to end", every=0.1)
        except AssertionError as error:
            chunks = sql(self.dsn, "SELECT *, now() FROM chunks WHERE state IN ('queued', 'running')")
            raise AssertionError(f"{sql(self.dsn, open_jobs)}\n{chunks}\n{self.service.tails()}") from error

    def check(self) -> None:
        there = [sent for sent in self.sent if not sent.deleted]
        states: dict[str, str] = dict(sql(self.dsn, "SELECT replace(id::text, '-', ''), state FROM jobs"))
        assert set(states) == {sent.id for sent in there}
        texts = self._rows("SELECT {key}, doc_text, 0 FROM texts t")
        results = self._rows("SELECT {key}, t.doc_text, r.probabilities[1] FROM results r LEFT JOIN texts t "
                             "ON t.job_id = r.job_id AND t.day = r.day AND t.row_no = r.row_no")  # fmt: skip
        want: Counter[tuple[str, int, str]] = Counter()
        optional: Counter[tuple[str, int, str]] = Counter()
        for sent in there:
            rows = Counter({(str(sent.id), *row): 1 for row in sent.rows})
            cancelled = states[str(sent.id)] == "cancelled"
            assert cancelled <= sent.may_be_cancelled, "a job was cancelled by nobody"
            assert cancelled or states[str(sent.id)] == "succeeded", states[str(sent.id)]
            (optional if cancelled else want).update(rows)
        assert texts == want + optional
        found = {"lost": want - results, "doubled or unexpected": results - want - optional}
        assert found == {"lost": Counter(), "doubled or unexpected": Counter()}

    def _rows(self, query: str) -> Counter[tuple[str, int, str]]:
        found: Counter[tuple[str, int, str]] = Counter()
        for job, row, text, sport in sql(self.dsn, query.format(key="replace(t.job_id::text, '-', ''), t.row_no")):
            found[job, row, digest(text)] += 1
            assert not sport or sport == pytest.approx(expected(text)), "a text has the result of another"
        return found

    def forget(self) -> None:
        """Begin the next example with an empty database."""
        engine = make_engine(self.dsn, pool_size=1, application="tests")
        for sent in self.sent:
            if not sent.deleted:
                ending.delete(engine, OWNER, UUID(sent.id))
        engine.dispose()
        self.sent.clear()


def machine_of(world: World) -> type[RuleBasedStateMachine]:
    """The rules by which Hypothesis plays with this world."""

    class Machine(RuleBasedStateMachine):
        def _pick(self, choice: int, among: Sequence[Any]) -> Any:
            return among[choice % len(among)]

        @rule(rows=st.integers(1, 150))
        def submit_file(self, rows: int) -> None:
            world.post(world.new(["пост из файла"] * rows, as_file=True))

        @rule(rows=st.integers(1, 5))
        def submit_texts(self, rows: int) -> None:
            world.post(world.new(["пост"] * rows, as_file=False))

        @precondition(lambda _: any(not sent.deleted for sent in world.sent))
        @rule(choice=st.integers(0, 99))
        def repeat(self, choice: int) -> None:
            world.post(self._pick(choice, [sent for sent in world.sent if not sent.deleted]))

        @precondition(lambda _: world.redis_runs)
        @rule(times=st.integers(1, 5))
        def ring(self, times: int) -> None:
            app = celery_app(world.service.settings)
            for _ in range(times):
                app.send_task(DRAIN_TASK, queue=QUEUE)
            app.close()

        @precondition(lambda _: bool(world.crew.taken()))
        @rule(choice=st.integers(0, PLACES - 1))
        def kill_a_worker(self, choice: int) -> None:
            world.crew.kill(self._pick(choice, world.crew.taken()))

        @precondition(lambda _: len(world.crew.taken()) < PLACES)
        @rule()
        def start_a_worker(self) -> None:
            world.crew.start((set(range(PLACES)) - set(world.crew.taken())).pop())

        @precondition(lambda _: bool(set(world.crew.taken()) - set(world.crew.frozen())))
        @rule(choice=st.integers(0, PLACES - 1))
        def freeze_a_worker(self, choice: int) -> None:
            place = self._pick(choice, sorted(set(world.crew.taken()) - set(world.crew.frozen())))
            world.crew.freeze(place)
            held = sql(world.dsn, "SELECT DISTINCT lease::text FROM chunks WHERE state = 'running'")
            world.leases[place] = [lease for (lease,) in held]

        @precondition(lambda _: bool(world.crew.frozen()))
        @rule(choice=st.integers(0, PLACES - 1), past_its_lease=st.booleans())
        def wake_a_worker(self, choice: int, past_its_lease: bool) -> None:
            place = self._pick(choice, world.crew.frozen())
            if past_its_lease:
                held = "SELECT 1 FROM chunks WHERE state = 'running' AND lease::text = ANY(%s)"
                wait_until(lambda: not sql(world.dsn, held, world.leases[place]), 60, what="the leases to be over")
            world.crew.wake(place)

        @precondition(lambda _: world.redis_runs)
        @rule()
        def wipe_redis(self) -> None:
            flush(world.redis)

        @precondition(lambda _: world.redis_runs)
        @rule()
        def kill_redis(self) -> None:
            kill_redis(world.redis)
            world.redis_runs = False

        @precondition(lambda _: not world.redis_runs)
        @rule()
        def start_redis(self) -> None:
            world.redis.start()
            world.redis_runs = True

        @rule()
        def drop_connections(self) -> None:
            drop_connections(world.dsn)

        @precondition(lambda _: any(sent.as_file and sent.id for sent in world.sent))
        @rule(choice=st.integers(0, 99))
        def cancel(self, choice: int) -> None:
            files = [sent for sent in world.sent if sent.as_file and sent.id and not sent.deleted]
            if files:
                world.cancel(self._pick(choice, files))

        @precondition(lambda _: any(sent.as_file and sent.id for sent in world.sent))
        @rule(choice=st.integers(0, 99))
        def delete(self, choice: int) -> None:
            world.delete(self._pick(choice, [sent for sent in world.sent if sent.as_file and sent.id]))

        @rule()
        def sweep(self) -> None:
            engine = make_engine(world.dsn, pool_size=1, application="a sweep of the test")
            try:
                run(engine, sweeping.sweep)
            except UnavailableError:
                pytest.fail("nobody drops connections now")
            finally:
                engine.dispose()

        def teardown(self) -> None:
            world.settle()
            world.check()
            world.forget()

    return Machine


def play(service: Service, redis: EmbeddedValkey, **limits: Any) -> None:
    service.env = {"RUBRIKA_CHUNK_ROWS": "20"}
    service.start("api")
    service.start("sweeper")
    world = World(service, redis, Crew(service, PLACES, FAKE_SECONDS="0.004"))
    service.wait_ready()
    run_state_machine_as_test(
        machine_of(world),
        settings=settings(
            # A failure is not made smaller: processes do not fail the same way twice, and each try costs seconds.
            phases=[Phase.explicit, Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **limits,
        ),
    )


def test_nothing_is_lost_whatever_happens_in_whatever_order(service: Service, own_valkey: EmbeddedValkey) -> None:
    play(service, own_valkey, derandomize=True, max_examples=3, stateful_step_count=14)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_a_long_run(service: Service, own_valkey: EmbeddedValkey) -> None:
    play(service, own_valkey, max_examples=60, stateful_step_count=40)
