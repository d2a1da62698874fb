"""Who prefers to wait, and asks for what is there already, is answered at once."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.integration.api_support import V1, Worker
from tests.integration.explain_support import TEXT, post
from worker.drain import Drain

WAIT = {"Prefer": "wait=30"}
ONCE = {"Idempotency-Key": "once"}


class WaitedError(Exception):
    """Somebody waits to be woken."""


@pytest.fixture
def nobody_waits(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gets an error instead."""

    def wait(*_: Any) -> None:
        raise WaitedError

    monkeypatch.setattr(app.extensions["rubrika"].bell, "wait", wait)


@pytest.mark.usefixtures("nobody_waits")
@pytest.mark.parametrize(("asked", "applied"), [("wait=30", "wait=30"), ("wait=900", "wait=60")])
def test_a_repeated_request_does_not_wait_for_what_is_there(
    client: FlaskClient, worker: Worker, asked: str, applied: str
) -> None:
    body = {"items": [{"text": "матч"}, {"text": "сломай"}]}
    post(client, body, **ONCE)
    worker.work()
    answer = client.post(f"{V1}/classifications", json=body, headers={"Prefer": asked} | ONCE)
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == applied
    assert [item["status"] for item in answer.get_json()["items"]] == ["succeeded", "failed"]


@pytest.mark.usefixtures("nobody_waits")
def test_an_explanation_that_is_there_is_not_waited_for(client: FlaskClient, drain: Drain) -> None:
    text = post(client, {"text": TEXT, "explain": True})
    drain.run()
    answer = client.post(f"{V1}/classifications/{text['id']}/explanation", headers=WAIT)
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.get_json()["status"] == "succeeded"


@pytest.mark.usefixtures("nobody_waits")
def test_what_is_not_there_is_waited_for(client: FlaskClient, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert client.post(f"{V1}/classifications", json={"text": "а"}, headers=WAIT | ONCE).status_code == 500
    waited = [record for record in caplog.records if record.exc_info and record.exc_info[0] is WaitedError]
    assert len(waited) == 2
