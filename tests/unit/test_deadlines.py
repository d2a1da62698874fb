"""Connections are listened to for so long and no longer, however often they say something."""

import socket
from collections.abc import Iterator

import pytest

from api.deadlines import Deadlines


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
