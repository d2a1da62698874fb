"""The body of a request as it comes in: bounded, checked for its length, and read to its end before it is let go."""

import hashlib
import socket

from flask import Request, Response, after_this_request

from api.context import context
from api.files import ByteStream
from api.problems import ProblemError

SILENT_SECONDS = 60
"""A client that sends nothing for so long is given up: it holds a thread, and a transaction of Postgres."""

DISCARD_SECONDS = 60
"""For so long what somebody goes on sending is read who has his answer already."""

REFUSED_SECONDS = 3
"""The same of somebody for whom nothing is done: often a stranger, who shall not keep a thread."""

BLOCK_BYTES = 1 << 18


def packing_of(request: Request) -> str:
    """How the body is packed, as `Content-Encoding` says it: `identity` for not at all."""
    return request.headers.get("Content-Encoding", "").strip().lower() or "identity"


def packed_problem(message: str, accepted: str) -> ProblemError:
    """415 for a body that is packed in a way which is not read here; `accepted` is what would be (RFC 9110, 12.5.3)."""
    return ProblemError(415, "unsupported_encoding", message, headers={"Accept-Encoding": accepted})


class Body:
    """Reads the body of a request once.

    When the answer has been sent, what the client still has to send is read and thrown away, up to `max_bytes` and
    `DISCARD_SECONDS` (`REFUSED_SECONDS` after `refuse`): a connection that is closed on bytes that nobody read is
    reset, and most clients would see that instead of the answer. Raises `ProblemError`: 413 for a body over
    `max_bytes`, 400 for one that ends too early, and 408 for a silent client.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        self._stream: ByteStream = request.environ["wsgi.input"]
        self._socket: socket.socket | None = request.environ.get("gunicorn.socket")
        self._max_bytes = max_bytes
        self._discard_seconds = DISCARD_SECONDS
        self._deadlines = context().deadlines
        self._length = request.content_length
        self._read = 0
        self._is_broken = False
        if self._length is None and not request.environ.get("wsgi.input_terminated"):
            self._length = 0
        if self._socket is not None:
            self._socket.settimeout(SILENT_SECONDS)
        after_this_request(self._discard_after)

    def refuse(self) -> None:
        """Nothing will be done for who sends this: he is heard for a moment after his answer, and no longer."""
        self._discard_seconds = REFUSED_SECONDS

    def require_length(self) -> None:
        """Raise a problem (413) at once where the body says of itself that it is too large."""
        if self._length is not None and self._length > self._max_bytes:
            raise self._too_large()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if self._length is not None:
            size = min(size, self._length - self._read)
        try:
            block = self._stream.read(size)
        except TimeoutError as error:
            self._is_broken = True
            message = f"Nothing came for {SILENT_SECONDS} seconds; send the request again."
            raise ProblemError(408, "request_timeout", message) from error
        except (OSError, ValueError) as error:
            self._is_broken = True
            raise self._cut_off() from error
        self._read += len(block)
        if self._read > self._max_bytes:
            raise self._too_large()
        if not block and self._length is not None and self._read < self._length:
            self._is_broken = True
            raise self._cut_off()
        return block

    def _discard_after(self, response: Response) -> Response:
        response.call_on_close(self._discard)
        return response

    def _discard(self) -> None:
        most = self._read + self._max_bytes
        try:
            with self._deadlines.within(self._socket, self._discard_seconds):
                while not self._is_broken and self._read < most:
                    block = self._stream.read(self._left())
                    self._read += len(block)
                    if not block:
                        break
        except (OSError, ValueError):
            pass  # The client has gone, and with it the reason to read on.
        if self._socket is not None:
            self._socket.settimeout(None)

    def _left(self) -> int:
        return BLOCK_BYTES if self._length is None else min(BLOCK_BYTES, self._length - self._read)

    def _too_large(self) -> ProblemError:
        message = f"The file is larger than the limit of {self._max_bytes} bytes."
        return ProblemError(413, "request_entity_too_large", message)

    def _cut_off(self) -> ProblemError:
        of_all = "" if self._length is None else f" of {self._length}"
        return ProblemError(400, "incomplete_body", f"The request ended after {self._read}{of_all} bytes of its body.")


class Hashed:
    """Passes a stream on and keeps the SHA-256 of what went through."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        block = self._stream.read(size)
        self._digest.update(block)
        return block

    def hexdigest(self) -> str:
        """The digest of the whole stream; what nobody has read of it yet is read for that."""
        while self.read(BLOCK_BYTES):
            pass
        return self._digest.hexdigest()
