"""A ZIP archive, measured before a parser unpacks it: how many entries, how many bytes, no document type definitions.

Sizes are those that come out of zlib. What the archive says of itself may be a lie, and a parser may not notice.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from api.sandbox.child import RefusedError

BLOCK_BYTES = 1 << 18
JUDGED_FROM_BYTES = 10_000_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def measure(file: BinaryIO, parameters: dict[str, Any]) -> tuple[frozenset[str], int]:
    """Return the names of the entries, and how many bytes they are together when unpacked.

    Raises `RefusedError` for more entries or bytes than the limits allow, and for what cannot be unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > parameters["max_archive_entries"]:
                message = f"The file holds {len(entries)} parts; the limit is {parameters['max_archive_entries']}."
                raise RefusedError("too_many_entries", message)
            packed = sum(entry.compress_size for entry in entries)
            total = 0
            for entry in entries:
                for block in _unpacked(file, entry):
                    total += len(block)
                    _check(total, packed, parameters)
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, NotImplementedError) as error:
        raise RefusedError("broken", str(error)) from error
    return frozenset(entry.filename for entry in entries), total


def _unpacked(file: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    file.seek(entry.header_offset)
    signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04" or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedError("broken", "a part of it is packed in an unknown way")
    file.seek(name_length + extra_length, 1)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.compress_type == zipfile.ZIP_DEFLATED else None
    left = entry.compress_size
    begun = False
    while left > 0 and (data := file.read(min(left, BLOCK_BYTES))):
        left -= len(data)
        while data:
            block = inflate.decompress(data, BLOCK_BYTES) if inflate else data
            data = inflate.unconsumed_tail if inflate else b""
            if not begun and block:
                _refuse_definitions(block)
                begun = True
            yield block


def _refuse_definitions(beginning: bytes) -> None:
    """Refuse XML that defines entities of its own, as a "billion laughs" does and no program that writes sheets."""
    # As UTF-16 the letters have zeros between them.
    if b"<!DOCTYPE" in beginning.replace(b"\x00", b"").upper():
        raise RefusedError("broken", "a part of it defines a document type, which no sheet does")


def _check(total: int, packed: int, parameters: dict[str, Any]) -> None:
    if total > parameters["max_unpacked_bytes"]:
        message = f"The file is larger than the limit of {parameters['max_unpacked_bytes']} bytes when it is unpacked."
        raise RefusedError("too_many_bytes", message)
    if total > JUDGED_FROM_BYTES and total > parameters["max_unpack_ratio"] * packed:
        message = (
            f"Its {packed} packed bytes unpack to more than {parameters['max_unpack_ratio']} times as many, "
            "which is the limit."
        )
        raise RefusedError("unpacks_too_far", message)
