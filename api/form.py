"""A multipart form (RFC 7578), field by field as it comes in. Nothing of it is held but the field in hand."""

from collections import deque
from dataclasses import dataclass

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Event, Field, File, MultipartDecoder, NeedData, State

from api.files import ByteStream
from api.problems import ProblemError

BLOCK_BYTES = 1 << 18
MAX_BOUNDARY_CHARS = 200


@dataclass(frozen=True)
class Part:
    """What the form says of a field before its value comes."""

    name: str
    filename: str | None
    media_type: str | None


class Form:
    """Reads the fields of a form in their order: `next_part`, then its value by `read` or `value`, and so on.

    Raises `ProblemError`: 413 for more fields than `max_parts` and for a header or a value longer than
    `max_field_bytes`, 400 for a form that cannot be read.
    """

    def __init__(self, stream: ByteStream, content_type: str, *, max_parts: int, max_field_bytes: int) -> None:
        boundary = parse_options_header(content_type)[1].get("boundary", "")
        if not (boundary and boundary.isascii() and len(boundary) <= MAX_BOUNDARY_CHARS):
            raise _broken("its Content-Type names no boundary")
        # The decoder holds a block that was just received beside the headers that it is looking for.
        self._decoder = MultipartDecoder(boundary.encode(), BLOCK_BYTES + max_field_bytes)
        self._marker = b"--" + boundary.encode()
        self._tail = b""
        self._stream = stream
        self._max_parts = max_parts
        self._max_field_bytes = max_field_bytes
        self._parts = 0
        self._in_part = False
        self._data: deque[bytes] = deque()

    def next_part(self) -> Part | None:
        """Go to the next field, past what was not read of this one; None at the end of the form."""
        while self.read(BLOCK_BYTES):
            pass
        while self._decoder.state is not State.EPILOGUE:
            event = self._next_event()
            if isinstance(event, Field | File):
                self._parts += 1
                if self._parts > self._max_parts:
                    message = f"The form has more than {self._max_parts} fields."
                    raise ProblemError(413, "too_many_fields", message)
                self._in_part = True
                filename = event.filename if isinstance(event, File) else None
                media_type = parse_options_header(event.headers.get("content-type"))[0] or None
                return Part(event.name or "", filename, media_type)
        return None

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes of the value of the field; none at its end."""
        while self._in_part and not self._data:
            event = self._next_event()
            if isinstance(event, Data):
                self._in_part = event.more_data
                if event.data:
                    self._data.append(event.data)
        if not self._data:
            return b""
        block = self._data.popleft()
        if len(block) > size:
            self._data.appendleft(block[size:])
        return block[:size]

    def value(self, name: str) -> str:
        """The value of the field, which is short text in UTF-8."""
        value = bytearray()
        while block := self.read(BLOCK_BYTES):
            value += block
            if len(value) > self._max_field_bytes:
                message = f"The field {name} is longer than the limit of {self._max_field_bytes} bytes."
                raise ProblemError(413, "field_too_long", message)
        return value.decode("utf-8", "replace")

    def _next_event(self) -> Event:
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                self._decoder.receive_data(self._receive() or None)
        except RequestEntityTooLarge as error:
            if self._decoder.state is State.PREAMBLE:
                raise _broken("its boundary does not occur in it") from error
            message = f"The headers of a field of the form are longer than the limit of {self._max_field_bytes} bytes."
            raise ProblemError(413, "field_too_long", message) from error
        except ValueError as error:
            if self._decoder.complete:
                raise _broken("it ends before its last boundary") from error
            raise _broken("a field has no proper Content-Disposition") from error
        return event

    def _receive(self) -> bytes:
        """The next block, which never ends right behind a boundary or one byte later.

        What the decoder holds must not end there: it would take the CR of the line end before the boundary for a part
        of the value, and a Parquet file or a gzip with a byte too many is broken.
        """
        block = self._stream.read(BLOCK_BYTES)
        risky = len(self._marker) + 1
        tail = (self._tail + block[-risky:])[-risky:]
        while self._marker in tail and (more := self._stream.read(2)):
            block += more
            tail = (tail + more)[-risky:]
        self._tail = tail
        return block


def _broken(reason: str) -> ProblemError:
    return ProblemError(400, "invalid_form", f"The form cannot be read: {reason}.")
