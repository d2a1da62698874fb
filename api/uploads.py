"""A file on its way in: the multipart form or the raw body of a request, as one seekable stream with its options."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from flask import request

from api.files import FIELDS, ReadOptions
from api.problems import ProblemError, bad_input
from jobs.settings import Settings

IN_MEMORY_BYTES = 4 << 20
NAME_CHARS = 200
OPTIONS = ("name", "filename", "encoding", "delimiter", "columns", "on_error")


@dataclass(frozen=True)
class Upload:
    """What was sent. `filename` is as the client says it, `display_name` is safe to show and to store."""

    stream: BinaryIO
    filename: str | None
    media_type: str | None
    display_name: str | None
    options: ReadOptions


@contextmanager
def receive(settings: Settings) -> Iterator[Upload]:
    """Take the upload of the current request; what it needed on disk is gone when the block ends.

    Raises problems: 413 for a body over the limit, 415 for a form without a file, 422 for bad options.
    """
    request.max_content_length = settings.max_body_bytes
    if request.content_length is not None and request.content_length > settings.max_body_bytes:
        raise ProblemError(
            413,
            "request_entity_too_large",
            f"The file is larger than the limit of {settings.max_body_bytes} bytes.",
        )
    if request.mimetype == "multipart/form-data":
        files = request.files.getlist("file")
        if len(files) != 1:
            raise bad_input("/file", "one_file", f"The form must have one field `file`, not {len(files)}.")
        sent = files[0]
        values = {name: request.form[name] for name in OPTIONS if name in request.form}
        with sent.stream as stream:
            yield _upload(cast(BinaryIO, stream), sent.filename, sent.mimetype or None, values)
        return
    if request.mimetype in {"", "application/x-www-form-urlencoded"}:
        raise ProblemError(
            415,
            "unsupported_media_type",
            "Send the file as multipart/form-data in the field `file`, or as the body with its own media type.",
        )
    values = {name: request.args[name] for name in OPTIONS if name in request.args}
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as spooled:
        shutil.copyfileobj(request.stream, spooled, 1 << 20)
        spooled.seek(0)
        yield _upload(cast(BinaryIO, spooled), values.get("filename"), request.mimetype, values)


def _upload(stream: BinaryIO, filename: str | None, media_type: str | None, values: dict[str, str]) -> Upload:
    on_error = values.get("on_error") or "skip"
    if on_error not in {"skip", "fail"}:
        raise bad_input("/on_error", "unknown_value", "on_error is skip or fail.")
    return Upload(
        stream=stream,
        filename=_clean(filename),
        media_type=media_type,
        display_name=_clean(values.get("name")) or _clean(filename),
        options=ReadOptions(
            encoding=values.get("encoding") or None,
            delimiter=values.get("delimiter") or None,
            columns=_columns(values.get("columns")),
            on_error=cast(Literal["skip", "fail"], on_error),
        ),
    )


def _clean(name: str | None) -> str | None:
    """A file name without folders, control characters and excess; None for nothing."""
    if name is None:
        return None
    name = name.encode("utf-8", "replace").decode()
    name = re.split(r"[\\/]", name)[-1]
    name = "".join(c for c in name if c.isprintable()).strip()
    if len(name) > NAME_CHARS:
        stem, dot, extension = name.rpartition(".")
        name = f"{stem[: NAME_CHARS - 20]}{dot}{extension}" if len(extension) < 16 and stem else name[:NAME_CHARS]
    return name or None


def _columns(text: str | None) -> dict[str, str] | None:
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_input("/columns", "invalid_json", "columns must be a JSON object of field: column.") from error
    if not isinstance(value, dict) or not all(isinstance(column, str) for column in value.values()):
        raise bad_input("/columns", "invalid_json", "columns must be a JSON object of field: column.")
    unknown = sorted(set(value) - set(FIELDS))
    if unknown:
        raise bad_input("/columns", "unknown_field", f"{unknown[0]!r} is none of {', '.join(FIELDS)}.")
    return value
