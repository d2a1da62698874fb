"""Explanations as their clients see them: API, store and a real drain over a real database and a real Redis."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from jobs import asking, fleet, sweeping
from jobs.database import run
from jobs.records import parse_text_id
from jobs.settings import SHIPPED_MODEL, Settings
from jobs.states import JobKind
from ml.classifier import Classifier
from rubrika_client import Client
from tests.fake_classifier import expected
from tests.integration.api_support import V1, assert_problem, upload
from tests.integration.explain_support import TEXT, Recorder, get, post, register, rows, said, take
from tests.integration.store_support import TOPICS
from worker.drain import Drain
from worker.heart import Heart

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


def test_the_client_for_python_may_ask_for_several(app: Any, drain: Drain) -> None:
    with Client("http://127.0.0.1", transport=httpx2.WSGITransport(app=app)) as client:
        posted = client.classify([TEXT, "тишина"], explain=True, wait=0)
        drain.run()
        assert [sorted(client.classification(one.id).explanation or ()) for one in posted] == [["ads", "sport"]] * 2


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


def test_a_row_of_a_file_is_explained_by_its_own_address(client: FlaskClient, drain: Drain, engine: Engine) -> None:
    job = upload(client, f"text,image2text\nпервый,\n{TEXT},счёт\n!fail,\n".encode()).get_json()
    address = f"{job['links']['self']}/rows/2/explanation"
    assert_problem(client.post(address), 409, "conflict")
    drain.run()
    before = client.get(job["links"]["self"]).get_json()
    assert_problem(client.get(address), 404)
    asked = client.post(address)
    assert (asked.status_code, asked.headers["Location"]) == (202, address)
    drain.run()
    done = client.get(address).get_json()
    assert (done["status"], done["error"]) == ("succeeded", None)
    pieces = done["explanation"]["sport"]
    assert [TEXT[one["start"] : one["end"]] for one in pieces if one["field"] == "doc_text"][2] == "гол"
    assert pieces[-1] == {"field": "image2text", "start": 0, "end": 4, "weight": pieces[-1]["weight"]}
    assert client.get(job["links"]["self"]).get_json() == before, "the job was finished, and stays so"
    for row, status in ((3, 409), (4, 404), (0, 404), (2**40, 404)):
        assert client.post(f"{job['links']['self']}/rows/{row}/explanation").status_code == status
    # A row is not reached as a text, nor a text as a row.
    assert client.post(f"{V1}/classifications/{job['id']}-2/explanation").status_code == 404
    text_job = post(client, {"text": TEXT})["id"].split("-")[0]
    drain.run()
    assert client.post(f"{V1}/jobs/{text_job}/rows/1/explanation").status_code == 404


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
    heart.stop()
    run(engine, lambda c: fleet.worker_seen(c, "other", other, "fake"))
    assert [worker.name for worker in run(engine, fleet.workers)] == ["other"]
    # The model may come back; when it does not, who asked is told. It is the model that must have been away for long,
    # while others were there: how long the explanation has waited, in a queue, says nothing.
    long_ago = "now() - interval '1 minute'"
    run(engine, lambda c: c.execute(text(f"UPDATE explanations SET queued_at = {long_ago}")))
    came = "UPDATE workers SET started_at = {} WHERE name = 'other'"
    for so_far in (
        (came.format(long_ago),),
        (f"UPDATE workers SET seen_at = {long_ago} WHERE name = 'test'", came.format("now()")),
    ):
        for statement in so_far:
            run(engine, lambda c, one=statement: c.execute(text(one)))
        run(engine, sweeping.sweep)
        assert client.get(address).get_json()["status"] == "queued"
    run(engine, lambda c: c.execute(text(came.format(long_ago))))
    run(engine, sweeping.sweep)
    assert client.get(address).get_json()["error"]["code"] == "model_gone"
    problem = assert_problem(client.post(address), 409, "model_not_running")
    assert "b@1" in problem["detail"]
    run(engine, lambda c: c.execute(text("DELETE FROM workers")))
    assert client.post(address).status_code == 202, "with nobody there, a worker of that model may well be the next"


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
        # Of all words those six are taken out, from the last place to the first, that speak for sport most.
        texts = {field: found[field] for field in ("doc_text", "image2text")}
        best = sorted(found["explanation"]["sport"], key=lambda one: -one["weight"])[:6]
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
    assert asking.ask(engine, "local", JobKind.TEXTS, *parse_text_id(posted["id"]))
    drain.run()
    assert {**get(client, posted), "explanation": None} == done
