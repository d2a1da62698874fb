"""A file on its way in: the raw body of a request, or a field of a multipart form, as one stream with its options.

A raw body is passed on as it comes, and so is the file of a form whose options stand before it. Where the file is the
first field, options may follow that decide how it is read: it waits in a file without a name until they are known.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

from flask import request

from api.files import FIELDS, ByteStream, ReadOptions
from api.files.gzipped import SIGNATURE
from api.files.spool import spooled
from api.files.stream import Peekable
from api.form import Form, Part
from api.held import hold
from api.incoming import Body, packed_problem, packing_of
from api.problems import ProblemError, bad_input
from jobs.settings import Settings

NAME_CHARS = 200
OPTIONS = ("name", "filename", "encoding", "delimiter", "columns", "sheet", "on_error")


@dataclass(frozen=True)
class Upload:
    """What was sent. `filename` is as the client says it, `display_name` is safe to show and to store."""

    stream: ByteStream
    filename: str | None
    media_type: str | None
    display_name: str | None
    options: ReadOptions


@contextmanager
def receive(settings: Settings) -> Iterator[Upload]:
    """Take the upload of the current request, as far as it takes to know its options; the rest is read by the caller.

    What it needs on disk is gone when the block ends. Raises problems: 400 for a form or a body that is cut off, 413
    for what is over a limit, 415 for a form without a file, 422 for bad options, 429 for a key that holds too much
    already; while the stream is read as well.
    """
    body = Body(request, settings.max_body_bytes)
    try:
        hold()
    except ProblemError:
        body.refuse()
        raise
    body.require_length()
    packing = packing_of(request)
    if request.mimetype == "multipart/form-data":
        if packing != "identity":
            message = "A form cannot be packed as a whole; pack the file, and send that in the field `file`."
            raise packed_problem(message, "identity")
        form = Form(
            body,
            request.content_type or "",
            max_parts=settings.max_form_parts,
            max_field_bytes=settings.max_form_field_bytes,
        )
        with _file_of_form(form, settings.max_body_bytes) as upload:
            yield upload
        return
    if request.mimetype in {"", "application/x-www-form-urlencoded"}:
        raise ProblemError(
            415,
            "unsupported_media_type",
            "Send the file as multipart/form-data in the field `file`, or as the body with its own media type.",
        )
    values = {name: request.args[name] for name in OPTIONS if name in request.args}
    yield _upload(_raw(body, packing), values.get("filename"), request.mimetype, values)


def _raw(body: Body, packing: str) -> ByteStream:
    """The body itself. Packed by gzip, it is a file that is packed: whoever reads it sees that by its first bytes."""
    if packing not in {"identity", "gzip", "x-gzip"}:
        raise packed_problem(f"The Content-Encoding {packing[:40]!r} is not read; gzip is.", "gzip")
    stream = Peekable(body)
    if packing != "identity" and stream.peek(len(SIGNATURE)) != SIGNATURE:
        raise packed_problem("The Content-Encoding is gzip, and the body is not packed by it.", "gzip")
    return stream


@contextmanager
def _file_of_form(form: Form, max_bytes: int) -> Iterator[Upload]:
    values: dict[str, str] = {}
    part = _to_file(form, values)
    if part is None:
        raise _one_file(0)
    if values:
        yield _upload(_LastFile(form), part.filename, part.media_type, values)
        return
    with spooled(form, max_bytes) as file:
        if _to_file(form, values) is not None:
            raise _one_file(2)
        yield _upload(file, part.filename, part.media_type, values)


def _to_file(form: Form, values: dict[str, str]) -> Part | None:
    """Go on to the field `file`, taking the options before it; None when the form ends without one."""
    while (part := form.next_part()) is not None:
        if part.name == "file":
            return part
        if part.name in OPTIONS:
            values.setdefault(part.name, form.value(part.name))
    return None


class _LastFile:
    """The file of a form that must have neither another one nor options behind it: these came too late."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._at_end = False

    def read(self, size: int, /) -> bytes:
        block = b"" if self._at_end else self._form.read(size)
        if not block and not self._at_end:
            self._at_end = True
            self._check_rest()
        return block

    def _check_rest(self) -> None:
        late: dict[str, str] = {}
        if _to_file(self._form, late) is not None:
            raise _one_file(2)
        for name in late:
            message = f"{name} came after the file, which was read without it: send all options before the file."
            raise bad_input(f"/{name}", "option_after_file", message)


def _one_file(found: int) -> ProblemError:
    several = "none" if found == 0 else "several"
    return bad_input("/file", "one_file", f"The form must have one field `file`, and has {several}.")


def _upload(stream: ByteStream, filename: str | None, media_type: str | None, values: dict[str, str]) -> Upload:
    on_error = values.get("on_error") or "skip"
    if on_error not in {"skip", "fail"}:
        raise bad_input("/on_error", "unknown_value", "on_error is skip or fail.")
    return Upload(
        stream=stream,
        filename=_clean(filename),
        media_type=media_type,
        display_name=_shown(values.get("name")) or _clean(filename),
        options=ReadOptions(
            encoding=values.get("encoding") or None,
            delimiter=values.get("delimiter") or None,
            columns=_columns(values.get("columns")),
            sheet=values.get("sheet") or None,
            on_error=cast(Literal["skip", "fail"], on_error),
        ),
    )


def _clean(name: str | None) -> str | None:
    """A file name without folders, control characters and excess; None for nothing."""
    return None if name is None else _tidied(re.split(r"[\\/]", name)[-1])


def _shown(name: str | None) -> str | None:
    """A name that somebody has thought of: a slash in it is a slash, and white space of any kind is a single space."""
    return None if name is None else _tidied(" ".join(name.split()))


def _tidied(name: str) -> str | None:
    name = name.encode("utf-8", "replace").decode()
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
