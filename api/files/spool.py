"""A file on disk without a name, for the formats and the forms that cannot be read in one pass."""

import tempfile
from typing import BinaryIO

from api.files.errors import FileCode, TooLargeFile
from api.files.model import ByteStream

BLOCK_BYTES = 1 << 20


def spooled(stream: ByteStream, max_bytes: int) -> BinaryIO:
    """Copy the rest of a stream to an anonymous temporary file and return that, set to its start.

    The file has no name (it is unlinked as it is made), so nothing is left behind however the process ends. The caller
    closes it. Raises `TooLargeFile` when more than `max_bytes` come, and what reading the stream raises.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  (it is handed over open)
    try:
        left = max_bytes
        while block := stream.read(BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                message = f"The file is larger than the limit of {max_bytes} bytes."
                raise TooLargeFile(FileCode.TOO_MANY_BYTES, message)
            file.write(block)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
