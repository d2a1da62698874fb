"""Two owners walk each other's ids on every address that there is. A new one that is not walked fails here."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Engine, text

from jobs.database import run
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker
from tests.integration.keys_support import SECRET, Keyed, new_key

MARK = "Тайна Анны о матче"
FILE = CSV.replace("Сегодня матч".encode(), MARK.encode())

NOBODYS = {
    "service.topics", "service.list_models", "service.read_model",
    "service.healthz", "service.healthz_root", "service.readyz", "service.readyz_root",
    "session.who", "session.sign_in", "session.sign_out",
    "openapi_document", "openapi_document_v1", "docs", "docs_file",
    "web.text", "web.result", "web.files", "web.job", "web.history", "web.model", "web.api", "web.login",
    "service.metrics",
    "web.asset", "web.favicon",
    "job_actions.preview",
}  # fmt: skip
"""Endpoints that show and change nothing that belongs to an owner: models, health, documents, empty pages."""

LISTS = {
    "classifications.history", "jobs.list_jobs",
    "histories.texts_csv", "histories.texts_json", "histories.jobs_csv", "histories.jobs_json",
}  # fmt: skip
"""They have no id to ask for, and give the caller's own alone."""

CREATE = {"classifications.classify", "jobs.upload"}
"""What they make belongs to the caller; under an Idempotency-Key of somebody else's it is still the caller's."""

BODIES: dict[str, dict[str, Any]] = {
    "feedback.judge_text": {"json": {"topics": ["sport"]}},
    "feedback.judge_row": {"json": {"topics": ["sport"]}},
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET)


@dataclass
class Things:
    """What an owner has: a text, two jobs of one file that are done, and one that waits."""

    text: str
    job: str
    rerun: str
    waiting: str


def make(who: Keyed, worker: Worker) -> Things:
    upload = {"data": {"file": (io.BytesIO(FILE), "тайна.csv")}, "headers": {"Idempotency-Key": "once"}}
    text = who.post(f"{V1}/classifications", json={"text": MARK}).get_json()["id"]
    job = who.post(f"{V1}/jobs", **upload).get_json()["id"]
    again = who.post(f"{V1}/jobs/{job}/rerun")
    assert again.status_code == 202, again.text
    worker.work()
    for told in (f"classifications/{text}", f"jobs/{job}/rows/1"):
        assert who.post(f"{V1}/{told}/explanation").status_code == 202
    waiting = who.post(f"{V1}/jobs", data={"file": (io.BytesIO(FILE), "ещё.csv")}).get_json()["id"]
    return Things(text, job, again.get_json()["id"], waiting)


