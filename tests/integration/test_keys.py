"""Keys and sessions: who is let in, how a browser is known again, and when neither counts any more."""

import hashlib
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from api.app import create_app
from api.guard import OPEN, REFUSALS_PER_MINUTE
from jobs import keys
from jobs.database import run
from jobs.errors import ConflictError, NotFoundError, StartError
from jobs.keys import KeyNameError
from jobs.settings import Settings
from jobs.states import Role
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.integration.keys_support import SECRET, Keyed, new_key, sign_in

JOBS = f"{V1}/jobs"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_only_its_digest_is_kept(engine: Engine) -> None:
    key, secret = run(engine, lambda c: keys.create(c, "anna", "anna", Role.USER))
    assert re.fullmatch(r"rbk_[A-Za-z0-9]{43}", secret)
    assert (key.name, key.owner, key.role, key.used_at, key.revoked_at) == ("anna", "anna", Role.USER, None, None)
    [row] = run(engine, lambda c: c.execute(text("SELECT * FROM api_keys")).all())
    assert bytes(row.digest) == hashlib.sha256(secret.encode()).digest()
    assert secret not in str([bytes(value) if isinstance(value, memoryview) else value for value in row])
    assert secret.startswith(row.hint)
    assert len(row.hint) == 8
    assert run(engine, keys.all_keys) == [key]


def test_a_name_is_used_by_one_key_at_a_time(engine: Engine) -> None:
    new_key(engine, "anna")
    with pytest.raises(ConflictError, match="in use"):
        new_key(engine, "anna")
    run(engine, lambda c: keys.revoke(c, "anna"))
    new_key(engine, "anna")
    assert [key.revoked_at is None for key in run(engine, keys.all_keys)] == [True, False]
    with pytest.raises(NotFoundError):
        run(engine, lambda c: keys.revoke(c, "nobody"))


@pytest.mark.parametrize("name", ["", " ", "a b", "x" * 65, "a\n", "a;b", "\x00", "‮anna"])
def test_names_are_words(engine: Engine, name: str) -> None:
    with pytest.raises(KeyNameError):
        new_key(engine, name, owner="anna")
    with pytest.raises(KeyNameError):
        run(engine, lambda c: keys.create(c, "anna", name, Role.USER))


def test_a_key_is_looked_up_by_its_digest_alone(engine: Engine) -> None:
    # So the time of a look-up follows from the digest, of which nobody can choose the first bytes.
    secret = new_key(engine, "anna")
    wrong = secret[:-1] + ("y" if secret.endswith("x") else "x")
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    assert run(engine, lambda c: keys.holder_of_key(c, wrong)) is None
    [(statement, values)] = asked
    assert "WHERE digest = " in statement
    assert secret[:20] not in f"{statement}{values}"


def test_the_last_use_is_known_coarsely(engine: Engine, anna: Keyed) -> None:
    assert anna.get(JOBS).status_code == 200
    first = run(engine, keys.all_keys)[0].used_at
    assert first is not None
    anna.get(JOBS)
    assert run(engine, keys.all_keys)[0].used_at == first, "it is not written with each request"
    run(engine, lambda c: c.execute(text("UPDATE api_keys SET used_at = now() - interval '11 minutes'")))
    anna.get(JOBS)
    assert run(engine, keys.all_keys)[0].used_at > first


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer",
        "Bearer ",
        "Bearer rbk_" + "x" * 43,
        "Bearer nonsense",
        "bearer {key}x",
        "Bearer {key} {key}",
        "Bearer " + "x" * 5000,
        "Bearer \xff\xfe",
    ],
)
def test_a_wrong_key_is_401_and_says_how_to_send_one(client: FlaskClient, anna: Keyed, sent: str) -> None:
    answer = client.get(JOBS, headers={"Authorization": sent.format(key=anna.key)})
    assert_problem(answer, 401, "unknown_key")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="rubrika", error="invalid_token"'
    assert anna.key not in answer.text


