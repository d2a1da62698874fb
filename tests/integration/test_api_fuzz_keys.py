"""The requests of `test_api_fuzz` with keys on: of users, admins, browsers, strangers, and of who comes too often."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
import schemathesis
from sqlalchemy import Engine

from jobs import fleet
from jobs.database import run
from jobs.settings import Settings
from jobs.states import Role
from tests.integration.api_support import CSV, V1, Worker, upload
from tests.integration.fuzz_support import PHASES, Asker, fuzz, operations
from tests.integration.keys_support import OWN_PAGE, SECRET, Keyed, new_key, sign_in

OPEN = {
    *((path, "get") for path in ("/healthz", "/readyz", f"{V1}/healthz", f"{V1}/readyz")),
    (f"{V1}/session", "post"),
}
QUICK = {"max_examples": 2, "derandomize": True, "phases": PHASES}
LONG = {"max_examples": 100, "phases": PHASES}


@dataclass
class Refusals:
    """How much of what one asks for who comes too often is refused: all but one request a minute."""

    asked: int = 0
    refused: int = 0

    def __call__(self, answer: Any, path: str, method: str) -> None:
        if path.startswith("/api/") and (path, method) not in OPEN:
            self.asked += 1
            self.refused += answer.status_code == 429


class FromEverywhere:
    """The app, as if each request came from an address of its own: none is told to wait for what others did.

    Answers are read and closed, as a server does it, so that they hold no place of their key.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._numbers = count()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        number = next(self._numbers)
        environ["REMOTE_ADDR"] = f"198.18.{number // 250 % 250}.{1 + number % 250}"
        answer = self._app(environ, start_response)
        try:
            return list(answer)
        finally:
            answer.close()


@pytest.fixture
def settings(settings: Settings, asker_name: str) -> Settings:
    most = 1 if asker_name == "hurried" else 0
    return replace(settings, auth="keys", secret_key=SECRET, max_requests_per_minute=most)


@pytest.fixture
def asker(asker_name: str, app: Any, engine: Engine) -> Asker:
    """Who asks: what is sent, and what every answer to that must be."""
    if asker_name == "nobody":
        return Asker(judged=is_closed, refused=frozenset({401, 403}))
    if asker_name == "a liar":
        headers, cookies = {"Authorization": f"Bearer rbk_{'x' * 43}"}, {"rubrika": "x.y"}
        return Asker(headers, cookies, judged=is_closed, refused=frozenset({401, 403}))
    role = Role.ADMIN if asker_name == "admin" else Role.USER
    key = new_key(engine, "anna", role=role)
    if asker_name == "browser":
        browser = app.test_client()
        assert sign_in(browser, key).status_code == 200
        cookie = browser.get_cookie("rubrika")
        return Asker(OWN_PAGE, {cookie.key: cookie.value}, judged=knows_who_asks, refused=frozenset({401, 403}))
    judged = Refusals() if asker_name == "hurried" else knows_who_asks
    refused = frozenset({403, 429} if asker_name == "hurried" else {403})
    return Asker({"Authorization": f"Bearer {key}"}, judged=judged, refused=refused)


def in_order() -> list[tuple[str, str]]:
    """All operations of the document. A browser that has signed out asks for nothing more."""
    return sorted(operations(), key=lambda one: one == (f"{V1}/session", "delete"))


def is_closed(answer: Any, path: str, method: str) -> None:
    """A stranger hears that it is one, and nothing else; of the page's sign-in, that it is for the page."""
    if (path, method) not in OPEN:
        assert answer.status_code == 401, answer.text
    elif method == "post":
        assert answer.status_code == 403, answer.text


def knows_who_asks(answer: Any, path: str, method: str) -> None:
    """Whoever has a key is never told that it has none; what is for admins, or for the page alone, is said to be so."""
    if answer.status_code == 403:
        assert answer.json()["code"] in {"admins_only", "cross_site"}
        assert path in {"/metrics", f"{V1}/session"}
    elif path != f"{V1}/session" or method == "get":
        assert answer.status_code != 401, answer.text


ASKERS = ("user", "admin", "browser", "nobody", "a liar", "hurried")


@pytest.fixture
def document(app: Any, engine: Engine, busy_worker: Worker) -> Any:
    """The document without what it says of keys: an unsound request would else be one without a key, time and again."""
    reader = Keyed(app.test_client(), new_key(engine, "reader"))
    told = reader.get("/openapi.json").get_json()
    del told["security"], told["components"]["securitySchemes"]
    for operation in (operation for item in told["paths"].values() for operation in item.values()):
        operation.pop("security", None)
    loaded = schemathesis.openapi.from_dict(told)
    loaded.app = FromEverywhere(app)
    return loaded


@pytest.fixture
def stay_alive(engine: Engine, busy_worker: Worker) -> Callable[[], None]:
    """Give the sign of life that the worker of the tests gives only at its start."""
    return lambda: run(engine, lambda connection: fleet.worker_seen(connection, "tiny", busy_worker.model, "cpu"))


@pytest.fixture
def places(app: Any, engine: Engine, asker_name: str, asker: Asker, document: Any) -> dict[str, Any]:
    """Names and ids of things that are there, of the one who asks where there is one."""
    if asker_name not in {"user", "admin", "browser"}:
        return {"text": f"{'1' * 32}-1", "job": "1" * 32, "other": "2" * 32, "name": "tiny", "row": 1}
    anna = Keyed(app.test_client(), new_key(engine, "anna-too", owner="anna"))
    text = anna.post(f"{V1}/classifications", json={"text": "матч"}, headers={"Prefer": "wait=10"}).get_json()
    job, other = (upload(anna, CSV, name).get_json() for name in ("a.csv", "b.csv"))  # type: ignore[arg-type]
    return {"text": text["id"], "job": job["id"], "other": other["id"], "name": "tiny", "row": 1}


@pytest.mark.parametrize("asker_name", ["user"])
def test_the_document_says_what_asks_for_a_key(app: Any, asker: Asker) -> None:
    told = app.test_client().get("/openapi.json", headers=dict(asker.headers)).get_json()
    assert told["security"] == [{"key": []}]
    open_to_all = {
        (path, method)
        for path, item in told["paths"].items()
        for method, operation in item.items()
        if operation.get("security") == []
    }
    assert open_to_all == OPEN


@pytest.mark.timeout(900)
@pytest.mark.parametrize("asker_name", ASKERS)
def test_answers_to_whoever_asks_are_those_of_the_document(
    document: Any, places: dict[str, Any], asker: Asker, stay_alive: Callable[[], None], subtests: pytest.Subtests
) -> None:
    for path, method in in_order():
        stay_alive()
        with subtests.test(f"{method.upper()} {path}"):
            fuzz(document, path, method, places, asker, **QUICK)
    if isinstance(asker.judged, Refusals):
        assert asker.judged.refused > 0.8 * asker.judged.asked > 50


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("asker_name", ASKERS)
def test_answers_to_whoever_asks_are_those_of_the_document_for_long(
    document: Any, places: dict[str, Any], asker: Asker, stay_alive: Callable[[], None], subtests: pytest.Subtests
) -> None:
    for path, method in in_order():
        stay_alive()
        with subtests.test(f"{method.upper()} {path}"):
            fuzz(document, path, method, places, asker, **LONG)
