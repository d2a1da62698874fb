"""Streams of events over real connections: a reader that goes away, and a server that is told to stop."""

import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.e2e.service import V1, Service
from tests.support import wait_until

DATA = b"text\n\xd0\xbf\xd0\xbe\xd1\x81\xd1\x82\n"


@contextmanager
def listening(service: Service, path: str) -> Iterator[socket.socket]:
    """A connection on which events were asked for and have begun to come."""
    with closing(socket.create_connection(("127.0.0.1", service.settings.port), timeout=20)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while b"event: job" not in received:
            block = connection.recv(65_536)
            assert block, received
            received += block
        assert received.startswith(b"HTTP/1.1 200 ")
        yield connection


def test_a_reader_that_goes_away_gives_its_place_back(service: Service) -> None:
    service.start("api", RUBRIKA_MAX_STREAMS="1")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    job = service.upload(DATA)
    events = f"{V1}/jobs/{job['id']}/events"
    with listening(service, events):
        assert service.get(events).status == 503

    def again() -> bool:
        try:
            with listening(service, events):
                return True
        except AssertionError:
            return False

    assert wait_until(again, what="the place of the reader that is gone")


def test_a_server_that_is_told_to_stop_waits_for_no_reader(service: Service) -> None:
    api = service.start("api")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    job = service.upload(DATA)
    with listening(service, f"{V1}/jobs/{job['id']}/events") as connection:
        api.send_signal(signal.SIGTERM)
        # Without that the stream would go on until the server is killed, 25 seconds later, in the middle of it.
        rest = b""
        while block := connection.recv(65_536):
            rest += block
        assert rest.endswith(b"0\r\n\r\n"), "the stream has an end of its own"
    assert api.wait(20) == 0
