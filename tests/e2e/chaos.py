"""What may happen to a service, done on purpose: servers wiped and killed, connections dropped or gone silent."""

import os
import signal
import socket
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import redis

from local.valkey import EmbeddedValkey


def sql(dsn: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of one statement, run over a connection of its own and committed. `dsn` may be SQLAlchemy's address."""
    with closing(psycopg2.connect(dsn.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def drop_connections(dsn: str) -> int:
    """End every connection to the database but our own, as a restarted pooler or a failover does; how many."""
    return len(
        sql(
            dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()",
        )
    )


def flush(server: EmbeddedValkey) -> None:
    """Forget every message."""
    with redis.Redis.from_url(server.url.replace("redis+socket://", "unix://")) as client:
        client.flushall()


def kill_redis(server: EmbeddedValkey) -> None:
    """SIGKILL: no goodbye to the clients. `start` begins with an empty one."""
    with redis.Redis.from_url(server.url.replace("redis+socket://", "unix://")) as client:
        pid = client.info("server")["process_id"]
    os.kill(pid, signal.SIGKILL)
    server.stop()


class Proxy:
    """A TCP port in front of a Unix socket that can lose connections as a broken network does: without a word.

    A connection that was lost is never closed and never heard of again, also after `heal`: both ends think that it is
    open. Those made while the network is lost are accepted by the kernel, as by a firewall that drops, and lost too.
    """

    def __init__(self, behind: Path) -> None:
        self._behind = behind
        self._lost = threading.Event()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def lose(self) -> None:
        """From now on nothing comes through, and what is open stays dead for ever."""
        self._lost.set()

    def heal(self) -> None:
        """New connections work again."""
        self._lost = threading.Event()

    def close(self) -> None:
        self._closing.set()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            try:
                far.connect(str(self._behind))
            except OSError:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                thread = threading.Thread(target=self._pump, args=(source, target, self._lost), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, lost: threading.Event) -> None:
        try:
            while (data := source.recv(1 << 16)) and not lost.is_set():
                target.sendall(data)
        except OSError:
            pass
        if not lost.is_set() or self._closing.is_set():
            # An end that is closed is passed on; one that is lost is not.
            for one in (source, target):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
