"""Sessions of browsers: begun with a key, known again by a cookie, and ended."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text
from werkzeug.http import parse_cookie

from api.app import create_app
from jobs.database import run
from jobs.settings import Settings
from tests.integration.api_support import V1
from tests.integration.keys_support import OWN_PAGE, SECRET, Keyed, sign_in

JOBS = f"{V1}/jobs"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET)


def test_a_browser_signs_in_and_out(client: FlaskClient, engine: Engine, anna: Keyed) -> None:
    answer = sign_in(client, f"  {anna.key}\n")
    assert answer.status_code == 200
    assert answer.get_json() | {"limits": None} == {
        "auth": "keys", "name": "anna", "owner": "anna", "role": "user", "limits": None,
    }  # fmt: skip
    assert client.get(f"{V1}/session").get_json()["name"] == "anna"
    assert "anna" in client.get("/").text
    before = client.get_cookie("rubrika")
    assert client.delete(f"{V1}/session", headers=OWN_PAGE).status_code == 204
    assert client.get_cookie("rubrika") is None
    # Who has copied the cookie has nothing.
    assert before is not None
    client.set_cookie("rubrika", before.value)
    assert client.get(JOBS).status_code == 401
    assert client.get("/").headers["Location"] == "/login?next=/"


@pytest.mark.parametrize("tls", [False, True])
def test_the_cookie_is_closed_to_scripts_and_to_other_sites(client: FlaskClient, anna: Keyed, tls: bool) -> None:
    base = "https://localhost" if tls else "http://localhost"
    answer = sign_in(client, anna.key, base_url=base)
    [cookie] = answer.headers.getlist("Set-Cookie")
    pairs, *flags = cookie.split("; ")
    assert pairs.startswith("__Host-rubrika=" if tls else "rubrika=")
    assert set(flags) == {"HttpOnly", "SameSite=Lax", "Path=/"} | ({"Secure"} if tls else set())
    assert "Domain" not in cookie
    assert anna.key not in cookie
    assert len(cookie) < 4096
    assert client.get(JOBS, base_url=base).status_code == 200
    # A cookie that came in the open is not one of a request over TLS.
    if not tls:
        assert client.get(JOBS, base_url="https://localhost").status_code == 401


def test_a_session_is_stored_as_a_digest_and_a_cookie_is_never_the_same_twice(
    client: FlaskClient, engine: Engine, anna: Keyed
) -> None:
    values = set()
    for _ in range(2):
        [cookie] = sign_in(client, anna.key).headers.getlist("Set-Cookie")
        values.add(parse_cookie(cookie.split(";")[0])["rubrika"])
    assert len(values) == 2
    rows = run(engine, lambda c: c.execute(text("SELECT digest FROM sessions")).scalars().all())
    assert len(rows) == 1, "signing in again ends the session that the browser had"
    tokens = [value.partition(".")[0].encode() for value in values]
    assert bytes(rows[0]) in {hashlib.sha256(token).digest() for token in tokens}


def with_another_letter(value: str) -> str:
    """In the middle, where each letter of base64 counts with all of its bits."""
    middle = len(value) // 2
    return f"{value[:middle]}{'A' if value[middle] != 'A' else 'B'}{value[middle + 1 :]}"


@pytest.mark.parametrize("change", ["signature", "token", "unsigned", "other secret", "nonsense"])
def test_a_forged_cookie_is_nobodys_and_never_looked_up(
    app: Any, settings: Settings, client: FlaskClient, engine: Engine, anna: Keyed, change: str
) -> None:
    sign_in(client, anna.key)
    cookie = client.get_cookie("rubrika")
    assert cookie is not None
    token, _, signature = cookie.value.partition(".")
    other = create_app(replace(settings, secret_key=SECRET[::-1]))
    forged = {
        "signature": f"{token}.{with_another_letter(signature)}",
        "token": f"{with_another_letter(token)}.{signature}",
        "unsigned": token,
        "other secret": other.extensions["rubrika"].cookie._signer.sign(token).decode(),
        "nonsense": "\xff.\xff",
    }[change]
    client.set_cookie("rubrika", forged)
    asked: list[str] = []
    event.listen(app.extensions["rubrika"].engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert client.get(JOBS).status_code == 401
    assert asked == []
    other.extensions["rubrika"].close()


@pytest.mark.parametrize(
    ("column", "age", "status"),
    [
        ("used_at", "11 hours", 200),
        ("used_at", "13 hours", 401),
        ("created_at", "6 days", 200),
        ("created_at", "8 days", 401),
    ],
)
def test_a_session_ends_when_it_is_not_used_and_in_any_case_after_a_week(
    client: FlaskClient, engine: Engine, anna: Keyed, column: str, age: str, status: int
) -> None:
    sign_in(client, anna.key)
    run(engine, lambda c: c.execute(text(f"UPDATE sessions SET {column} = now() - interval '{age}'")))
    assert client.get(JOBS).status_code == status
    if status == 200 and column == "used_at":
        stale = run(
            engine, lambda c: c.execute(text("SELECT now() - used_at > interval '1 minute' FROM sessions")).scalar()
        )
        assert not stale, "use is noted"
