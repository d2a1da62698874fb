"""What the client cannot send, what it takes for results, and where it writes them."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Thread

import anyio
import httpx2
import pytest

from rubrika_client import ArgumentError, AsyncClient, BadAnswerError, Client, NotFoundError, Post, Retry, calls
from rubrika_client.transport import PartFile, is_special, lost, timeout_of

SECRET = "rk_secret"
CSV = {"Content-Type": "text/csv; charset=utf-8"}


class Answering:
    """A transport that gives one answer again and again, and counts."""

    def __init__(self, answer: httpx2.Response | None = None) -> None:
        self.answer = answer or httpx2.Response(200, json={})
        self.seen: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        return self.answer


def client_of(service: Answering, url: str = "http://rubrika.test", key: str | None = None) -> Client:
    return Client(url, key, retry=Retry(attempts=3, first=0.001), transport=httpx2.MockTransport(service))


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("key", [f"{SECRET}\nX-Other: 1", f"{SECRET}\x00", f"{SECRET}-ключ", f"{SECRET}\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_at_once_and_never_shown(kind: type[Client], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        kind("http://rubrika.test", key)
    assert SECRET not in str(caught.value)


def test_a_key_may_come_with_the_end_of_its_line() -> None:
    service = Answering()
    with client_of(service, "http://rubrika.test/ \n", f" {SECRET}\r\n") as client:
        client.ping()
        assert client.url == "http://rubrika.test"
    assert [request.headers["authorization"] for request in service.seen] == [f"Bearer {SECRET}"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    [
        "rubrika.test", "localhost:8000", "ftp://rubrika.test", "http://", "http://a b", "http://a:b", "http://[::1",
        "/x", "http://a:99999", "http://a\nb",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_at_once(kind: type[Client], url: str) -> None:
    with pytest.raises(ArgumentError, match="address of the web"):
        kind(url)


@pytest.mark.parametrize("url", ["http://[::1]:8000", "https://пример.рф/rubrika/", "http://user@127.0.0.1:1"])
def test_other_addresses_are_taken(url: str) -> None:
    with Client(url) as client:
        assert client.url == url.rstrip("/")


@pytest.mark.parametrize("key", ["a\nb", "ключ", "a" * 256, " ", "\x00"])
def test_an_idempotency_key_that_cannot_be_sent_is_refused_at_once(key: str) -> None:
    service = Answering()
    with client_of(service) as client:
        for ask in (lambda: client.classify("a", key=key), lambda: client.rerun("a", key=key)):
            with pytest.raises(ArgumentError, match="1 to 255"):
                ask()
        with pytest.raises(ArgumentError, match="1 to 255"):  # Only the key of the second part is too long.
            client.classify([Post("a")] * 1001, key="a" * 252)
    assert service.seen == []


def test_what_is_no_request_of_http_is_not_repeated_and_its_headers_are_not_shown() -> None:
    asked: list[httpx2.Request] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        raise httpx2.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'")

    client = Client("http://rubrika.test", transport=httpx2.MockTransport(refuse))
    with client, pytest.raises(ArgumentError) as caught:
        client.ping()
    assert (SECRET in str(caught.value), len(asked)) == (False, 1)
    # A server that hangs up in the middle breaks its protocol too, and may be back soon.
    assert "broke" in lost(httpx2.RemoteProtocolError("peer closed connection"), "http://x").reason


def test_what_never_reached_a_server_is_told_from_what_may_have() -> None:
    unsent, sent = (httpx2.ConnectError, httpx2.ConnectTimeout), (httpx2.ReadTimeout, httpx2.ReadError)
    assert [lost(kind("no"), "http://x").sent for kind in (*unsent, *sent)] == [False, False, True, True]


def test_a_request_that_stands_still_is_given_up_long_before_its_answer() -> None:
    timeout = timeout_of(calls.rerun("a", None, key=None))
    assert (timeout.connect, timeout.write, timeout.read) == (5.0, 60.0, 900.0)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(301, headers={"Location": "https://elsewhere.example/", **CSV}, content=b"Moved"),
        httpx2.Response(200, headers={"Content-Type": "text/html"}, content=b"<h1>Sign in</h1>"),
        httpx2.Response(200, headers={"Content-Type": "application/json"}, content=b"[]"),
        httpx2.Response(204),
    ],
)
def test_a_page_of_something_else_is_not_written_over_results(answer: httpx2.Response, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"of yesterday")
    service = Answering(answer)
    with client_of(service) as client, pytest.raises(BadAnswerError):
        client.download("a", path)
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"of yesterday", ["a.csv"])
    assert len(service.seen) == 1


@pytest.mark.parametrize("headers", [{"Location": "https://elsewhere.example/"}, {}])
def test_events_are_not_heard_at_a_redirect_or_a_page(headers: dict[str, str]) -> None:
    answer = httpx2.Response(302 if headers else 200, headers=headers, content=b"<h1>Sign in</h1>")
    service = Answering(answer)
    with client_of(service) as client, pytest.raises(BadAnswerError):
        list(client.events("a"))
    assert len(service.seen) == 1


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "a.csv"
    link.symlink_to(Path("far") / "whole.csv")  # It is not there yet.
    with client_of(Answering(httpx2.Response(200, headers=CSV, content=b"results"))) as client:
        for _ in range(2):
            assert client.download("a", link) == link
    assert link.is_symlink()
    assert (tmp_path / "far" / "whole.csv").read_bytes() == b"results"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "far", "whole.csv"]


def read_from(pipe: Path, into: list[bytes]) -> Thread:
    reader = Thread(target=lambda: into.append(pipe.read_bytes()), daemon=True)
    reader.start()
    return reader


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into_and_stays_one(linked: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    out = pipe
    if linked:
        out = tmp_path / "link.csv"
        out.symlink_to(pipe)
    assert is_special(out)
    before = sorted(tmp_path.iterdir())
    heard: list[bytes] = []
    data = os.urandom(300_000)
    reader = read_from(pipe, heard)
    with client_of(Answering(httpx2.Response(200, headers=CSV, content=data))) as client:
        client.download("a", out)
    reader.join(60)
    assert heard == [data]
    assert (pipe.is_fifo(), sorted(tmp_path.iterdir())) == (True, before)


def test_a_pipe_may_be_read_in_the_loop_that_fills_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    data = os.urandom(300_000)
    heard: list[bytes] = []

    async def download() -> None:
        transport = httpx2.MockTransport(Answering(httpx2.Response(200, headers=CSV, content=data)))
        async with AsyncClient("http://rubrika.test", transport=transport) as client:
            await client.download("a", pipe)

    async def read() -> None:
        end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        await anyio.wait_readable(end)
        while block := os.read(end, 50_000):
            heard.append(block)
            await anyio.wait_readable(end)
        os.close(end)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(download)
            group.start_soon(read)

    # In a thread, for a loop that stands still never ends.
    running = Thread(target=lambda: anyio.run(both), daemon=True)
    running.start()
    running.join(60)
    assert b"".join(heard) == data
    assert not running.is_alive()


@pytest.mark.parametrize("answer", [httpx2.Response(404), None])
def test_an_async_download_is_there_whole_or_not_at_all(answer: httpx2.Response | None, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"of yesterday")
    found = answer or httpx2.Response(200, headers=CSV, content=b"results")

    async def download(*, cancel: bool = False) -> None:
        transport = httpx2.MockTransport(Answering(found))
        async with AsyncClient("http://rubrika.test", transport=transport) as client:
            with anyio.CancelScope() as scope:
                await client.download("a", path, received=lambda _: scope.cancel() if cancel else None)

    if answer is None:
        anyio.run(lambda: download(cancel=True))
        assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"of yesterday", ["a.csv"])
        anyio.run(download)
    else:
        with pytest.raises(NotFoundError):
            anyio.run(download)
    expected = b"of yesterday" if answer else b"results"
    assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (expected, ["a.csv"])


def test_a_pipe_is_given_nothing_of_what_is_not_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = read_from(pipe, heard)
    with suppress(KeyError), PartFile(pipe) as file:
        file.write(b"half of it")
        raise KeyError
    reader.join(60)
    assert (heard, pipe.is_fifo()) == ([b""], True)


def test_a_folder_is_no_place_for_results(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError), PartFile(folder):
        pass
