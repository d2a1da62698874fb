"""Lines of the log: for people, or JSON for machines, with what they are about.

    with about(request="4f2a...", job="0199..."):
        log.info("accepted %d rows", rows)

What a block is about stands in every line that is written inside of it, in this thread: ids and counts, never a text, a
file's name or a key.
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from jobs.settings import Settings

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Add these fields to every line that is logged in the block."""
    token = begin(**fields)
    try:
        yield
    finally:
        end(token)


def begin(**fields: Any) -> Token[Mapping[str, Any]]:
    """Add these fields to every line from now on, until `end` is called with what is returned, in the same thread."""
    return _about.set({**_about.get(), **fields})


def end(token: Token[Mapping[str, Any]]) -> None:
    """Forget what `begin` has added."""
    _about.reset(token)


def configure(settings: Settings) -> None:
    """One event a line on stderr, with the time in UTC. Libraries log the same way."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    handler.addFilter(_note)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _note(record: logging.LogRecord) -> bool:
    record.about = {**_about.get(), **getattr(record, "about", {})}
    return True


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message [job=... lease=...]`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the library's name)
        # What a client has sent may be part of a message, and must not look like a line of its own.
        line = super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")
        fields = getattr(record, "about", {})
        return f"{line} [{' '.join(f'{name}={value}' for name, value in fields.items())}]" if fields else line


class JsonFormatter(logging.Formatter):
    """One object: `time`, `level`, `logger`, `message`, the fields, and `error` with the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
