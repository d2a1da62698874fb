"""Connections are listened to for so long and no longer, however often they say something."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from flask import Flask

from api import body
from api.deadlines import Deadlines
from api.problems import ProblemError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection: of the server, of the client."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client


def test_who_is_late_is_hung_up_on_and_who_is_not_is_left(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    clock = Clock()
    deadlines = Deadlines(clock)
    deadlines.begin(server, 3)
    client.sendall(b"a")
    clock.now += 2.9
    deadlines.enforce()
    assert server.recv(1) == b"a"
    clock.now += 0.1
    deadlines.enforce()
    assert (server.recv(1), client.recv(1)) == (b"", b"")
    assert not deadlines.end(server)


def test_who_was_in_time_has_all_the_time_again(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    clock = Clock()
    deadlines = Deadlines(clock)
    for _ in range(3):
        with deadlines.within(server, 3):
            clock.now += 2
            deadlines.enforce()
    clock.now += 100
    deadlines.enforce()
    client.sendall(b"a")
    assert server.recv(1) == b"a"


def test_who_is_late_can_be_told_so_when_only_reading_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    clock = Clock()
    deadlines = Deadlines(clock)

    def read() -> None:
        with deadlines.within(server, 3, socket.SHUT_RD):
            clock.now += 3
            deadlines.enforce()
            assert server.recv(1) == b""

    with pytest.raises(TimeoutError, match="too slow"):
        read()
    server.sendall(b"late")
    assert client.recv(4) == b"late"


@pytest.mark.parametrize(("seconds_a_block", "blocks"), [(19, 6), (21, 0)])
def test_a_body_has_a_time_for_each_block_and_one_for_all_of_them(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, seconds_a_block: int, blocks: int
) -> None:
    server, _ = pair
    clock = Clock()
    deadlines = Deadlines(clock)
    monkeypatch.setattr(body, "monotonic", clock)
    app = Flask("tests")
    app.extensions["rubrika"] = SimpleNamespace(deadlines=deadlines)
    came = []

    class Slow:
        def read(self, size: int, /) -> bytes:
            clock.now += seconds_a_block
            deadlines.enforce()
            came.append(size)
            return b"a" * size

    with app.app_context():
        sent = body.StrictRequest({"wsgi.input": Slow(), "gunicorn.socket": server, "CONTENT_LENGTH": f"{16 << 20}"})
        with pytest.raises(ProblemError, match="too slowly") as told:
            sent.get_data()
    assert (told.value.status, len(came) - 1) == (408, blocks)
    clock.now += 100
    deadlines.enforce()
    server.sendall(b"late")


def test_a_connection_that_is_closed_already_is_no_error(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    deadlines = Deadlines(Clock())
    deadlines.begin(server, 0)
    server.close()
    deadlines.enforce()
    assert not deadlines.end(server)


def test_without_a_connection_there_is_no_deadline() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    with deadlines.within(None, 1):
        clock.now += 2
        deadlines.enforce()
