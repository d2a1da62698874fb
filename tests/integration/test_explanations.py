"""Explanations from the request to the record: API, store and a real drain over a real database and a real Redis."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from jobs import asking, ending, explaining, fleet, partitions, store, sweeping
from jobs.database import run
from jobs.errors import UnavailableError
from jobs.records import ExplanationClaim, Piece, Topic, parse_text_id
from jobs.settings import SHIPPED_MODEL, Settings
from jobs.states import ExplanationError, Lane
from ml.classifier import Classifier, Predictions
from tests.fake_classifier import FakeClassifier, FakePrepared, expected
from tests.integration.api_support import V1, assert_problem
from tests.integration.store_support import add
from tests.support import wait_until
from worker.drain import Drain
from worker.heart import Heart
from worker.sweeper import sweep_once

TEXT = "Наши забили гол 🔥 и выиграли"


class Recorder(FakeClassifier):
    """Remembers how many texts it was given at once, and what; `on_compute` is called before each time."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[list[str]] = []
        self.on_compute: Callable[[], None] = lambda: None

    def compute(self, prepared: FakePrepared, between_batches: Callable[[], None] | None = None) -> Predictions:
        self.computed.append([post.doc_text for post in prepared.posts])
        self.on_compute()
        return super().compute(prepared, between_batches)


@pytest.fixture
def classifier() -> Recorder:
    return Recorder()


