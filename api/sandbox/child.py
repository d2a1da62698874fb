"""The process that parses a spreadsheet or a Parquet file: confined, and with one pipe out.

    child.main() with the arguments KIND DESCRIPTOR PARAMETERS

DESCRIPTOR is an open file; PARAMETERS is JSON. On standard output comes a line that begins with `!` and holds a JSON
object that describes the file, then a line of JSON for each row, then `!{}`. `!{"error": CODE, "message": ...}` in
place of any of them is a refusal. A process that ends without one of the two has failed, whatever its exit code says.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

OPEN_FILES = 64
STDERR_BYTES = 1 << 16
START_SECONDS = 30
"""CPU time to open a file. What comes after it is paid for by the rows and the bytes that come out."""

Parsed = Iterator[dict[str, Any] | bytes]
"""What a parser yields: first the description of the file, then lines of rows, any number of whole ones at a time."""


class RefusedError(Exception):
    """The file cannot be used; `code` is one of `api.files.errors.FileCode`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def allow(seconds: float) -> None:
    """Grant CPU time, counted from now. A parser that is caught in a loop uses it up, and the system ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def confine(max_bytes: int) -> None:
    """Bound what this process can take of the machine, before the first byte is looked at."""
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (STDERR_BYTES, STDERR_BYTES))
    allow(START_SECONDS)
    # Should the machine itself run out of memory, this process is the one that can best be spared (Linux).
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")


def main() -> None:
    """Parse one file and end the process, without the clean-up of an interpreter."""
    kind, descriptor, parameters = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    confine(parameters["max_parser_bytes"])
    out = sys.stdout.buffer
    try:
        _write(out, _parser(kind, descriptor, parameters))
    except RefusedError as refused:
        _say(out, {"error": refused.code, "message": str(refused)})
    except BrokenPipeError:
        os._exit(1)
    except BaseException as error:
        # A panic of a parser in Rust is no Exception; the words of any parser may help whoever sent the file. A lack
        # of memory may have gone through the parser on its way here, and is only told by its name.
        is_memory = isinstance(error, MemoryError) or "MemoryError" in str(error)
        words = str(error).partition("\n")[0][:300]
        _say(out, {"error": "too_much_memory" if is_memory else "broken", "message": words})
    try:
        out.flush()
    finally:
        os._exit(0)


def _parser(kind: str, descriptor: int, parameters: dict[str, Any]) -> Parsed:
    """Import the one parser that is needed."""
    if kind == "sheet":
        from api.sandbox import sheets

        return sheets.parse(descriptor, parameters)
    from api.sandbox import parquet

    return parquet.parse(descriptor, parameters)


def _write(out: BinaryIO, parsed: Parsed) -> None:
    for part in parsed:
        if isinstance(part, bytes):
            out.write(part)
        else:
            _say(out, part)
    _say(out, {})


def _say(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(b"!" + json.dumps(message, ensure_ascii=True).encode() + b"\n")
    out.flush()
