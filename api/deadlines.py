"""Connections that must have sent something by a certain time, or are listened to no longer.

The time-out of a socket begins anew with every byte, and what reads from it reads on until it has a block. So one who
sends a byte now and then would keep a thread for as long as he likes. Who is late is therefore found from outside of
the read, by the thread that accepts connections (`api.server`): it shuts the connection down, which ends the read.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator


class Deadlines:
    """By when connections must have sent what is read of them. One per process; safe to share between threads.

    A connection has one deadline at a time. None stands for a connection that is not known, as in tests: it has none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[socket.socket, tuple[float, int]] = {}

    def begin(self, client: socket.socket | None, seconds: float, how: int = socket.SHUT_RDWR) -> None:
        """From now on the connection has `seconds`, until `end`. `how` it is shut down: with `SHUT_RD` it can still be
        told why."""
        if client is not None:
            with self._lock:
                self._until[client] = (self._clock() + seconds, how)

    def end(self, client: socket.socket | None) -> bool:
        """The deadline holds no longer; whether there was one that was kept."""
        with self._lock:
            return client is None or self._until.pop(client, None) is not None

    @contextlib.contextmanager
    def within(self, client: socket.socket | None, seconds: float, how: int = socket.SHUT_RDWR) -> Iterator[None]:
        """The block reads from the connection, for `seconds` at most. Raises `TimeoutError` when that was too short."""
        self.begin(client, seconds, how)
        try:
            yield
        finally:
            if not self.end(client):
                raise TimeoutError("The client was too slow.")

    def enforce(self) -> None:
        """Shut down the connections whose time is over."""
        with self._lock:
            now = self._clock()
            late = [(client, how) for client, (until, how) in self._until.items() if until <= now]
            for client, how in late:
                del self._until[client]
                with contextlib.suppress(OSError):  # It is closed already.
                    client.shutdown(how)
