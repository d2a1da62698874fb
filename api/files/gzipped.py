"""Gzip (RFC 1952), unpacked while it is read, within a budget."""

import zlib

from api.files.errors import FileCode, TooLargeFile, UnreadableFile
from api.files.model import ByteStream

SIGNATURE = b"\x1f\x8b"
JUDGED_FROM_BYTES = 10_000_000
"""Unpacked bytes from which on the ratio counts. A small file that is mostly white space does no harm."""

_PACKED_BLOCK_BYTES = 64 * 1024
_FREE_MEMBERS = 1000
_MEMBER_BYTES = 256
_WITH_GZIP_HEADER = 16 + zlib.MAX_WBITS


class Gunzip:
    """Unpacks a stream of one or more gzip members, with zeros behind the last one or not.

    Raises `TooLargeFile` as soon as more than `max_bytes` came out, or more than `max_ratio` times what went in, and
    `UnreadableFile` for data that is damaged, cut off, or followed by something else. Memory: two blocks and zlib's
    window, whatever the data claims.
    """

    def __init__(self, stream: ByteStream, max_bytes: int, max_ratio: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._packed = b""
        self._taken = 0
        """Packed bytes that left the stream; `self._packed` is the last part of them, not yet unpacked."""
        self._unpacked = 0
        self._members = 0
        self._inflate = zlib.decompressobj(_WITH_GZIP_HEADER)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` unpacked bytes; none at the end."""
        while True:
            if not self._packed and not self._refill():
                if self._members and self._inflate.eof:
                    return b""
                raise self._broken("it is cut off")
            if self._inflate.eof and not self._begin_member():
                continue
            try:
                block = self._inflate.decompress(self._packed, size)
            except zlib.error as error:
                raise self._broken(str(error).partition(": ")[2] or "it is damaged") from error
            self._packed = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._members += 1
            if block:
                self._count(len(block))
                return block

    def _refill(self) -> bool:
        self._packed = self._stream.read(_PACKED_BLOCK_BYTES)
        self._taken += len(self._packed)
        return bool(self._packed)

    def _begin_member(self) -> bool:
        """Begin with what follows a member: another one, or the zeros with which some tools fill the last block."""
        if not self._packed.startswith(SIGNATURE[:1]):
            self._packed = self._packed.lstrip(b"\x00")
            if self._packed:
                raise self._broken("something that is not gzip follows")
            return False
        # Each member costs time of its own; a flood of tiny ones is no file.
        if self._members > _FREE_MEMBERS + self._unpacked // _MEMBER_BYTES:
            raise self._broken(f"{self._members} members hold only {self._unpacked} bytes")
        self._inflate = zlib.decompressobj(_WITH_GZIP_HEADER)
        return True

    def _count(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > self._max_bytes:
            message = f"The file is larger than the limit of {self._max_bytes} bytes when it is unpacked."
            raise TooLargeFile(FileCode.TOO_MANY_BYTES, message)
        read = self._taken - len(self._packed)
        if self._unpacked > JUDGED_FROM_BYTES and self._unpacked > self._max_ratio * read:
            message = (
                f"The first {read} packed bytes give more than {self._max_ratio} times as many, which is the limit."
            )
            raise TooLargeFile(FileCode.UNPACKS_TOO_FAR, message)

    def _broken(self, reason: str) -> UnreadableFile:
        place = self._taken - len(self._packed)
        message = f"The gzip data cannot be unpacked from about byte {place} on: {reason}."
        return UnreadableFile(FileCode.BROKEN_GZIP, message, byte=place)
