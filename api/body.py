"""JSON bodies, read strictly: what is wrong is said with its place, and no body of any kind is an error of ours."""

import json
import socket
from functools import cached_property
from time import monotonic
from typing import IO, Any

from flask import Request
from werkzeug.wsgi import get_input_stream

from api.context import context
from api.files import ByteStream
from api.incoming import packed_problem, packing_of
from api.problems import ProblemError, bad_input

BLOCK_SECONDS = 20
"""Each 64 KiB of a body that is no file have to come within this time: who sends it holds a thread, and no place."""

BODY_SECONDS = 120
"""And all of it within this one, however many blocks it has."""

VALUES = 4_000
VALUES_OF_AN_ITEM = 16
"""More commas than these, and as many for each post of `RUBRIKA_MAX_ITEMS`, stand in no request that is accepted."""


class _Timely:
    """The body of a request, block by block. Raises `ProblemError` (408) when one takes too long, or all of them."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self._stream: ByteStream = environ["wsgi.input"]
        self._socket: socket.socket | None = environ.get("gunicorn.socket")
        self._deadlines = context().deadlines
        self._ends = monotonic() + BODY_SECONDS

    def read(self, size: int, /) -> bytes:
        seconds = min(BLOCK_SECONDS, max(0.0, self._ends - monotonic()))
        try:
            # Only this side is shut, so that the client can be told why.
            with self._deadlines.within(self._socket, seconds, socket.SHUT_RD):
                return self._stream.read(size)
        except TimeoutError as error:
            raise ProblemError(408, "request_timeout", "The body came too slowly; send it again.") from error


class StrictRequest(Request):
    """A request whose `get_json` says what is wrong instead of answering None."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, as it is read of everything but files (see `api.incoming`): bounded in its length and in time."""
        timely = {**self.environ, "wsgi.input": _Timely(self.environ)}
        return get_input_stream(timely, max_content_length=self.max_content_length)

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """The body as JSON. Raises `ProblemError`: 415 for another media type or a packed body, 400 for what is not
        JSON, 422 for what cannot be meant as a request, 408 for what comes too slowly.

        JSON is short (`RUBRIKA_MAX_JSON_BYTES` at most), so it is not unpacked: what is large comes as a file.
        """
        if not self.is_json:
            raise ProblemError(
                415,
                "unsupported_media_type",
                f"The body must be application/json, not {self.mimetype or 'of no type'}.",
                headers={"Accept": "application/json"},
            )
        if (packing := packing_of(self)) != "identity":
            raise packed_problem(
                f"JSON is read as it is, not packed by {packing[:40]!r}: send it without Content-Encoding. "
                "A file of many posts may be packed by gzip, see /api/v1/jobs.",
                "identity",
            )
        data = self.get_data(cache=True)
        _require_few_values(data, VALUES + VALUES_OF_AN_ITEM * context().settings.max_items)
        found = parse(data)
        if isinstance(found, str):
            # flask-openapi3 would take it for JSON within JSON, of which nobody has counted the values.
            raise bad_input("", "model_type", "The body is a text, and should be an object.")
        return found


def _require_few_values(data: bytes, most: int) -> None:
    """Refuse a body of many small values before they are made: sixteen megabytes of `{},{}` become half a gigabyte.

    Raises a problem: 422 for more than `most` commas outside of strings, 400 for as many brackets.
    """
    # What stands in strings is counted as well at first, which is quick, and of nearly all bodies enough.
    if sum(map(data.count, (b",", b"[", b"{"))) <= most:
        return
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Between two commas or brackets stand two strings at most, so with more quotes there are more of these as well.
    is_few = bare.count(b'"') <= 8 * most
    outside = bare.split(b'"')[::2] if is_few else []
    if not is_few or sum(part.count(b",") for part in outside) > most:
        message = f"The body holds more than {most} values; send it in several requests, or as a file."
        raise bad_input("", "too_many_items", message)
    if sum(part.count(b"[") + part.count(b"{") for part in outside) > most:
        raise _broken("The body is nested too deeply.")


def parse(data: bytes) -> Any:
    """`data` as JSON (RFC 8259, UTF-8). Raises `ProblemError` 400 with the place of what is wrong."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(f"The body is not UTF-8: byte {error.start}.") from error
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _broken(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise _broken("The body is nested too deeply.") from error
    except ValueError as error:
        raise _broken(f"The body is not JSON: {error}.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _broken(detail: str) -> ProblemError:
    return ProblemError(400, "invalid_json", detail)