def test_without_a_key_everything_but_what_is_open_is_closed(app: Any, client: FlaskClient) -> None:
    closed = set()
    for number, rule in enumerate(app.url_map.iter_rules()):
        address = re.sub(r"<(?:\w+:)?(\w+)>", "1", rule.rule)
        for method in rule.methods - {"OPTIONS"}:  # Which belongs to all endpoints of an address.
            # From an address each, so that none is told to wait instead.
            answer = client.open(address, method=method, environ_base={"REMOTE_ADDR": f"192.0.2.{number}"})
            if rule.endpoint in OPEN:
                assert answer.status_code != 401, f"{method} {address}"
                continue
            closed.add(rule.endpoint)
            if rule.endpoint.startswith("web."):
                assert answer.status_code == 303, f"{method} {address}"
                assert answer.headers["Location"].startswith("/login?next=/")
            else:
                assert answer.status_code == 401, f"{method} {address}"
    assert closed | OPEN == {rule.endpoint for rule in app.url_map.iter_rules()}
    assert_problem(Keyed(client, "").client.get(f"{V1}/nothing", environ_base={"REMOTE_ADDR": "192.0.2.1"}), 401)


def test_bearer_goes_in_any_case_and_other_schemes_are_not_ours(client: FlaskClient, anna: Keyed) -> None:
    assert client.get(JOBS, headers={"Authorization": f"bEaReR  {anna.key} "}).status_code == 200
    sign_in(client, anna.key)
    # A proxy may ask for a password of its own, and the browser sends that along.
    assert client.get(JOBS, headers={"Authorization": "Basic YTpi"}).status_code == 200
    assert client.get(JOBS, headers={"Authorization": "Bearer rbk_wrong"}).status_code == 401


def test_a_key_in_an_address_opens_nothing(client: FlaskClient, anna: Keyed) -> None:
    for name in ("key", "api_key", "access_token", "token"):
        assert client.get(f"{JOBS}?{name}={anna.key}").status_code == 401


def test_a_revoked_key_and_its_sessions_are_over_at_once(app: Any, engine: Engine, anna: Keyed) -> None:
    browser = app.test_client()
    sign_in(browser, anna.key)
    assert (anna.get(JOBS).status_code, browser.get(JOBS).status_code) == (200, 200)
    run(engine, lambda c: keys.revoke(c, "anna"))
    assert (anna.get(JOBS).status_code, browser.get(JOBS).status_code) == (401, 401)
    assert_problem(sign_in(browser, anna.key), 401, "unknown_key")
    run(engine, lambda c: c.execute(text("UPDATE api_keys SET revoked_at = NULL")))
    assert browser.get(JOBS).status_code == 401, "the session itself is over"


def test_a_session_that_is_still_there_ends_with_its_key_all_the_same(
    client: FlaskClient, engine: Engine, anna: Keyed
) -> None:
    sign_in(client, anna.key)
    run(engine, lambda c: c.execute(text("UPDATE api_keys SET revoked_at = now()")))
    assert client.get(JOBS).status_code == 401


def test_a_stream_ends_soon_after_its_key(engine: Engine, worker: Worker, anna: Keyed) -> None:
    job = anna.post(JOBS, data=CSV, headers={"Content-Type": "text/csv"}).get_json()
    with anna.get(job["links"]["events"]) as answer:
        stream = answer.iter_encoded()
        next(stream)
        next(stream)
        run(engine, lambda c: keys.revoke(c, "anna"))
        assert b"".join(stream).strip() in {b"", b": still here"}, "it ends without a word that would be the last one"


