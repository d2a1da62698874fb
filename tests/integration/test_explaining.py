"""A worker that explains: leases and fences, deaths and ends, and its place beside files and behind who waits."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, text

from jobs import asking, ending, explaining, partitions, store, sweeping
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.records import Outcome, Piece, parse_text_id
from jobs.states import ExplanationError, Lane
from ml.errors import DeviceLostError
from tests.integration.explain_support import TEXT, Recorder, get, post, rows, take
from tests.integration.store_support import add
from tests.support import sigterm_is_sent
from worker import explainer
from worker.drain import Drain
from worker.heart import Heart
from worker.sweeper import sweep_once

# --- leases, fences, ends -------------------------------------------------------------------------------------------


@pytest.fixture
def asked(client: FlaskClient, drain: Drain, engine: Engine, heart: Heart) -> dict[str, Any]:
    """A text that is classified, and whose explanation waits for a worker."""
    posted: dict[str, Any] = post(client, {"text": TEXT, "explain": True})
    claimed = run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=1, lease_seconds=30))
    assert claimed is not None

    def record(connection: Connection) -> None:
        store.begin(connection, claimed.lease)
        outcomes = [Outcome(one, [0.9, 0.1]) for one in store.read_texts(connection, claimed)]
        store.finish(connection, claimed.lease, heart.model_id, outcomes)

    run(engine, record)
    return posted


def test_a_worker_that_lost_its_lease_records_nothing(
    client: FlaskClient, engine: Engine, heart: Heart, drain: Drain, asked: dict[str, Any]
) -> None:
    late = take(engine, heart.model_id, seconds=-1)
    assert late is not None
    assert take(engine, heart.model_id) is None
    run(engine, sweeping.sweep)
    drain.run()
    found = get(client, asked)
    assert found["status"] == "succeeded"
    assert not run(engine, lambda c: explaining.finish(c, late, [Piece("doc_text", 0, 1)], [[9.0], [9.0]]))
    assert not run(engine, lambda c: explaining.fail(c, late, ExplanationError.FAILED, "late"))
    run(engine, lambda c: explaining.release(c, late))
    assert get(client, asked) == found


def test_a_commit_whose_answer_was_lost_may_be_repeated(
    client: FlaskClient, engine: Engine, heart: Heart, asked: dict[str, Any]
) -> None:
    claimed = take(engine, heart.model_id)
    assert claimed is not None
    weights = [[0.5], [-0.25]]
    first = run(engine, lambda c: explaining.finish(c, claimed, [Piece("doc_text", 0, 4)], weights))
    second = run(engine, lambda c: explaining.finish(c, claimed, [Piece("doc_text", 0, 4)], weights))
    assert (first, second) == (True, False)
    assert get(client, asked)["explanation"] == {
        "sport": [{"field": "doc_text", "start": 0, "end": 4, "weight": 0.5}],
        "ads": [{"field": "doc_text", "start": 0, "end": 4, "weight": -0.25}],
    }


def test_after_three_deaths_an_explanation_is_given_up_and_the_classification_stands(
    app: Any, client: FlaskClient, engine: Engine, heart: Heart, asked: dict[str, Any]
) -> None:
    for attempt in range(1, 4):
        assert (take(engine, heart.model_id, beside=True) is None) == (attempt > 1), "a deadly one is taken alone"
        assert attempt == 1 or take(engine, heart.model_id) is not None
        run(engine, lambda c: c.execute(text("UPDATE explanations SET lease_until = now() - interval '1 second'")))
        assert sweep_once(engine, app.extensions["rubrika"].bell) is not None
    found = get(client, asked)
    assert (found["status"], found["explanation_error"]["code"]) == ("succeeded", "explainer_lost")
    assert found["finished_at"] is not None
    assert len(found["topics"]) == 2


def test_who_waits_for_an_explanation_is_woken(
    app: Any, client: FlaskClient, drain: Drain, asked: dict[str, Any]
) -> None:
    bell = app.extensions["rubrika"].bell
    bell._redis.flushall()
    drain.run()
    assert bell._redis.keys("rubrika:wake:*") == [f"rubrika:wake:{asked['id'].split('-')[0]}"]


def test_what_waits_is_rung_for(app: Any, engine: Engine, asked: dict[str, Any]) -> None:
    bell = app.extensions["rubrika"].bell
    bell._redis.flushall()
    swept = sweep_once(engine, bell)
    assert swept is not None
    assert swept.waiting == 1
    assert bell.unheard() == 1


def test_a_heart_keeps_the_lease_of_an_explanation(engine: Engine, heart: Heart, asked: dict[str, Any]) -> None:
    claimed = take(engine, heart.model_id, seconds=0.2)
    assert claimed is not None
    heart.hold(claimed.lease)
    run(engine, heart._one_beat)
    [(left,)] = rows(engine, "SELECT lease_until - now() FROM explanations")
    assert left > timedelta(seconds=5)


def test_a_job_that_is_removed_takes_its_explanation_along(
    client: FlaskClient, engine: Engine, heart: Heart, asked: dict[str, Any]
) -> None:
    claimed = take(engine, heart.model_id)
    assert claimed is not None
    ending.delete(engine, "local", parse_text_id(asked["id"])[0])
    assert rows(engine, "SELECT count(*) FROM explanations") == [(0,)]
    assert not run(engine, lambda c: explaining.finish(c, claimed, [Piece("doc_text", 0, 4)], [[1.0], [1.0]]))
    assert rows(engine, "SELECT count(*) FROM explanations") == [(0,)]


def test_a_job_whose_removal_stops_halfway_is_ended_with_its_explanation(
    client: FlaskClient, engine: Engine, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([ending._day, lambda *_: None])
    monkeypatch.setattr(ending, "_day", lambda *arguments: next(steps)(*arguments))
    ending.delete(engine, "local", parse_text_id(asked["id"])[0])
    assert rows(engine, "SELECT state, error_code FROM explanations") == [("done", "stopped")]
    assert get(client, asked)["finished_at"] is not None


def test_an_explanation_is_dropped_with_the_day_of_its_text(engine: Engine, asked: dict[str, Any]) -> None:
    [(day,)] = rows(engine, "SELECT day FROM explanations")
    run(engine, lambda c: partitions.drop_day(c, day))
    assert rows(engine, "SELECT (SELECT count(*) FROM explanations), (SELECT count(*) FROM jobs)") == [(0, 0)]


def test_a_text_that_no_worker_survived_is_not_explained(client: FlaskClient, engine: Engine, heart: Heart) -> None:
    """At once, although its neighbour still waits."""
    posted, other = post(client, {"items": [{"text": one, "explain": True} for one in ("!kill", TEXT)]})["items"]
    run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=1, lease_seconds=-1))
    run(engine, lambda c: c.execute(text("UPDATE chunks SET attempts = 3")))
    run(engine, sweeping.sweep)
    run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=1, lease_seconds=-1))
    run(engine, lambda c: c.execute(text("UPDATE chunks SET attempts = 3 WHERE state = 'running'")))
    run(engine, sweeping.sweep)
    found = get(client, posted)
    assert (found["error"]["code"], found["explanation_error"]["code"]) == ("worker_lost", "not_classified")
    assert (get(client, other)["status"], get(client, other)["explanation_error"]) == ("queued", None)


def test_what_a_worker_of_an_older_version_left_waiting_is_caught_up_with(
    client: FlaskClient, drain: Drain, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It records results, and knows nothing of explanations."""
    good, bad = post(client, {"items": [{"text": one, "explain": True} for one in (TEXT, "!fail")]})["items"]
    with monkeypatch.context() as patch:
        patch.setattr(asking, "results_are_in", lambda *_: None)
        drain.run()
    assert rows(engine, "SELECT DISTINCT state FROM explanations") == [("waiting",)]
    run(engine, sweeping.sweep)
    drain.run()
    assert get(client, good)["explanation"] is not None
    assert get(client, bad)["explanation_error"]["code"] == "not_classified"


