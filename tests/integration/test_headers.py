"""What every answer says to a browser, on every address, and which proxies are believed."""

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import Environment
from werkzeug.test import TestResponse

from api.app import create_app
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker
from tests.integration.keys_support import SECRET, Keyed, sign_in

TLS = "https://localhost"
OWNED = re.compile(r"/api/v1/(classifications|jobs|session)")
SHARED = {"web.asset", "web.favicon", "docs_file"}
"""Files of the page, which are the same for everybody."""

# What is promised, as it goes over the wire: never what the code happens to say.
PROMISED = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
A_YEAR_OF_TLS = "max-age=31536000; includeSubDomains"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, auth="keys", secret_key=SECRET)


def answers(app: Any, who: Keyed, job: str, base: str) -> Iterator[tuple[str, str, TestResponse]]:
    """(endpoint, what was asked, answer) for every address and method, of things that are there and that are not."""
    for number, rule in enumerate(app.url_map.iter_rules()):
        for method in sorted(rule.methods):
            for id_, key in ((job, True), ("0" * 32, True), (job, False)):
                values = {"id": id_, "other": id_, "row": "1", "name": "docs.js", "version": "x"}
                address = re.sub(r"<(?:\w+:)?(\w+)>", lambda found, v=values, i=id_: v.get(found[1], i), rule.rule)
                if method == "DELETE" and key:
                    continue
                with who.client.open(
                    address,
                    method=method,
                    base_url=base,
                    headers=who.headers if key else {"Accept": "text/html"},
                    environ_base={"REMOTE_ADDR": f"192.0.2.{number}"},
                ) as answer:
                    yield rule.endpoint, f"{method} {address} {answer.status_code}", answer


def test_every_answer_carries_every_header(app: Any, worker: Worker, anna: Keyed) -> None:
    job = anna.post(f"{V1}/jobs", data={"file": (io.BytesIO(CSV), "a.csv")}).get_json()["id"]
    worker.work()
    seen = set()
    for endpoint, asked, answer in answers(app, anna, job, TLS):
        seen.add(answer.status_code)
        for name, value in PROMISED.items():
            assert answer.headers.getlist(name) == [value], f"{asked}: {name}"
        assert answer.headers.getlist("Strict-Transport-Security") == [A_YEAR_OF_TLS], asked
        kept = answer.headers.get("Cache-Control", "")
        if OWNED.match(asked.split()[1]):
            assert "no-store" in kept or kept == "private, no-cache", asked
            assert {"Authorization", "Cookie"} <= set(
                map(str.strip, ", ".join(answer.headers.getlist("Vary")).split(","))
            )
        elif endpoint.startswith("web.") and endpoint not in SHARED and asked.startswith("GET") and "200" in asked:
            assert kept in {"no-store", "no-cache"}, asked
    assert {200, 202, 303, 401, 403, 404, 415} <= seen


def test_the_policy_has_no_exception(client: FlaskClient) -> None:
    said = client.get("/").headers["Content-Security-Policy"]
    policy = dict(part.split(" ", 1) for part in said.split("; "))
    assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert not re.search(r"unsafe|\*|https?:|strict-dynamic", str(policy))


def test_nothing_is_said_of_tls_in_the_open(client: FlaskClient) -> None:
    assert "Strict-Transport-Security" not in client.get("/healthz").headers


def test_problems_of_requests_that_nothing_matches_carry_them_too(client: FlaskClient) -> None:
    for answer in (client.get("/nothing"), client.open("/", method="BREW"), client.get(f"{V1}/%00"), client.put("/")):
        assert {name: answer.headers.get(name) for name in PROMISED} == PROMISED


def test_a_page_of_somebody_is_not_kept_for_who_comes_after(client: FlaskClient, anna: Keyed) -> None:
    sign_in(client, anna.key)
    for page in ("/", "/files", "/history", "/model", "/docs"):
        assert client.get(page).headers["Cache-Control"] == "no-store"


# --- proxies --------------------------------------------------------------------------------------------------------

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "rubrika.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Port": "444",
}


def seen_by(settings: Settings, hops: int) -> dict[str, Any]:
    app = create_app(replace(settings, trusted_proxies=hops))
    found: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        from flask import request

        found.update(address=request.remote_addr, secure=request.is_secure, host=request.host, root=request.script_root)
        return {}

    app.view_functions["service.healthz_root"] = look
    answer = app.test_client().get("/healthz", headers=FORWARDED)
    found["hsts"] = "Strict-Transport-Security" in answer.headers
    app.extensions["rubrika"].close()
    return found


def test_nobody_is_believed_unless_it_is_said(settings: Settings) -> None:
    assert seen_by(settings, 0) == {
        "address": "127.0.0.1", "secure": False, "host": "localhost", "root": "", "hsts": False,
    }  # fmt: skip


def test_as_many_proxies_are_believed_as_are_said_to_be_there(settings: Settings) -> None:
    one = {"address": "198.51.100.1", "secure": True, "host": "rubrika.example", "root": "", "hsts": True}
    assert seen_by(settings, 1) == one
    # Of two hops the second one's word on the scheme and the host is missing, so it does not count.
    assert seen_by(settings, 2)["address"] == "203.0.113.9"


# --- content --------------------------------------------------------------------------------------------------------

HOSTILE_NAMES = [
    'a".csv', "a\r\nX-Evil: 1.csv", "../../etc/passwd", "a;b=c.csv", "тайна.csv", "x" * 400 + ".csv", "\x00.csv",
    "a\\b.csv", "%0d%0aX: 1.csv", "\u202egpj.csv",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_the_name_of_a_download_is_harmless(anna: Keyed, worker: Worker, name: str) -> None:
    answer = anna.post(f"{V1}/jobs", data={"file": (io.BytesIO(CSV), "posts.csv"), "name": name})
    if answer.status_code == 422:
        return
    job = answer.get_json()
    worker.work()
    for kind in ("csv", "ndjson", "json", "xlsx", "parquet"):
        with anna.get(f"{V1}/jobs/{job['id']}/results.{kind}") as download:
            header = download.headers["Content-Disposition"]
            plain = r"attachment; filename=\"[A-Za-z0-9_. -]*\"; filename\*=UTF-8''[A-Za-z0-9%_.~-]*"
            assert re.fullmatch(plain, header), header
            assert not re.search(r"%(0[0-9a-f]|1[0-9a-f]|2f|5c|7f)", header, re.IGNORECASE), header
            assert download.headers["Content-Type"].split(";")[0] not in {"text/html", "image/svg+xml"}


def test_templates_escape_what_they_are_given(app: Flask) -> None:
    environment = app.jinja_env
    assert isinstance(environment, Environment)
    for name in environment.list_templates():
        if name.endswith(".html"):
            assert environment.autoescape is True or environment.autoescape(name) is True, name  # type: ignore[operator]
            source = environment.loader.get_source(environment, name)[0]  # type: ignore[union-attr]
            assert not re.search(r"\|\s*safe\b|autoescape\s+false|Markup", source), name
