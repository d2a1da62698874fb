"""A ZIP archive that is written as it is sent, without going back and without knowing any size beforehand.

The format is PKWARE's APPNOTE.TXT, sections 4.3 and 4.4; sizes follow each entry in a data descriptor. The zipfile
module can do this too, but only up to 2 GiB an entry, or with the ZIP64 extension, over which Excel asks whether it
should repair the file. Here an entry may have 4 GiB, the most without that extension.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = struct.Struct("<4s3L")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION = 20
_FLAGS = 0x0808
"""A data descriptor follows, and names are UTF-8."""
_DEFLATED = 8
_DATE = (1 << 5) | 1
"""The first of January 1980: an archive that is made again is the same to the byte."""
MOST_BYTES = (1 << 32) - 1
"""Of an entry, before and after it is packed, and of all entries together."""

FAST = 1
"""A third of the time of zlib's default level, for texts a tenth larger."""


class TooLargeEntryError(Exception):
    """An entry or the archive has come to 4 GiB."""


def zipped(entries: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield the archive of some (name, blocks of data) in pieces. Raises `TooLargeEntryError`."""
    directory = []
    offset = 0
    for name, blocks in entries:
        encoded = name.encode()
        deflate = zlib.compressobj(FAST, zlib.DEFLATED, -zlib.MAX_WBITS)
        yield _LOCAL.pack(b"PK\3\4", _VERSION, _FLAGS, _DEFLATED, 0, _DATE, 0, 0, 0, len(encoded), 0) + encoded
        checksum = size = packed = 0
        for block in blocks:
            checksum = zlib.crc32(block, checksum)
            size += len(block)
            if piece := deflate.compress(block):
                packed += len(piece)
                yield piece
            _check(max(size, offset + packed))
        rest = deflate.flush()
        packed += len(rest)
        yield rest + _DESCRIPTOR.pack(b"PK\7\x08", checksum, packed, size)
        versions = (_VERSION, _VERSION, _FLAGS, _DEFLATED, 0, _DATE)
        lengths = (len(encoded), 0, 0, 0, 0)
        directory.append(_CENTRAL.pack(b"PK\1\2", *versions, checksum, packed, size, *lengths, 0, offset) + encoded)
        offset += _LOCAL.size + len(encoded) + packed + _DESCRIPTOR.size
        _check(offset)
    listed = b"".join(directory)
    count = len(directory)
    yield listed + _END.pack(b"PK\5\6", 0, 0, count, count, len(listed), offset, 0)


def _check(size: int) -> None:
    if size > MOST_BYTES:
        raise TooLargeEntryError("the archive is larger than 4 GiB")