# --- the drain ------------------------------------------------------------------------------------------------------


def test_texts_that_somebody_waits_for_pass_an_explanation(
    client: FlaskClient, drain: Drain, classifier: Recorder, engine: Engine
) -> None:
    post(client, {"text": " ".join(f"слово{number}" for number in range(30)), "explain": True})
    arrived = iter(["срочно"])

    def arrive() -> None:
        if len(classifier.computed[-1]) > 30:
            for one in arrived:
                post(client, {"text": one})

    classifier.on_compute = arrive
    drain.run()
    assert [len(one) for one in classifier.computed] == [1, 2 * 30 + 8 + 1, 1]
    # It was recorded before the explanation in whose middle it came.
    [(urgent, explained)] = rows(
        engine,
        "SELECT (SELECT max(finished_at) FROM chunks), (SELECT finished_at FROM explanations)",
    )
    assert urgent < explained


def test_files_go_on_beside_a_stream_of_explanations(
    client: FlaskClient, drain: Drain, classifier: Recorder, engine: Engine
) -> None:
    """And explanations beside files: they begin between the batches of a claim, not behind the last one."""
    add(engine, 400, chunk_rows=40)
    explained = [0]

    def arrive() -> None:
        if rows(engine, "SELECT 1 FROM jobs WHERE kind = 'file' AND finished_at IS NULL"):
            explained[0] += 1
            post(client, {"text": f"{TEXT} {explained[0]}", "explain": True})

    classifier.on_compute = arrive
    drain.run()
    assert rows(engine, "SELECT state FROM jobs WHERE kind = 'file'") == [("succeeded",)]
    [(during,)] = rows(
        engine,
        "SELECT count(*) FROM explanations WHERE finished_at < (SELECT finished_at FROM jobs WHERE kind = 'file')",
    )
    assert during > 0
    assert rows(engine, "SELECT count(*) FROM explanations WHERE state <> 'done'") == [(0,)]