@pytest.fixture
def heart(engine: Engine, classifier: Recorder) -> Iterator[Heart]:
    made = Heart(engine, worker="test", model_id=register(engine, classifier), device="fake", lease_seconds=10)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def drain(app: Any, settings: Settings, engine: Engine, classifier: Recorder, heart: Heart) -> Iterator[Drain]:
    bell = app.extensions["rubrika"].bell
    made = Drain(settings, engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
    yield made
    made.close()


@pytest.fixture
def busy_drain(drain: Drain) -> Iterator[Drain]:
    """A drain that goes on for as long as the test does."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            drain.run()

    thread = threading.Thread(target=work)
    thread.start()
    yield drain
    stopping.set()
    thread.join(20)


def register(engine: Engine, classifier: Any) -> int:
    info = classifier.info
    topics = [Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in info.topics]
    return run(
        engine,
        lambda c: fleet.register_model(
            c, name=info.name, version=info.version, sha256=info.sha256, topics=topics, card={}
        ),
    )


def post(client: FlaskClient, body: Any, **headers: str) -> Any:
    response = client.post(f"{V1}/classifications", json=body, headers=headers)
    assert response.status_code in {200, 202}, response.text
    return response.get_json()


def get(client: FlaskClient, item: dict[str, Any], tail: str = "") -> Any:
    return client.get(f"{V1}/classifications/{item['id']}{tail}").get_json()


def said(resource: dict[str, Any], topic: str = "sport") -> list[str]:
    return [resource[one["field"]][one["start"] : one["end"]] for one in resource["explanation"][topic]]


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in run(engine, lambda c: c.execute(text(query)).all())]


def take(engine: Engine, model: int, *, beside: bool = False, seconds: float = 30) -> ExplanationClaim | None:
    return run(engine, lambda c: explaining.claim(c, model_id=model, lease_seconds=seconds, beside_others=beside))


# --- asked for together with the text -------------------------------------------------------------------------------


def test_a_text_that_asks_is_done_when_its_explanation_is(client: FlaskClient, drain: Drain) -> None:
    posted = post(client, {"doc_text": TEXT, "image2text": "счёт 3:0", "explain": True})
    assert (posted["status"], posted["explanation"], posted["explanation_error"]) == ("queued", None, None)
    drain.run()
    done = get(client, posted)
    assert (done["status"], done["explanation_error"]) == ("succeeded", None)
    assert list(done["explanation"]) == ["sport", "ads"]
    assert said(done) == ["Наши", "забили", "гол", "🔥", "и", "выиграли", "счёт", "3", "0"]
    assert [one["weight"] for one in done["explanation"]["ads"]] == pytest.approx([0] * 9)
    assert any(abs(one["weight"]) > 0.01 for one in done["explanation"]["sport"])
    own = get(client, posted, "/explanation")
    assert (own["status"], own["explanation"], own["error"]) == ("succeeded", done["explanation"], None)
    assert own["model"] == done["model"]
    assert own["finished_at"] >= own["asked_at"]


def test_between_the_result_and_the_explanation_the_topics_are_there_and_the_text_is_running(
    client: FlaskClient, drain: Drain, classifier: Recorder
) -> None:
    posted = post(client, {"text": TEXT, "explain": True})
    seen: list[dict[str, Any]] = []
    classifier.on_compute = lambda: seen.append(client.get(f"{V1}/classifications/{posted['id']}"))  # type: ignore[arg-type,func-returns-value]
    drain.run()
    before, between = (response.get_json() for response in seen)  # type: ignore[attr-defined]
    assert (before["status"], before["topics"]) == ("running", [])
    assert (between["status"], between["explanation"], between["finished_at"]) == ("running", None, None)
    assert len(between["topics"]) == 2
    assert seen[1].headers["Retry-After"] == "1"  # type: ignore[attr-defined]
    assert "Retry-After" not in client.get(f"{V1}/classifications/{posted['id']}").headers


def test_the_shape_of_a_text_that_does_not_ask_is_the_same(client: FlaskClient, drain: Drain) -> None:
    asking_one, other = post(client, {"items": [{"text": TEXT, "explain": True}, {"text": TEXT}]})["items"]
    drain.run()
    one, two = get(client, asking_one), get(client, other)
    assert list(one) == list(two)
    assert (two["status"], two["explanation"], two["explanation_error"]) == ("succeeded", None, None)
    assert one["explanation"] is not None
    listed = client.get(f"{V1}/classifications").get_json()["items"]
    assert listed == [one, two]
    assert client.get(f"{V1}/classifications.json").get_json() == [one, two]


def test_who_prefers_to_wait_gets_the_explanation_with_the_result(client: FlaskClient, busy_drain: Drain) -> None:
    items = [{"text": f"{TEXT} {number}", "explain": number % 2 == 0} for number in range(6)]
    response = client.post(f"{V1}/classifications", json={"items": items}, headers={"Prefer": "wait=30"})
    assert response.status_code == 200
    answered = response.get_json()["items"]
    assert [item["explanation"] is not None for item in answered] == [True, False] * 3
    assert [said(item)[-1] for item in answered[::2]] == ["0", "2", "4"]


def test_a_text_that_is_known_already_is_explained_all_the_same(
    client: FlaskClient, drain: Drain, classifier: Recorder
) -> None:
    post(client, {"text": TEXT})
    drain.run()
    posted = post(client, {"text": TEXT, "explain": True})
    drain.run()
    assert [TEXT] not in classifier.computed[1:], "its probabilities were known"
    done = get(client, posted)
    assert done["topics"][0]["probability"] == pytest.approx(max(expected(TEXT), 0.25))
    assert said(done)[2] == "гол"


def test_an_explanation_that_fails_loses_nothing_and_says_why(client: FlaskClient, drain: Drain) -> None:
    good, fragile, bad = post(
        client, {"items": [{"text": one, "explain": True} for one in (TEXT, "!fragile слово", "!fail")]}
    )["items"]
    drain.run()
    assert get(client, good)["explanation"] is not None
    lost = get(client, fragile)
    assert (lost["status"], lost["explanation"], len(lost["topics"])) == ("succeeded", None, 2)
    assert lost["explanation_error"]["code"] == "explanation_failed"
    assert "a part of this text broke it" in lost["explanation_error"]["message"]
    failed = get(client, bad)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_failed")
    assert failed["explanation_error"]["code"] == "not_classified"
    assert get(client, bad, "/explanation")["status"] == "failed"


def test_a_text_without_words_has_an_empty_explanation(client: FlaskClient, drain: Drain) -> None:
    posted = post(client, {"text": "!!! …", "explain": True})
    drain.run()
    assert get(client, posted)["explanation"] == {"sport": [], "ads": []}


def test_the_key_of_a_request_covers_the_flag(client: FlaskClient, drain: Drain, engine: Engine) -> None:
    key = {"Idempotency-Key": "once"}
    first = post(client, {"text": TEXT, "explain": True}, **key)
    assert post(client, {"text": TEXT, "explain": True}, **key)["id"] == first["id"]
    other = client.post(f"{V1}/classifications", json={"text": TEXT}, headers=key)
    assert_problem(other, 422, "idempotency_mismatch")
    drain.run()
    again = client.post(f"{V1}/classifications", json={"text": TEXT, "explain": True}, headers=key)
    assert (again.status_code, again.get_json()) == (200, get(client, first))
    assert rows(engine, "SELECT count(*) FROM explanations") == [(1,)]


def test_a_request_may_ask_for_so_many_and_no_more(client: FlaskClient, settings: Settings, engine: Engine) -> None:
    most = settings.max_explained
    items = [{"text": "а", "explain": True}] * most + [{"text": "б"}] * 10
    post(client, {"items": items})
    refused = client.post(f"{V1}/classifications", json={"items": [*items, {"text": "в", "explain": True}]})
    problem = assert_problem(refused, 422, "too_many_explained")
    assert str(most) in problem["detail"]
    assert rows(engine, "SELECT count(*) FROM jobs") == [(1,)]


@pytest.mark.parametrize("value", ["yes", 1, None, []])
def test_the_flag_is_true_or_false(client: FlaskClient, value: Any) -> None:
    answer = client.post(f"{V1}/classifications", json={"text": TEXT, "explain": value})
    problem = assert_problem(answer, 422)
    assert problem["errors"][0]["pointer"] == "/explain"
    beside = client.post(f"{V1}/classifications", json={"items": [{"text": TEXT}], "explain": True})
    assert_problem(beside, 422, "not_alone")


# --- asked for later ------------------------------------------------------------------------------------------------


def test_an_explanation_can_be_asked_for_later_and_twice_is_once(
    client: FlaskClient, drain: Drain, engine: Engine
) -> None:
    posted = post(client, {"text": TEXT})
    assert_problem(client.get(f"{V1}/classifications/{posted['id']}/explanation"), 404)
    early = client.post(f"{V1}/classifications/{posted['id']}/explanation")
    assert_problem(early, 409, "conflict")
    drain.run()
    address = f"{V1}/classifications/{posted['id']}/explanation"
    for _ in range(2):
        asked = client.post(address)
        assert (asked.status_code, asked.headers["Location"], asked.headers["Retry-After"]) == (202, address, "1")
        assert (asked.get_json()["status"], asked.get_json()["explanation"]) == ("queued", None)
    assert get(client, posted)["status"] == "succeeded", "a final status never changes"
    drain.run()
    done = client.get(address).get_json()
    assert done["status"] == "succeeded"
    assert get(client, posted)["explanation"] == done["explanation"]
    again = client.post(address)
    assert (again.status_code, again.get_json()) == (200, done)
    assert rows(engine, "SELECT count(*), max(attempts) FROM explanations") == [(1, 1)]


def test_who_asks_later_may_wait_as_well(client: FlaskClient, busy_drain: Drain) -> None:
    posted = post(client, {"text": TEXT}, Prefer="wait=20")
    answer = client.post(f"{V1}/classifications/{posted['id']}/explanation", headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=20")
    assert answer.get_json()["explanation"]["sport"]


def test_what_failed_is_tried_again_when_somebody_asks_again(client: FlaskClient, drain: Drain) -> None:
    posted = post(client, {"text": "!fragile слово", "explain": True})
    drain.run()
    assert client.post(f"{V1}/classifications/{posted['id']}/explanation").status_code == 202
    assert get(client, posted)["status"] == "succeeded"
    drain.run()
    assert get(client, posted, "/explanation")["error"]["code"] == "explanation_failed"
    failed = post(client, {"text": "!fail", "explain": True})
    drain.run()
    answer = client.post(f"{V1}/classifications/{failed['id']}/explanation")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (200, "not_classified")


@pytest.mark.parametrize("name", ["nothing", "0" * 32 + "-1", "0" * 32 + "-99999999999"])
def test_what_is_not_there_cannot_be_explained(client: FlaskClient, name: str) -> None:
    for method in (client.get, client.post):
        assert_problem(method(f"{V1}/classifications/{name}/explanation"), 404)


def test_the_text_of_another_owner_is_not_there(client: FlaskClient, drain: Drain, engine: Engine) -> None:
    posted = post(client, {"text": TEXT, "explain": True})
    drain.run()
    run(engine, lambda c: c.execute(text("UPDATE jobs SET owner = 'somebody'")))
    for method in (client.get, client.post):
        assert_problem(method(f"{V1}/classifications/{posted['id']}/explanation"), 404)


def test_only_the_model_that_classified_a_text_explains_it(
    client: FlaskClient, drain: Drain, engine: Engine, heart: Heart
) -> None:
    posted = post(client, {"text": TEXT})
    drain.run()
    address = f"{V1}/classifications/{posted['id']}/explanation"
    other = run(
        engine, lambda c: fleet.register_model(c, name="b", version="1", sha256="b" * 64, topics=TOPICS, card={})
    )
    assert client.post(address).status_code == 202
    assert take(engine, other) is None
    run(engine, lambda c: c.execute(text("UPDATE workers SET model_id = :model"), {"model": other}))
    # The model may come back; when it does not, who asked is told.
    run(engine, sweeping.sweep)
    assert client.get(address).get_json()["status"] == "queued"
    run(engine, lambda c: c.execute(text("UPDATE explanations SET queued_at = now() - interval '10 minutes'")))
    run(engine, sweeping.sweep)
    assert client.get(address).get_json()["error"]["code"] == "model_gone"
    problem = assert_problem(client.post(address), 409, "model_not_running")
    assert "b@1" in problem["detail"]
    run(engine, lambda c: c.execute(text("DELETE FROM workers")))
    assert client.post(address).status_code == 202, "with nobody there, a worker of that model may well be the next"


TOPICS = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.4))


# --- leases, fences, ends -------------------------------------------------------------------------------------------


@pytest.fixture
def asked(client: FlaskClient, drain: Drain, engine: Engine, heart: Heart) -> dict[str, Any]:
    """A text that is classified, and whose explanation waits for a worker."""
    posted: dict[str, Any] = post(client, {"text": TEXT, "explain": True})
    claimed = run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=1, lease_seconds=30))
    assert claimed is not None

    def record(connection: Any) -> None:
        store.begin(connection, claimed.lease)
        outcomes = [store.Outcome(one, [0.9, 0.1]) for one in store.read_texts(connection, claimed)]
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


def test_an_explanation_is_dropped_with_the_day_of_its_text(engine: Engine, asked: dict[str, Any]) -> None:
    [(day,)] = rows(engine, "SELECT day FROM explanations")
    run(engine, lambda c: partitions.drop_day(c, day))
    assert rows(engine, "SELECT (SELECT count(*) FROM explanations), (SELECT count(*) FROM jobs)") == [(0, 0)]


def test_a_text_that_no_worker_survived_is_not_explained(client: FlaskClient, engine: Engine, heart: Heart) -> None:
    posted = post(client, {"text": "!kill", "explain": True})
    run(engine, lambda c: store.claim(c, lane=Lane.INTERACTIVE, limit=1, lease_seconds=-1))
    run(engine, lambda c: c.execute(text("UPDATE chunks SET attempts = 3")))
    run(engine, sweeping.sweep)
    found = get(client, posted)
    assert (found["error"]["code"], found["explanation_error"]["code"]) == ("worker_lost", "not_classified")


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


# --- with the model -------------------------------------------------------------------------------------------------


def test_without_the_words_that_speak_for_it_most_a_text_loses_its_topic(
    app: Any, client: FlaskClient, settings: Settings, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The shipped model through the whole service, also where the probabilities come from the cache."""
    cache = tmp_path_factory.mktemp("cache")
    classifier = Classifier.load(SHIPPED_MODEL, device="cpu", threads=1, cache_dir=cache)
    model = register(engine, classifier)
    heart = Heart(engine, worker="real", model_id=model, device="cpu", lease_seconds=30)
    heart.start()
    drain = Drain(replace(settings, threads=1), engine, app.extensions["rubrika"].bell, classifier, model, heart)
    try:
        body = {"doc_text": "😀 Наши забили победный гол в матче, болельщики ликуют", "image2text": "СПАРТАК 3:0"}
        plain = post(client, body)
        drain.run()
        asked = post(client, body | {"explain": True})
        drain.run()
        found = get(client, asked)
        assert found["topics"] == get(client, plain)["topics"]
        assert found["topics"][0]["topic"] == "sport"
        # Of all words those four are taken out, from the last place to the first, that speak for sport most.
        texts = {field: found[field] for field in ("doc_text", "image2text")}
        best = sorted(found["explanation"]["sport"], key=lambda one: -one["weight"])[:4]
        for one in sorted(best, key=lambda one: -one["start"]):
            field = texts[one["field"]]
            texts[one["field"]] = field[: one["start"]] + field[one["end"] :]
        without = post(client, texts)
        drain.run()
        shares = {topic["topic"]: topic["probability"] for topic in get(client, without)["topics"]}
        assert shares["sport"] < found["topics"][0]["probability"] - 0.2
    finally:
        drain.close()
        heart.stop()


def test_the_wait_is_for_what_is_asked_with_the_text_and_for_nothing_else(
    client: FlaskClient, drain: Drain, engine: Engine, heart: Heart
) -> None:
    """An explanation that is asked for later leaves the final status, and the time, of its text alone."""
    posted = post(client, {"text": TEXT})
    drain.run()
    done = get(client, posted)
    assert asking.ask(engine, "local", "texts", *parse_text_id(posted["id"]))  # type: ignore[arg-type]
    drain.run()
    wait_until(lambda: get(client, posted)["explanation"], what="the explanation")
    assert {**get(client, posted), "explanation": None} == done
