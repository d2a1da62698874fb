"""gunicorn with threads, started from settings rather than from a file."""

import contextlib
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from api import metrics
from api.app import create_app
from api.cookies import secret_of
from api.deadlines import Deadlines
from api.incoming import SILENT_SECONDS
from jobs.errors import StartError
from jobs.settings import Settings

GRACEFUL_SECONDS = 25

HEADER_SECONDS = 10
"""Who has not said within this time what is asked for is hung up on."""

UNREAD_SECONDS = 5
"""And so is who has had his answer, and goes on for so long with a body that nobody has read."""

LEAVE_SECONDS = 2
"""A connection that ends is read for so long, so that what is still on its way does not cost the client his answer."""


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn as a library: options from settings, the app made in each process after the fork."""

    def __init__(self, options: dict[str, Any], load: Callable[[], Flask]) -> None:
        self._options = options
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._load()


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines, written as all others are."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Worker(ThreadWorker):  # type: ignore[misc]
    """A process of threads that lets nobody keep them: neither readers of streams when it is told to stop, nor clients
    who send a request a letter at a time (Slowloris), its headers or a body that is not listened to."""

    def handle(self, conn: Any) -> Any:
        self._deadlines.begin(conn.sock, HEADER_SECONDS)
        try:
            goes_on = super().handle(conn)
            if not goes_on:
                self._take_leave(conn.sock)
            return goes_on
        finally:
            self._deadlines.end(conn.sock)

    def handle_request(self, req: Any, conn: Any) -> Any:
        self._deadlines.end(conn.sock)
        # From here on silence is bounded as well, of who sends a body and of who reads an answer.
        conn.sock.settimeout(SILENT_SECONDS)
        goes_on = super().handle_request(req, conn)
        self._deadlines.begin(conn.sock, UNREAD_SECONDS)
        return goes_on

    def _take_leave(self, client: socket.socket) -> None:
        """Say that nothing more will come, and read until the client has said so.

        gunicorn does the same, but in the thread that accepts connections: a few clients who do not hang up would keep
        everybody else waiting. It finds nothing left to do.
        """
        with contextlib.suppress(OSError), self._deadlines.within(client, LEAVE_SECONDS):
            client.settimeout(LEAVE_SECONDS)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def murder_keepalived(self, force: bool = False) -> None:
        """Called about once a second: idle connections are closed, and so are those that take too long to ask."""
        super().murder_keepalived(force)
        self._deadlines.enforce()

    @property
    def _deadlines(self) -> Deadlines:
        return cast(Deadlines, self.wsgi.extensions["rubrika"].deadlines)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._end_streams()
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        self._end_streams()
        super().handle_quit(sig, frame)

    def _end_streams(self) -> None:
        if isinstance(self.wsgi, Flask):  # Else it is told to stop before the app was made, or none could be made.
            self.wsgi.extensions["rubrika"].streams.stop()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM; then finish the requests in work and return. Raises `StartError` with one sentence."""
    if not settings.is_loopback and settings.auth == "off" and not settings.allow_open:
        raise StartError(
            f"With RUBRIKA_AUTH=off everybody who reaches {settings.host} could read all texts. "
            "Set RUBRIKA_AUTH=keys, or RUBRIKA_ALLOW_OPEN=1 when something in front keeps strangers out.",
        )
    if settings.auth == "keys":
        secret_of(settings)  # Said here and now, rather than by each process that cannot be made.
    # What the processes count is shared through files, which are worth nothing once all of them have ended.
    counts = Path(mkdtemp(prefix="rubrika-counts-"))
    parent = os.getpid()
    try:
        _Server(_options(settings, counts), lambda: _app(settings, counts)).run()
    finally:
        if os.getpid() == parent:  # Each forked process ends by leaving through here as well.
            shutil.rmtree(counts, ignore_errors=True)


def _app(settings: Settings, counts: Path) -> Flask:
    metrics.share(counts)
    return create_app(settings)


def _options(settings: Settings, counts: Path) -> dict[str, Any]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": f"{host}:{settings.port}",
        "worker_class": _Worker,
        "workers": settings.api_processes,
        "threads": settings.api_threads,
        "keepalive": 30,
        "timeout": 120,
        "graceful_timeout": GRACEFUL_SECONDS,
        "loglevel": settings.log_level.lower(),
        "logger_class": _Log,
        "accesslog": None,
        "child_exit": lambda _server, process: metrics.forget_process(counts, process.pid),
        "control_socket_disable": True,
        # Bounds on what comes before a body. A cursor or a filter is a few hundred characters.
        "limit_request_line": 8190,
        "limit_request_fields": 60,
        "limit_request_field_size": 8190,
        # gunicorn would believe a proxy on this machine by itself. Whom to believe is said by a setting, in `api.app`.
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
    }
