"""A drain over a real database: what it computes, in which order, and what it leaves when it is stopped."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, Engine, text

from jobs import accepting, answers, fleet, reading, store, sweeping
from jobs.answers import Answer
from jobs.bell import Bell
from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from jobs.records import Claim, ClaimedText, NewJob, NewText, Sweep, Topic
from jobs.settings import Settings
from jobs.states import JobKind, Lane
from ml.classifier import Predictions
from ml.posts import Post
from tests.fake_classifier import FakeClassifier, FakePrepared, expected
from tests.support import wait_until
from worker import drain as drain_module
from worker.drain import Drain
from worker.heart import Heart
from worker.memo import Memo, key_of
from worker.rate import CLAIM_SECONDS, LONG_CLAIM_SECONDS, Rate, claim_seconds

TOPICS = [Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in FakeClassifier.info.topics]


class Recorder(FakeClassifier):
    """Remembers what it was given to compute; `on_compute` is called before each time, `on_prepare` before texts
    are tokenised."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[list[str]] = []
        self.on_compute: Callable[[], None] = lambda: None
        self.on_prepare: Callable[[], None] = lambda: None

    def prepare(self, posts: Sequence[Post]) -> FakePrepared:
        self.on_prepare()
        return super().prepare(posts)

    def compute(self, prepared: FakePrepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        self.computed.append([post.doc_text for post in prepared.posts])
        self.on_compute()
        return super().compute(prepared, between_batches)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    made = make_engine(settings.database_url, pool_size=8, application="tests")
    yield made
    made.dispose()


@pytest.fixture
def classifier() -> Recorder:
    return Recorder()


@pytest.fixture
def heart(engine: Engine, classifier: Recorder) -> Iterator[Heart]:
    model = run(
        engine,
        lambda c: fleet.register_model(c, name="fake", version="1", sha256="f" * 64, topics=TOPICS, card={}),
    )
    heart = Heart(engine, worker="test", model_id=model, device="fake", lease_seconds=10)
    heart.start()
    yield heart
    heart.stop()


@pytest.fixture
def drain(settings: Settings, engine: Engine, classifier: Recorder, heart: Heart) -> Iterator[Drain]:
    bell = Bell(settings)
    made = Drain(settings, engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
    yield made
    made.close()
    bell.close()


def add(engine: Engine, texts: Sequence[str], *, chunk_rows: int = 10, lane: Lane = Lane.BULK) -> reading.Job:
    job_id, _ = accepting.add_job(
        engine,
        NewJob("me", JobKind.FILE),
        [NewText(value, "", "") for value in texts],
        lane=lane,
        chunk_rows=chunk_rows,
    )
    return run(engine, lambda c: reading.get_job(c, "me", job_id))


def cached_rows(engine: Engine, job: reading.Job) -> int:
    return run(engine, lambda c: reading.get_job(c, "me", job.id)).rows_cached


def probabilities(engine: Engine, job: reading.Job) -> list[float]:
    rows = run(engine, lambda c: reading.page_of_rows(c, job, after=0, limit=1000))
    return [row.probabilities[0] for row in rows if row.probabilities]


def test_a_repost_is_computed_once_wherever_it_stands(engine: Engine, drain: Drain, classifier: Recorder) -> None:
    """In the same chunk, in the next (which is read while the first is computed), in a later one, in a later job."""
    first = [f"пост {number}" for number in range(10)]
    texts = [*first, *first[:5], "новый", "новый", "новый", "новый", "ещё", *first]
    job = add(engine, texts)
    drain.run()
    computed = [value for claim in classifier.computed for value in dict.fromkeys(claim)]
    assert sorted(computed) == sorted([*first, "новый", "ещё"])
    assert probabilities(engine, job) == pytest.approx([expected(value) for value in texts])
    again = add(engine, [*first, "нигде"])
    drain.run()
    assert [value for claim in classifier.computed for value in claim][-1] == "нигде"
    assert len([value for claim in classifier.computed for value in claim if value == "пост 0"]) == 1
    assert probabilities(engine, again) == pytest.approx([expected(value) for value in [*first, "нигде"]])
    assert [cached_rows(engine, one) for one in (job, again)] == [15, 10]


def test_the_twin_of_a_text_that_failed_is_tried_by_itself(engine: Engine, drain: Drain, classifier: Recorder) -> None:
    job = add(engine, ["!fail", *[f"пост {number}" for number in range(9)], "!fail", "другой"])
    drain.run()
    assert sum(claim.count("!fail") for claim in classifier.computed) == 2
    assert len(probabilities(engine, job)) == 10
    assert run(engine, lambda c: c.execute(text("SELECT count(*) FROM answers")).scalar_one()) == 10


def test_without_a_cache_a_later_drain_computes_again(
    settings: Settings, engine: Engine, classifier: Recorder, heart: Heart
) -> None:
    with closing(Bell(settings)) as bell:
        bare = replace(settings, cache_rows=0)
        drain = Drain(bare, engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
        for _ in range(2):
            add(engine, ["текст"])
            drain.run()
        drain.close()
    assert classifier.computed == [["текст"], ["текст"]]


def test_an_answer_of_another_model_is_none_of_ours(
    settings: Settings, engine: Engine, drain: Drain, classifier: Recorder, heart: Heart
) -> None:
    other = run(
        engine, lambda c: fleet.register_model(c, name="b", version="1", sha256="b" * 64, topics=TOPICS, card={})
    )
    run(engine, lambda c: answers.remember(c, other, {key_of("текст", "", ""): Answer([0.9, 0.9], False)}))
    job = add(engine, ["текст"])
    drain.run()
    assert probabilities(engine, job) == pytest.approx([expected("текст")])


def test_a_steady_stream_of_waiting_texts_does_not_keep_files_from_going_on(
    engine: Engine, drain: Drain, classifier: Recorder
) -> None:
    job = add(engine, [f"файл {number}" for number in range(40)])
    arrived = 0

    def arrive() -> None:
        nonlocal arrived
        if run(engine, lambda c: reading.get_job(c, "me", job.id)).finished_at is None:
            arrived += 1
            add(engine, [f"срочно {arrived}"], lane=Lane.INTERACTIVE)

    classifier.on_compute = arrive
    drain.run()
    done = run(engine, lambda c: reading.get_job(c, "me", job.id))
    assert done.finished_at is not None
    assert classifier.computed[0] == [f"файл {number}" for number in range(10)]
    assert classifier.computed[1] == ["срочно 1"]


def test_a_quick_worker_claims_several_chunks_at_once(engine: Engine, drain: Drain, classifier: Recorder) -> None:
    add(engine, [f"пост {number}" for number in range(400)])
    drain.run()
    assert [len(claim) for claim in classifier.computed[:2]] == [10, 10]
    assert max(len(claim) for claim in classifier.computed) > 100
    assert sum(len(claim) for claim in classifier.computed) == 400


def test_the_size_of_a_claim_follows_the_time_that_computing_takes() -> None:
    rate = Rate()
    assert rate.rows_in(2) == 1
    rate.note(1000, 0.5)
    assert rate.rows_in(2) == 4000
    rate.note(1, 0.01)
    assert rate.rows_in(2) > 3800
    for _ in range(20):
        rate.note(40, 1.0)
    assert 75 <= rate.rows_in(2) <= 85
    rate.note(0, 5.0)
    assert 75 <= rate.rows_in(2) <= 85


def test_a_claim_grows_with_the_time_that_a_worker_is_busy() -> None:
    assert claim_seconds(0) == claim_seconds(30) == CLAIM_SECONDS
    assert claim_seconds(80) == 4
    assert claim_seconds(3600) == LONG_CLAIM_SECONDS


def test_a_worker_is_busy_from_the_first_claim_until_nothing_waits(
    engine: Engine, drain: Drain, classifier: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def size(busy: float) -> float:
        asked.append(busy)
        return 0.0

    monkeypatch.setattr("worker.drain.claim_seconds", size)
    for _ in range(2):
        asked.clear()
        classifier.computed.clear()
        add(engine, [f"пост {number}" for number in range(50)])
        drain.run()
        busy = asked[1:6]
        assert asked[0] == 0
        assert busy[0] > 0
        assert busy == sorted(busy)


def test_a_text_that_failed_is_tried_again_where_it_stands_again(
    engine: Engine, drain: Drain, classifier: Recorder
) -> None:
    job = add(engine, ["хорошо", "!fail"] + [f"пост {number}" for number in range(18)] + ["!fail", "хорошо"])
    drain.run()
    assert classifier.computed[-1] == ["!fail"]
    failed = run(
        engine,
        lambda c: c.execute(text("SELECT row_no FROM results WHERE error_code IS NOT NULL ORDER BY 1")).scalars().all(),
    )
    assert failed == [2, 21]
    assert len(probabilities(engine, job)) == 20


def test_who_waits_goes_first_and_between_the_batches_of_a_file(
    engine: Engine, drain: Drain, classifier: Recorder
) -> None:
    add(engine, [f"файл {number}" for number in range(20)], chunk_rows=20)
    add(engine, ["до"], lane=Lane.INTERACTIVE)
    arrivals = iter(["во время"])

    def arrive() -> None:
        if classifier.computed[-1][0] == "файл 0":
            add(engine, [next(arrivals)], lane=Lane.INTERACTIVE)

    classifier.on_compute = arrive
    drain.run()
    assert [chunk[0] for chunk in classifier.computed] == ["до", "файл 0", "во время"]


def test_a_stopped_drain_gives_back_what_it_read_ahead(engine: Engine, drain: Drain, classifier: Recorder) -> None:
    add(engine, [f"пост {number}" for number in range(40)])
    classifier.on_compute = drain.stop
    drain.run()
    states = run(
        engine,
        lambda c: c.execute(text("SELECT first_row, state, attempts FROM chunks ORDER BY 1")).all(),
    )
    assert [tuple(row) for row in states] == [(1, "done", 1), (11, "queued", 0), (21, "queued", 0), (31, "queued", 0)]


@pytest.mark.parametrize("step", ["begin", "finish", "release"])
@pytest.mark.parametrize("lane", [Lane.BULK, Lane.INTERACTIVE])
def test_a_drain_that_loses_its_database_keeps_no_lease_alive(
    engine: Engine, drain: Drain, heart: Heart, monkeypatch: pytest.MonkeyPatch, step: str, lane: Lane
) -> None:
    """A lease that is kept alive while nobody works on it would never expire: its texts would wait for ever."""
    add(engine, [f"пост {number}" for number in range(30)], lane=lane)

    def gone(*_: object, **__: object) -> bool:
        drain.stop()
        raise UnavailableError("The database cannot be reached at the moment.")

    monkeypatch.setattr(store, step, gone)
    drain.run()
    assert heart.held() == frozenset()


@pytest.mark.parametrize("slow", ["while the network computes", "while texts are tokenised"])
def test_a_chunk_that_takes_many_leases_is_computed_once(
    settings: Settings, engine: Engine, classifier: Recorder, heart: Heart, slow: str
) -> None:
    """A lease is kept alive by a thread of its own, so a worker that is far too slow for it does not lose its chunk
    again and again. The network never looks up meanwhile: it calls nothing between its batches."""
    job = add(engine, [f"пост {number}" for number in range(5)])
    swept = []

    def outlive_it() -> None:
        moment = "SELECT lease_until + interval '2 s' FROM chunks"
        past = run(engine, lambda c: c.execute(text(moment)).scalar_one())

        def is_past() -> bool:
            swept.append(run(engine, sweeping.sweep))
            asked = text("SELECT clock_timestamp() > :past")
            return bool(run(engine, lambda c: c.execute(asked, {"past": past}).scalar_one()))

        wait_until(is_past, what="the first lease to be long over")

    if slow == "while texts are tokenised":
        classifier.on_prepare = outlive_it
    else:
        classifier.on_compute = outlive_it
    short = Heart(engine, worker="slow", model_id=heart.model_id, device="fake", lease_seconds=0.6)
    short.start()
    with closing(Bell(settings)) as bell:
        drain = Drain(replace(settings, lease_seconds=0.6), engine, bell, classifier, short.model_id, short)  # type: ignore[arg-type]
        drain.run()
        drain.close()
    short.stop()
    assert len(classifier.computed) == 1
    assert [sum(getattr(one, what) for one in swept if one) for what in ("requeued", "split", "given_up")] == [0, 0, 0]
    assert run(engine, lambda c: c.execute(text("SELECT state, attempts FROM chunks")).one()) == ("done", 1)
    assert len(probabilities(engine, job)) == 5


def test_texts_that_take_longer_to_read_than_a_lease_are_still_ours(
    settings: Settings, engine: Engine, classifier: Recorder, heart: Heart, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(engine, ["пост"])
    read_texts = store.read_texts
    passed = 0.0

    def slowly(connection: Connection, claimed: Claim) -> list[ClaimedText]:
        """As if half a minute and a bit had passed."""
        nonlocal passed
        passed += 31
        connection.execute(text("UPDATE chunks SET lease_until = lease_until - interval '31 s'"))
        return read_texts(connection, claimed)

    monkeypatch.setattr(store, "read_texts", slowly)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, time_ns=time.time_ns)
    monkeypatch.setattr(drain_module, "time", clock)
    classifier.on_prepare = lambda: swept.append(run(engine, sweeping.sweep))
    swept: list[Sweep | None] = []
    with closing(Bell(settings)) as bell:
        drain = Drain(replace(settings, lease_seconds=30), engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
        drain.run()
        drain.close()
    assert [one.requeued for one in swept if one] == [0]
    assert len(probabilities(engine, job)) == 1


def test_after_a_death_nothing_is_tokenised_while_a_result_is_not_yet_recorded(
    engine: Engine, drain: Drain, classifier: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(engine, ["первый", "второй"], chunk_rows=1)
    run(engine, lambda c: c.execute(text("UPDATE chunks SET attempts = 1")))
    tokenised, unrecorded = threading.Semaphore(0), []

    def prepare() -> None:
        seen = run(engine, lambda c: reading.get_job(c, "me", job.id))
        unrecorded.append(len(classifier.computed) - seen.rows_succeeded)
        tokenised.release()

    classifier.on_prepare = prepare
    record = drain._record

    def slow_record(*arguments: object) -> None:
        # Were the next tokenised meanwhile, it would be within this time.
        tokenised.acquire()
        tokenised.acquire(timeout=0.5)
        tokenised.release()
        record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(drain, "_record", slow_record)
    drain.run()
    assert classifier.computed == [["первый"], ["второй"]]
    assert unrecorded == [0, 0]


def test_an_empty_queue_is_left_at_once(drain: Drain, classifier: Recorder) -> None:
    drain.run()
    assert classifier.computed == []


def test_a_post_is_known_by_all_its_fields() -> None:
    posts = [("а", "б", ""), ("аб", "", ""), ("", "аб", ""), ("а", "", "б"), ("а", "б", "")]
    assert len({key_of(*post) for post in posts}) == 4
    memo = Memo(max_texts=2)
    for number in range(3):
        memo.put(bytes([number]), Answer([0.5], False))
    assert [memo.get(bytes([number])) is None for number in range(3)] == [True, True, False]
