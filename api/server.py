"""gunicorn with threads, started from settings rather than from a file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from api import metrics
from api.app import create_app
from jobs.errors import StartError
from jobs.settings import Settings

GRACEFUL_SECONDS = 25


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
    """A process of threads that ends its streams of events when it is told to stop, rather than wait for readers."""

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
            "Listen on 127.0.0.1, or set RUBRIKA_ALLOW_OPEN=1 when something in front keeps strangers out.",
        )
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
    }