def addresses(app: Any, things: Things) -> Iterator[tuple[str, str, str]]:
    """(endpoint, method, address) of everything that asks for an id, with the ids of `things`."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint in NOBODYS | LISTS | CREATE:
            continue
        for method in sorted(rule.methods - {"OPTIONS"}):
            text_id = "classifications/" in rule.rule
            values = {"id": things.text if text_id else things.job, "other": things.rerun, "row": "1"}
            if rule.endpoint == "jobs.cancel":
                values["id"] = things.waiting
            address = re.sub(r"<(?:\w+:)?(\w+)>", lambda found, values=values: values[found[1]], rule.rule)
            yield rule.endpoint, method, address


def snapshot(engine: Engine) -> list[Any]:
    """All that is stored of jobs, texts, results, feedback and explanations."""
    tables = ("jobs", "texts", "results", "feedback", "chunks", "explanations")
    return [
        sorted(map(str, run(engine, lambda c, table=table: c.execute(text(f"SELECT * FROM {table}")).all())))
        for table in tables
    ]


def test_every_address_is_known_to_this_walk(app: Any) -> None:
    known = NOBODYS | LISTS | CREATE
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    with_id = {rule.endpoint for rule in app.url_map.iter_rules() if "<id>" in rule.rule}
    assert known <= endpoints, f"{known - endpoints} are gone"
    assert endpoints - with_id == known - with_id, "say of a new address here whose things it shows"


def test_another_owners_id_answers_exactly_as_one_that_does_not_exist(
    app: Any, engine: Engine, worker: Worker, anna: Keyed, boris: Keyed
) -> None:
    annas, nobodys = make(anna, worker), Things(f"{'0' * 32}-1", "0" * 32, "0" * 32, "0" * 32)
    make(boris, worker)  # So that an id of one's own beside another's is tried as well.
    before = snapshot(engine)
    walked = set()
    # Read and closed, as a server does it: else each would keep the place of a request that takes long.
    missing = {(method, endpoint): boris.open(method, path, buffered=True, **BODIES.get(endpoint, {}))
               for endpoint, method, path in addresses(app, nobodys)}  # fmt: skip
    for endpoint, method, path in addresses(app, annas):
        answer = boris.open(method, path, buffered=True, **BODIES.get(endpoint, {}))
        like = missing[(method, endpoint)]
        assert answer.status_code == 404, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        assert answer.data == like.data.replace(b"0" * 32, annas.job.encode()), f"{method} {path}"
        assert set(answer.headers.keys()) == set(like.headers.keys()), f"{method} {path}"
        walked.add(endpoint)
    assert len(walked) >= 16, walked
    assert snapshot(engine) == before, "nothing may change by what is refused"


def test_a_comparison_needs_both_sides_to_be_ones_own(app: Any, worker: Worker, anna: Keyed, boris: Keyed) -> None:
    annas, borises = make(anna, worker), make(boris, worker)
    for first, second in ((annas.job, borises.job), (borises.job, annas.job), (borises.rerun, annas.rerun)):
        for more in ("", "/rows"):
            assert boris.get(f"{V1}/jobs/{first}/compare/{second}{more}").status_code == 404


def test_each_owner_reaches_what_is_its_own_by_every_address(app: Any, worker: Worker, anna: Keyed) -> None:
    things = make(anna, worker)
    last = ("jobs.delete",)
    found = sorted(addresses(app, things), key=lambda one: one[0] in last)
    for endpoint, method, path in found:
        with anna.open(method, path, **BODIES.get(endpoint, {})) as answer:
            allowed = {409} if endpoint == "job_actions.retry" else {200, 202, 204}
            assert answer.status_code in allowed, f"{method} {path}: {answer.status_code}"


def test_lists_and_downloads_hold_ones_own_alone(app: Any, worker: Worker, anna: Keyed, boris: Keyed) -> None:
    annas = make(anna, worker)
    rules = {rule.endpoint: rule.rule for rule in app.url_map.iter_rules() if rule.endpoint in LISTS}
    for endpoint in sorted(LISTS):
        mine, others = anna.get(rules[endpoint]), boris.get(rules[endpoint])
        assert (mine.status_code, others.status_code) == (200, 200)
        shown = mine.text.encode().decode("unicode_escape") if "\\u" in mine.text else mine.text
        assert annas.job in shown or annas.text in shown, endpoint
        for secret in (annas.job, annas.text, annas.rerun, "тайна", MARK):
            assert secret not in others.text, endpoint


def test_a_cursor_of_somebody_else_opens_nothing(app: Any, worker: Worker, anna: Keyed, boris: Keyed) -> None:
    make(anna, worker)
    anna.post(f"{V1}/classifications", json={"text": MARK})
    following = anna.get(f"{V1}/classifications?limit=1").get_json()["next"]
    assert anna.get(following).get_json()["items"]
    assert boris.get(following).get_json()["items"] == []


def test_an_idempotency_key_is_its_owners(app: Any, anna: Keyed, boris: Keyed) -> None:
    def send(who: Keyed, body: str) -> Any:
        return who.post(f"{V1}/classifications", json={"text": body}, headers={"Idempotency-Key": "the same"})

    first, again, others = send(anna, MARK), send(anna, MARK), send(boris, MARK)
    assert first.get_json()["id"] == again.get_json()["id"] != others.get_json()["id"]
    assert send(boris, "anything else").status_code == 422
    assert others.status_code == 202


def test_keys_of_one_owner_share_what_it_has(app: Any, engine: Engine, worker: Worker, anna: Keyed) -> None:
    things = make(anna, worker)
    laptop = Keyed(app.test_client(), new_key(engine, "anna-laptop", owner="anna"))
    assert laptop.get(f"{V1}/jobs/{things.job}").status_code == 200
    assert laptop.get(f"{V1}/session").get_json()["owner"] == "anna"


def test_an_admin_sees_nobody_elses_texts(app: Any, engine: Engine, worker: Worker, anna: Keyed) -> None:
    from jobs.states import Role

    admin = Keyed(app.test_client(), new_key(engine, "root", role=Role.ADMIN))
    things = make(anna, worker)
    for endpoint, method, path in addresses(app, things):
        assert admin.open(method, path, **BODIES.get(endpoint, {})).status_code == 404
    assert admin.get(f"{V1}/jobs").get_json()["items"] == []


def test_a_session_sees_what_its_key_sees(app: Any, engine: Engine, worker: Worker, anna: Keyed, boris: Keyed) -> None:
    from tests.integration.keys_support import OWN_PAGE, sign_in

    things = make(anna, worker)
    browser = app.test_client()
    assert sign_in(browser, boris.key).status_code == 200
    for endpoint, method, path in addresses(app, things):
        answer = browser.open(path, method=method, headers=OWN_PAGE, **BODIES.get(endpoint, {}))
        assert answer.status_code == 404, f"{method} {path}"
    sign_in(browser, anna.key)
    assert json.loads(browser.get(f"{V1}/jobs/{things.job}").data)["id"] == things.job
