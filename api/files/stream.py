"""A stream whose beginning can be looked at before it is read."""

from api.files.model import ByteStream


class Peekable:
    """Passes a stream on; what was looked at is held until it is read."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._held = b""

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or all there are, without reading them."""
        while len(self._held) < size:
            more = self._stream.read(size - len(self._held))
            if not more:
                break
            self._held += more
        return self._held[:size]

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        if not self._held:
            return self._stream.read(size)
        block, self._held = self._held[:size], self._held[size:]
        return block