# --- forged requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Rubrika-Page": "1"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "none", "Rubrika-Page": "1"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Rubrika-Page": "1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Rubrika-Page": "1", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://evil.example", "Rubrika-Page": "1"}, 403),
        ({"Origin": "http://localhost.evil.example", "Rubrika-Page": "1"}, 403),
        ({"Origin": "http://localhost:81", "Rubrika-Page": "1"}, 403),
        ({"Origin": "null", "Rubrika-Page": "1"}, 403),
        ({"Origin": "http://[", "Rubrika-Page": "1"}, 403),
        ({"Origin": "http://localhost", "Rubrika-Page": "1"}, 202),
        ({"Sec-Fetch-Site": "same-origin", "Rubrika-Page": "1"}, 202),
    ],
)
def test_a_cookie_vouches_for_our_own_page_alone(
    client: FlaskClient, anna: Keyed, headers: dict[str, str], status: int
) -> None:
    sign_in(client, anna.key)
    answer = client.post(f"{V1}/classifications", json={"text": "а"}, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert_problem(answer, 403, "cross_site")
        # Nobody is signed in as somebody else by a page that is not ours either.
        assert sign_in(client, anna.key).status_code == 200
        answer = client.post(f"{V1}/session", json={"key": anna.key}, headers=headers)
        assert_problem(answer, 403, "cross_site")
        assert "Set-Cookie" not in answer.headers


def test_every_change_asks_for_our_own_page(app: Any, client: FlaskClient, anna: Keyed) -> None:
    sign_in(client, anna.key)
    for rule in app.url_map.iter_rules():
        for method in rule.methods - {"GET", "HEAD", "OPTIONS"}:
            address = re.sub(r"<(?:\w+:)?(\w+)>", "1", rule.rule)
            for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                assert_problem(client.open(address, method=method, headers=headers), 403, "cross_site")


def test_no_other_origin_is_told_that_it_may_ask(app: Any, client: FlaskClient, anna: Keyed) -> None:
    sign_in(client, anna.key)
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST",
              "Access-Control-Request-Headers": "rubrika-page"}  # fmt: skip
    for rule in app.url_map.iter_rules():
        address = re.sub(r"<(?:\w+:)?(\w+)>", "1", rule.rule)
        answer = client.options(address, headers=origin)
        assert not [name for name in dict(answer.headers) if name.lower().startswith("access-control-")]


def test_a_program_with_a_key_needs_neither_header(anna: Keyed) -> None:
    assert anna.post(f"{V1}/classifications", json={"text": "а"}).status_code == 202


# --- roles, and the rest --------------------------------------------------------------------------------------------


@pytest.fixture
def with_metrics(app: Any) -> Iterator[Any]:
    """Stands for the address of metrics, which is guarded by its path."""
    app.view_functions.setdefault("metrics", lambda: "rubrika_up 1\n")
    if not any(rule.rule == "/metrics" for rule in app.url_map.iter_rules()):
        app.url_map.add(app.url_rule_class("/metrics", endpoint="metrics", methods=["GET"]))
    return app


def test_metrics_are_for_admins_and_for_this_machine(with_metrics: Any, client: FlaskClient, engine: Engine) -> None:
    away = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    admin = Keyed(client, new_key(engine, "root", role=Role.ADMIN))
    user = Keyed(client, new_key(engine, "anna"))
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", **away).status_code == 401
    assert admin.get("/metrics", **away).status_code == 200
    assert_problem(user.get("/metrics", **away), 403, "admins_only")
    # A proxy on this machine that nobody has spoken of: whoever is behind it is not this machine.
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert client.get("/metrics", headers={header: "127.0.0.1"}).status_code == 401


def test_guessing_is_slowed_down_and_no_holder_of_a_key_with_it(client: FlaskClient, anna: Keyed) -> None:
    for _ in range(REFUSALS_PER_MINUTE):
        assert client.get(JOBS).status_code == 401
    answer = client.get(JOBS)
    assert_problem(answer, 429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) >= 1
    assert_problem(sign_in(client, anna.key), 429)
    assert anna.get(JOBS).status_code == 200
    assert client.get(JOBS, environ_base={"REMOTE_ADDR": "192.0.2.9"}).status_code == 401