def test_an_explanation_begins_between_the_batches_of_a_claim(
    client: FlaskClient, drain: Drain, classifier: Recorder, engine: Engine
) -> None:
    """A file of a single claim is not worked off first, and an explanation beside it takes no more than its half."""
    add(engine, 400, chunk_rows=400)
    # 50 batches of 20 ms: as long as five looks of the explainer, and far more than one explanation takes.
    classifier.seconds = 0.0025
    texts = iter([TEXT])
    classifier.on_compute = lambda: [post(client, {"text": one, "explain": True}) for one in texts] and None  # type: ignore[func-returns-value]
    drain.run()
    [(explained, file)] = rows(
        engine,
        "SELECT (SELECT finished_at FROM explanations), (SELECT finished_at FROM jobs WHERE kind = 'file')",
    )
    assert explained < file


def test_beside_files_no_second_explanation_follows_the_first_at_once(
    client: FlaskClient, drain: Drain, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, {"items": [{"text": f"{TEXT} {number}", "explain": True} for number in range(3)]})
    drain._serve_waiting(beside_others=False)
    monkeypatch.setattr(explainer, "LOOK_SECONDS", 60)
    served = [drain._explainer.serve(lambda: None, beside_others=beside) for beside in (True, True, False, True)]
    assert served == [True, False, True, False]


def test_requests_share_the_workers(client: FlaskClient, drain: Drain, engine: Engine) -> None:
    """One that asks for a single text does not wait for one that asks for many and came before it."""
    for number in (10, 1):
        post(client, {"items": [{"text": f"{TEXT} {n}", "explain": True} for n in range(number)]})
    drain.run()
    order = rows(engine, "SELECT job_id FROM explanations ORDER BY finished_at")
    [(single,)] = rows(engine, "SELECT job_id FROM explanations GROUP BY 1 HAVING count(*) = 1")
    assert (single,) in order[:2]


def test_a_worker_that_is_told_to_stop_gives_its_explanation_back(
    client: FlaskClient, drain: Drain, classifier: Recorder, engine: Engine, heart: Heart
) -> None:
    post(client, {"text": " ".join(f"слово{number}" for number in range(30)), "explain": True})
    classifier.on_compute = lambda: drain.stop() if len(classifier.computed[-1]) > 30 else None
    drain.run()
    assert rows(engine, "SELECT state, attempts, lease FROM explanations") == [("queued", 0, None)]
    assert heart.held() == frozenset()


def test_a_worker_whose_device_is_lost_fails_no_explanation(
    drain: Drain, classifier: Recorder, engine: Engine, heart: Heart, asked: dict[str, Any]
) -> None:
    def lost() -> None:
        raise DeviceLostError("an illegal memory access")

    classifier.on_compute = lost
    with sigterm_is_sent():
        drain.run()
    # The lease runs out, and another worker has it.
    assert rows(engine, "SELECT state, error_code FROM explanations") == [("running", None)]
    assert heart.held() == frozenset()


@pytest.mark.parametrize("step", ["claim", "finish"])
def test_a_drain_that_loses_its_database_while_it_explains_keeps_no_lease_alive(
    client: FlaskClient, drain: Drain, heart: Heart, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    post(client, {"text": TEXT, "explain": True})

    def gone(*_: object, **__: object) -> bool:
        drain.stop()
        raise UnavailableError("The database cannot be reached at the moment.")

    monkeypatch.setattr(explaining, step, gone)
    drain.run()
    assert heart.held() == frozenset()
