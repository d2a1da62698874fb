"""Uploads over real sockets: early answers, cut connections, one key many times, and nothing left behind."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import psutil
import pytest

from tests.e2e.service import V1, Answer, Service
from tests.support import wait_until

ROW = "Сегодня в городе открылся новый стадион, и все пошли смотреть матч"
MEGABYTE = 1 << 20


@pytest.fixture
def api(service: Service, tmp_path: Path) -> Iterator[Service]:
    """The API alone, with a temporary folder of its own."""
    (tmp_path / "spool").mkdir()
    service.start("api", TMPDIR=str(tmp_path / "spool"), RUBRIKA_MAX_BODY_BYTES=str(100 * MEGABYTE))
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API to answer")
    yield service
    # What the processes count lies there as long as they run; of uploads nothing may stay.
    left = [path.name for path in (tmp_path / "spool").iterdir()]
    assert [name for name in left if not name.startswith("rubrika-counts-")] == []


def csv_of(rows: int, header: str = "text,n", repeats: int = 1) -> bytes:
    text = ROW * repeats
    return (header + "\n" + "".join(f'"{text} {n}",{n}\n' for n in range(rows))).encode()


def form_of(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b'; filename="posts.csv"' if name == "file" else b"")
        + b"\r\n\r\n" + value + b"\r\n"
        for name, value in parts
    ) + b"--edge--\r\n"  # fmt: skip


def post(api: Service, body: bytes, path: str = "/jobs", **headers: str) -> Answer:
    return api.call("POST", V1 + path, body, {"Content-Type": "text/csv"} | headers)


def post_form(api: Service, *parts: tuple[str, bytes], path: str = "/jobs", **headers: str) -> Answer:
    return post(api, form_of(*parts), path, **{"Content-Type": "multipart/form-data; boundary=edge"} | headers)


def jobs(api: Service) -> list[object]:
    found: list[object] = api.get(f"{V1}/jobs").json["items"]
    return found


def test_a_client_that_is_still_sending_gets_its_answer(api: Service) -> None:
    data = csv_of(50_000, "id,n", repeats=9)
    assert len(data) > 50 * MEGABYTE
    for answer in (post(api, data), post_form(api, ("name", b"a"), ("file", data))):
        assert (answer.status, answer.json["code"]) == (422, "no_text_column")
    preview = post(api, csv_of(50_000, repeats=9), "/jobs/preview")
    assert preview.status == 200
    assert [row["row"] for row in preview.json["rows"]] == list(range(1, 21))
    assert jobs(api) == []


def test_a_body_over_the_limit_is_refused_before_it_is_sent(api: Service) -> None:
    with closing(socket.create_connection(("127.0.0.1", api.settings.port), timeout=60)) as connection:
        connection.sendall(
            f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: text/csv\r\nContent-Length: {10**12}\r\n\r\n".encode()
        )
        response = HTTPResponse(connection)
        response.begin()
        assert response.status == 413
        assert "limit of 104857600 bytes" in json.load(response)["detail"]


def test_a_body_of_no_stated_length_is_read_and_has_the_same_limit(api: Service) -> None:
    def send(blocks: Iterator[bytes]) -> tuple[int, dict[str, object]]:
        with closing(HTTPConnection("127.0.0.1", api.settings.port, timeout=60)) as connection:
            connection.request("POST", f"{V1}/jobs", blocks, {"Content-Type": "text/csv"}, encode_chunked=True)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    data = csv_of(5000)
    status, job = send(data[place : place + 10_000] for place in range(0, len(data), 10_000))
    assert (status, job["rows"]["total"]) == (202, 5000)  # type: ignore[index]
    block = csv_of(100, repeats=500)
    status, problem = send(block for _ in range(110 * MEGABYTE // len(block)))
    assert (status, problem["code"]) == (413, "request_entity_too_large")
    assert len(jobs(api)) == 1


def break_off(api: Service, kind: str) -> bytes:
    """Send half of a file, end the connection, and return what is answered nevertheless."""
    data = csv_of(20_000)
    sent = form_of(("name", b"a"), ("file", data)) if kind == "form" else data
    media_type = "multipart/form-data; boundary=edge" if kind == "form" else "text/csv"
    framing = "Transfer-Encoding: chunked" if kind == "chunked" else f"Content-Length: {len(sent)}"
    half = sent[: sent.rfind(b"\n", 0, len(sent) // 2) + 1]
    with closing(socket.create_connection(("127.0.0.1", api.settings.port), timeout=60)) as connection:
        connection.sendall(
            f"POST {V1}/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{framing}\r\n\r\n".encode()
            + (f"{len(half):x}\r\n".encode() + half + b"\r\n" if kind == "chunked" else half)
        )
        connection.shutdown(socket.SHUT_WR)
        answered = b""
        while block := connection.recv(65_536):
            answered += block
    return answered


def test_an_upload_that_breaks_off_is_no_job(api: Service) -> None:
    for kind in ("length", "chunked", "form"):
        assert break_off(api, kind).startswith(b"HTTP/1.1 400"), kind
    assert jobs(api) == []


@pytest.mark.parametrize("as_form", [False, True])
def test_one_key_twenty_times_at_once_is_one_job(api: Service, as_form: bool) -> None:
    data = csv_of(5000)
    answers: list[Answer] = []

    def send() -> None:
        key = {"Idempotency-Key": "once"}
        answers.append(post_form(api, ("file", data), **key) if as_form else post(api, data, **key))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert {answer.status for answer in answers} <= {202, 409}
    assert len({answer.json["id"] for answer in answers if answer.status == 202}) == 1
    assert len(jobs(api)) == 1
    send()
    assert (answers[-1].status, len(jobs(api))) == (202, 1)
    other = post(api, csv_of(5001), **{"Idempotency-Key": "once"})
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")


def test_an_upload_of_many_megabytes_takes_no_memory(api: Service) -> None:
    processes = [process for top in api.processes for process in psutil.Process(top.pid).children(recursive=True)]

    def memory() -> int:
        return sum(process.memory_info().rss for process in processes)

    assert post(api, csv_of(2000)).status == 202
    before = memory()
    for data in (csv_of(40_000, repeats=9), gzip.compress(csv_of(40_000, repeats=9), 1)):
        sender = threading.Thread(target=post, args=(api, data))
        most = before
        sender.start()
        while sender.is_alive():
            sender.join(0.05)
            most = max(most, memory())
        assert most - before < 30 * MEGABYTE
    assert [job["rows"]["total"] for job in jobs(api)] == [40_000, 40_000, 2000]  # type: ignore[index]