def test_strangers_are_counted_by_address_and_those_of_ipv6_by_network(
    app: Any, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has one address of IPv6 has 2**64 of them."""
    limiter = app.extensions["rubrika"].limiter
    counted: list[str] = []
    take = limiter.take
    monkeypatch.setattr(limiter, "take", lambda name, most: (counted.append(name), take(name, most))[1])

    def come(address: str) -> str:
        assert client.get(JOBS, environ_base={"REMOTE_ADDR": address}).status_code == 401
        return counted[-1]

    network = come("2001:db8:0:1::1")
    assert come("2001:db8:0:1:ffff:ffff:ffff:ffff") == come("2001:db8::1:0:0:0:7") == network
    others = ["2001:db8:0:2::1", "2001:db8:1:1::1", "2001:db9:0:1::1", "192.0.2.1", "192.0.2.2"]
    assert len({network, *map(come, others)}) == 6
    # A socket of both kinds names addresses of IPv4 like this.
    assert come("::ffff:192.0.2.1") == come("192.0.2.1") != come("::ffff:192.0.2.2")


def test_a_database_that_is_away_is_503_and_the_pages_stay(app: Any, settings: Settings, anna: Keyed) -> None:
    browser = app.test_client()
    sign_in(browser, anna.key)
    cookie = browser.get_cookie("rubrika")
    assert cookie is not None
    away = create_app(replace(settings, database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    other = away.test_client()
    other.set_cookie("rubrika", cookie.value)
    assert other.get("/").status_code == 200
    assert_problem(other.get(JOBS), 503, "unavailable")
    assert other.get("/healthz").status_code == 200
    assert_problem(Keyed(other, anna.key).get(JOBS), 503, "unavailable")
    other.delete_cookie("rubrika")
    assert other.get("/").status_code == 303
    away.extensions["rubrika"].close()


def test_keys_without_a_secret_end_the_start_with_a_sentence(settings: Settings, tmp_path: Any) -> None:
    with pytest.raises(StartError, match=r"openssl rand -hex 32.*RUBRIKA_SECRET_KEY_FILE"):
        create_app(replace(settings, secret_key=""))
    with pytest.raises(StartError, match="cannot be read"):
        create_app(replace(settings, secret_key="", secret_key_file=tmp_path / "none"))
    (tmp_path / "short").write_text("abc\n")
    with pytest.raises(StartError, match="32 random characters"):
        create_app(replace(settings, secret_key="", secret_key_file=tmp_path / "short"))
    (tmp_path / "good").write_text(SECRET + "\n")
    create_app(replace(settings, secret_key="", secret_key_file=tmp_path / "good")).extensions["rubrika"].close()


def test_no_line_of_the_log_holds_a_key(
    client: FlaskClient, settings: Settings, anna: Keyed, caplog: pytest.LogCaptureFixture
) -> None:
    away = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    broken = Keyed(away.test_client(), anna.key)
    with caplog.at_level(logging.DEBUG):
        away.view_functions["jobs.list_jobs"] = lambda **_: 1 / 0
        assert broken.get(JOBS).status_code == 500
        assert broken.post(f"{V1}/classifications", data=anna.key, content_type="text/plain").status_code == 415
        sign_in(away.test_client(), anna.key)
        sign_in(client, anna.key[:-1])
        client.get(f"/nothing/{anna.key[:12]}")
    assert "key 1 of anna has signed in at 127.0.0.1" in caplog.text
    assert "somebody at 127.0.0.1 came to session.sign_in without a key that is known" in caplog.text
    assert anna.key not in caplog.text
    assert anna.key[:-1] not in caplog.text
    away.extensions["rubrika"].close()


def test_twenty_who_come_with_a_stale_key_are_all_let_in(app: Any, engine: Engine, anna: Keyed) -> None:
    statuses: list[int] = []

    def come() -> None:
        statuses.append(Keyed(app.test_client(), anna.key).get(JOBS).status_code)

    threads = [threading.Thread(target=come) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20


def test_with_keys_off_nobody_needs_one(settings: Settings) -> None:
    app = create_app(replace(settings, auth="off"))
    client = app.test_client()
    assert client.get(f"{V1}/session").get_json() | {"limits": 0} == {
        "auth": "off", "name": "local", "owner": "local", "role": "admin", "limits": 0,
    }  # fmt: skip
    assert_problem(sign_in(client, "rbk_" + "x" * 43), 404, "keys_off")
    assert client.delete(f"{V1}/session").status_code == 204
    assert upload(client, CSV).status_code == 202
    assert "sign-out" not in client.get("/").text
    app.extensions["rubrika"].close()


def test_without_keys_a_name_that_points_here_is_not_ours(settings: Settings) -> None:
    app = create_app(replace(settings, auth="off"))
    client = app.test_client()
    assert_problem(client.get(JOBS, headers={"Host": "evil.example"}), 403, "unknown_host")
    for host in ("localhost:8000", "127.0.0.1", "127.0.0.2:9", "[::1]:8000"):
        assert client.get(JOBS, headers={"Host": host}).status_code == 200
    behind = create_app(replace(settings, auth="off", allow_open=True))
    assert behind.test_client().get(JOBS, headers={"Host": "rubrika.example"}).status_code == 200
    for made in (app, behind):
        made.extensions["rubrika"].close()
