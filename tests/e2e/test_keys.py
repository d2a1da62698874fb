"""Keys with real processes: the command line, the start, and clients that try to keep all threads."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPConnection
from typing import Any

import pytest

from jobs.settings import PROJECT_ROOT
from local.valkey import EmbeddedValkey
from tests.e2e.chaos import Proxy
from tests.e2e.service import V1, Answer, Service
from tests.support import free_port, wait_until

SECRET = "0123456789abcdef" * 4
KEYS = {"RUBRIKA_AUTH": "keys", "RUBRIKA_SECRET_KEY": SECRET}
FAR_TOO_LONG = 20.0
"""Seconds. Half a second of silence is enough to take Redis for away; a busy machine may make some more of it."""


def rubrika(service: Service, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, as an operator gives it."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=PROJECT_ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **service.environment(), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def new_key(service: Service, name: str, *options: str) -> str:
    done = rubrika(service, "keys", "create", name, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask(service: Service, path: str, key: str = "", method: str = "GET", body: bytes | None = None) -> Answer:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return service.call(method, path, body, headers | ({"Content-Type": "application/json"} if body else {}))


@contextmanager
def alone(service: Service, command: str = "api", threads: int = 4) -> Iterator[Service]:
    """The API alone, with keys on and few threads."""
    service.env.update(KEYS, RUBRIKA_API_THREADS=str(threads))
    service.start(command)
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API to answer")
    yield service
    logs = "".join(path.read_text() for path in service.logs.glob("*"))
    assert "rbk_" not in logs, "no line of the log holds a key, nor its beginning"
    assert SECRET not in logs


@pytest.fixture
def api(service: Service) -> Iterator[Service]:
    with alone(service) as started:
        yield started


@pytest.fixture
def impatient(service: Service) -> Iterator[Service]:
    """The same with little time for slow clients."""
    with alone(service, "impatient") as started:
        yield started


@pytest.fixture
def roomy(service: Service) -> Iterator[Service]:
    """The same with more threads."""
    with alone(service, threads=12) as started:
        yield started


def test_keys_are_made_listed_and_revoked_by_command(api: Service) -> None:
    anna = new_key(api, "anna")
    root = new_key(api, "root", "--role", "admin", "--owner", "team")
    assert ask(api, f"{V1}/session").status == 401
    assert ask(api, f"{V1}/session", anna).json["owner"] == "anna"
    assert [ask(api, f"{V1}/session", root).json[name] for name in ("name", "owner", "role")] == [
        "root",
        "team",
        "admin",
    ]
    assert ask(api, f"{V1}/classifications", anna, "POST", b'{"text": "x"}').status == 202

    listed = rubrika(api, "keys", "list")
    assert anna[:8] in listed.stdout
    assert anna not in listed.stdout
    assert "never used" not in listed.stdout
    [first, second] = json.loads(rubrika(api, "keys", "list", "--json").stdout)
    assert (first["name"], second["name"]) == ("root", "anna")

    assert rubrika(api, "keys", "create", "anna").returncode == 2
    revoked = rubrika(api, "keys", "revoke", "anna")
    assert revoked.returncode == 0
    assert ask(api, f"{V1}/session", anna).status == 401
    assert ask(api, f"{V1}/session", root).status == 200
    assert rubrika(api, "keys", "revoke", "anna").stderr.strip() == "rubrika: No key called 'anna' is in use."
    assert "anna" not in rubrika(api, "keys", "list").stdout
    assert "revoked" in rubrika(api, "keys", "list", "--all").stdout

    again = rubrika(api, "keys", "create", "anna")
    assert "has 1 files and texts already" in again.stderr
    assert ask(api, f"{V1}/classifications", again.stdout.strip()).json["items"][0]["doc_text"] == "x"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"RUBRIKA_AUTH": "off", "RUBRIKA_HOST": "0.0.0.0"}, "RUBRIKA_AUTH=keys"),
        ({"RUBRIKA_HOST": "0.0.0.0"}, "RUBRIKA_SECRET_KEY_FILE"),
        ({"RUBRIKA_AUTH": "keys"}, "RUBRIKA_SECRET_KEY_FILE"),
        ({"RUBRIKA_AUTH": "keys", "RUBRIKA_SECRET_KEY_FILE": "/nonexistent/secret"}, "cannot be read"),
    ],
)
def test_what_would_be_open_or_sign_nothing_does_not_start(service: Service, env: dict[str, str], words: str) -> None:
    done = rubrika(service, "api", **env)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_headers_without_end_are_refused_and_the_others_are_answered(api: Service) -> None:
    key = new_key(api, "anna")
    for name, value in {"X-Long": "x" * 9000, "Cookie": "rubrika=" + "x" * 9000}.items():
        assert api.call("GET", f"{V1}/jobs", headers={name: value}).status in {400, 431}
    many = {f"X-{n}": "1" for n in range(100)}
    assert api.call("GET", f"{V1}/jobs", headers=many).status in {400, 431}
    assert api.call("GET", f"{V1}/jobs?q=" + "x" * 9000).status in {400, 414}
    assert ask(api, f"{V1}/jobs", key).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Content-Length: +5"],
        ["Content-Length : 5"],
        ["Host: other"],
    ],
)
def test_a_request_whose_end_can_be_seen_in_two_ways_is_refused_with_all_behind_it(
    api: Service, lines: list[str]
) -> None:
    # A proxy in front may take the end elsewhere: what follows would be the request of whoever comes next.
    head = "\r\n".join([f"POST {V1}/classifications HTTP/1.1", "Host: localhost", *lines])
    with closing(socket.create_connection(("127.0.0.1", api.settings.port), timeout=30)) as client:
        client.sendall(f"{head}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while block := client.recv(65536):
            answer += block
    assert answer.split(b" ", 2)[1] in {b"400", b"501"}
    assert answer.count(b"HTTP/1.1 ") == 1, answer


SLOW = {
    "headers": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "a body that is refused": f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    "a body that nobody reads": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
    "signing in": f"POST {V1}/session HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nRubrika-Page: 1\r\n"
    "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
    "texts": f"POST {V1}/classifications HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer KEY\r\n"
    "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n",
    "texts in chunks": f"POST {V1}/classifications HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer KEY\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    "files": f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer KEY\r\n"
    "Content-Type: text/csv\r\nContent-Length: 1000000\r\n\r\n",
}
"""Requests that go on for as long as somebody likes."""


@pytest.mark.parametrize("what", SLOW)
def test_clients_that_never_finish_asking_are_hung_up_on(impatient: Service, what: str) -> None:
    head = SLOW[what].replace("KEY", new_key(impatient, "anna")).encode()
    stopping = threading.Event()
    with ExitStack() as stack:
        # More than there are threads, each with something that it goes on sending.
        slow = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", impatient.settings.port))))
            for _ in range(6)
        ]
        for client in slow:
            client.sendall(head)

        def trickle() -> None:
            while not stopping.wait(0.5):
                for client in slow:
                    with suppress(OSError):
                        client.sendall(b"1")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            wait_until(
                lambda: impatient.call("GET", "/healthz", timeout=5).status == 200, 90, what="an answer beside them"
            )
        finally:
            stopping.set()
            thread.join()


def test_clients_that_do_not_hang_up_keep_nobody_out(roomy: Service) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(closing(socket.create_connection(("127.0.0.1", roomy.settings.port))))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        # Two seconds for each of them, one after the other, would be two minutes.
        wait_until(lambda: roomy.call("GET", "/healthz", timeout=70).status == 200, 60, what="an answer beside them")


def test_who_sends_texts_too_slowly_is_told_so(impatient: Service) -> None:
    head = SLOW["texts"].replace("KEY", new_key(impatient, "anna"))
    with closing(socket.create_connection(("127.0.0.1", impatient.settings.port), timeout=90)) as client:
        client.sendall(f'{head}{{"text": '.encode())
        assert client.recv(65536).split(b" ", 2)[1] == b"408"


def test_a_body_that_never_comes_holds_no_place_of_others_for_ever(api: Service) -> None:
    key = new_key(api, "anna")
    head = (
        f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: text/csv\r\nContent-Length: 1000\r\n\r\ntext\n"
    ).encode()
    with ExitStack() as stack:

        def refused_beside_another() -> Answer | None:
            client = stack.enter_context(closing(socket.create_connection(("127.0.0.1", api.settings.port))))
            client.sendall(head)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"}
            answer = api.call("POST", f"{V1}/jobs", b"text\na\n", headers)
            return answer if answer.status == 429 else None

        # Half of four threads is what one key may have, however many of its requests are never finished.
        refused = wait_until(refused_beside_another, 30, what="a refusal")
        assert refused is not None
        assert refused.json["code"] == "too_many_held"
        assert ask(api, f"{V1}/jobs", key).status == 200, "what is short is answered"
        other = new_key(api, "boris")
        assert ask(api, f"{V1}/classifications", other, "POST", b'{"text": "x"}').status == 202


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_who_is_refused_while_sending_hears_why(api: Service, connection: str) -> None:
    headers = {"Content-Type": "text/csv", "Authorization": "Bearer rbk_wrong", "Connection": connection}
    with closing(HTTPConnection("127.0.0.1", api.settings.port, timeout=60)) as client:
        client.request("POST", f"{V1}/jobs", b"text\n" + b"x" * 20_000_000, headers)
        assert client.getresponse().status == 401


def test_proxies_of_this_machine_are_not_believed_by_themselves(api: Service) -> None:
    answer = api.call("GET", "/healthz", headers={"X-Forwarded-Proto": "https", "SCRIPT_NAME": "/evil"})
    assert "Strict-Transport-Security" not in answer.headers
    assert answer.status == 200


@pytest.mark.parametrize("trouble", ["stopped", "silent"])
def test_requests_are_served_while_redis_is_away_and_back(
    service: Service, own_valkey: EmbeddedValkey, proxy: Proxy, trouble: str
) -> None:
    service.env.update(KEYS, RUBRIKA_MAX_REQUESTS_PER_MINUTE="1000000")
    service.start("api")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API to answer")
    key = new_key(service, "anna")
    stopping, answers, longest = threading.Event(), [0] * 6, [0.0] * 6
    wrong: list[Any] = []

    def load(n: int) -> None:
        while not stopping.is_set():
            began = time.monotonic()
            answer = ask(service, f"{V1}/session", key)
            longest[n] = max(longest[n], time.monotonic() - began)
            if answer.status != 200:
                wrong.append((answer.status, answer.body))
            answers[n] += 1

    threads = [threading.Thread(target=load, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        away, back = {"stopped": (own_valkey.stop, own_valkey.start), "silent": (proxy.lose, proxy.heal)}[trouble]
        for change in (lambda: None, away, back):
            change()
            before = list(answers)
            wait_until(
                lambda before=before: all(now > then + 20 for now, then in zip(answers, before, strict=True)),
                60,
                what="answers of all threads",
            )
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert max(longest) < FAR_TOO_LONG


def test_one_machine_makes_its_secret_and_keeps_it(service: Service, tmp_path: Any) -> None:
    from local.secret import secret_environment

    folder = tmp_path / "data"
    folder.mkdir()
    settings = replace(service.settings, auth="keys", database_url="", data_dir=folder, port=free_port())
    made = secret_environment(settings)
    path = folder / "secret.key"
    assert made == {"RUBRIKA_SECRET_KEY_FILE": str(path)}
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_text()
    assert len(kept.strip()) == 64
    assert secret_environment(settings) == made
    assert path.read_text() == kept
    assert list(folder.iterdir()) == [path]
