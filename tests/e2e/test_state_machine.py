"""A random mixture of work and misfortune on real processes, checked as sets: nothing lost, doubled or unexpected.

Hypothesis chooses what happens next. At the end of each example everything is started again and waited for; then the
multiset of (job, row, hash of text) in the database must be the one that was sent and accepted, with one result each.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from api.context import OWNER
from jobs import ending, sweeping
from jobs.bell import DRAIN_TASK, QUEUE, celery_app
from jobs.database import make_engine, run
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


MISCOUNTED = """
    SELECT jobs.id, state, rows_total, rows_succeeded, rows_failed, recorded, tallied
    FROM jobs, LATERAL (SELECT count(*) AS recorded FROM results WHERE job_id = jobs.id) AS r,
         LATERAL (SELECT coalesce(sum(computed), 0) AS tallied FROM tallies WHERE job_id = jobs.id) AS t
    WHERE rows_succeeded <> recorded OR rows_failed <> 0 OR kind = 'file' AND tallied <> recorded
"""
"""Jobs whose counts are not those of their results."""


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
    happened: Counter[str] = field(default_factory=Counter)
    leases: dict[int, list[str]] = field(default_factory=dict)
    """What was held by anybody when the worker of this place was frozen."""

    def __post_init__(self) -> None:
        self.dsn = self.service.settings.database_url

    def kept(self, *, files: bool = False) -> list[Sent]:
        """What was sent and not deleted; of `files` those whose job is known."""
        return [sent for sent in self.sent if not sent.deleted and (not files or (sent.as_file and sent.id))]

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
        assert sql(self.dsn, MISCOUNTED) == []

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


Act = Callable[[Random], None]


class Acts:
    """What may happen next: three lists of what is possible now, and methods that throw dice for what they need."""

    def __init__(self, world: World) -> None:
        self._world = world

    def of_clients(self) -> list[Act]:
        acts: list[Act] = [self.submit_file, self.submit_texts]
        if self._world.kept():
            acts.append(self.repeat)
        if self._world.kept(files=True):
            acts += [self.cancel, self.delete]
        return acts

    def of_misfortune(self) -> list[Act]:
        acts: list[Act] = [self.drop_connections]
        if self._world.crew.taken():
            acts.append(self.kill_a_worker)
        if self._world.crew.awake():
            acts.append(self.freeze_a_worker)
        if self._world.redis_runs:
            acts += [self.kill_redis, self.wipe_redis]
        return acts

    def of_repair(self) -> list[Act]:
        acts: list[Act] = [self.sweep]
        if self._world.crew.empty():
            acts.append(self.start_a_worker)
        if self._world.crew.frozen():
            acts.append(self.wake_a_worker)
        acts.append(self.ring if self._world.redis_runs else self.start_redis)
        return acts

    def submit_file(self, dice: Random) -> None:
        self._world.post(self._world.new(["пост из файла"] * dice.randint(1, 150), as_file=True))

    def submit_texts(self, dice: Random) -> None:
        self._world.post(self._world.new(["пост"] * dice.randint(1, 5), as_file=False))

    def repeat(self, dice: Random) -> None:
        self._world.post(dice.choice(self._world.kept()))

    def cancel(self, dice: Random) -> None:
        self._world.cancel(dice.choice(self._world.kept(files=True)))

    def delete(self, dice: Random) -> None:
        self._world.delete(dice.choice(self._world.kept(files=True)))

    def ring(self, dice: Random) -> None:
        app = celery_app(self._world.service.settings)
        for _ in range(dice.randint(1, 5)):
            app.send_task(DRAIN_TASK, queue=QUEUE)
        app.close()

    def kill_a_worker(self, dice: Random) -> None:
        self._world.crew.kill(dice.choice(self._world.crew.taken()))

    def start_a_worker(self, dice: Random) -> None:
        self._world.crew.start(dice.choice(self._world.crew.empty()))

    def freeze_a_worker(self, dice: Random) -> None:
        place = dice.choice(self._world.crew.awake())
        self._world.crew.freeze(place)
        held = sql(self._world.dsn, "SELECT DISTINCT lease::text FROM chunks WHERE state = 'running'")
        self._world.leases[place] = [lease for (lease,) in held]

    def wake_a_worker(self, dice: Random) -> None:
        """At once, or when everything that was in hand when it fell asleep was taken from it."""
        place = dice.choice(self._world.crew.frozen())
        if dice.random() < 0.5:
            held = "SELECT 1 FROM chunks WHERE state = 'running' AND lease::text = ANY(%s)"
            leases = self._world.leases[place]
            wait_until(lambda: not sql(self._world.dsn, held, leases), 60, what="the leases to be over")
        self._world.crew.wake(place)

    def wipe_redis(self, _: Random) -> None:
        flush(self._world.redis)

    def kill_redis(self, _: Random) -> None:
        kill_redis(self._world.redis)
        self._world.redis_runs = False

    def start_redis(self, _: Random) -> None:
        self._world.redis.start()
        self._world.redis_runs = True

    def drop_connections(self, _: Random) -> None:
        drop_connections(self._world.dsn)

    def sweep(self, _: Random) -> None:
        engine = make_engine(self._world.dsn, pool_size=1, application="a sweep of the test")
        run(engine, sweeping.sweep)
        engine.dispose()


def machine_of(world: World) -> type[RuleBasedStateMachine]:
    """The rules by which Hypothesis plays with this world."""
    acts = Acts(world)

    class Machine(RuleBasedStateMachine):
        dice: Random

        @initialize(dice=st.randoms(use_true_random=True), rows=st.integers(100, 300))
        def begin_with_a_file(self, dice: Random, rows: int) -> None:
            # Hypothesis likes to repeat a choice; dice that it only seeds mix the acts of an example better.
            self.dice = dice
            world.post(world.new(["пост из файла"] * rows, as_file=True))

        def one_of(self, possible: list[Act]) -> None:
            act = self.dice.choice(possible)
            world.happened[act.__name__] += 1
            act(self.dice)

        @rule()
        def a_client(self) -> None:
            self.one_of(acts.of_clients())

        @rule()
        def misfortune(self) -> None:
            self.one_of(acts.of_misfortune())

        @rule()
        def repair(self) -> None:
            self.one_of(acts.of_repair())

        @rule(rows=st.integers(1, 120))
        def work(self, rows: int) -> None:
            """Let the workers do so many rows, or what they can do in a second."""
            done = "SELECT coalesce(sum(rows_succeeded), 0) FROM jobs"
            [(before,)] = sql(world.dsn, done)
            with suppress(AssertionError):
                wait_until(lambda: sql(world.dsn, done)[0][0] >= before + rows, 1)

        def teardown(self) -> None:
            world.settle()
            world.check()
            world.forget()

    return Machine


def play(service: Service, redis: EmbeddedValkey, **limits: Any) -> None:
    service.env |= {"RUBRIKA_CHUNK_ROWS": "20"}
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
    print(dict(world.happened))  # noqa: T201


def test_nothing_is_lost_whatever_happens_in_whatever_order(service: Service, own_valkey: EmbeddedValkey) -> None:
    play(service, own_valkey, derandomize=True, max_examples=5, stateful_step_count=20)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_a_long_run(service: Service, own_valkey: EmbeddedValkey) -> None:
    play(service, own_valkey, max_examples=60, stateful_step_count=40)
