"""What the two clients share of httpx: how a call becomes a request, and what broke in words."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import httpx2

from rubrika_client.calls import FORMATS, Call, Form, Format, is_printable_ascii
from rubrika_client.errors import ArgumentError
from rubrika_client.flows import Lost

LOCAL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0
WRITE_SECONDS = 60.0
"""The longest that a piece of a request may stand still before the connection counts as broken."""
Source = str | os.PathLike[str] | BinaryIO
"""A file to send: its path, or a file that is open for reading bytes and can go back to its beginning."""


class Options(TypedDict, total=False):
    """How a file is to be read; what is left out is found by the service. See docs/api.md."""

    name: str | None
    encoding: str | None
    delimiter: str | None
    columns: Mapping[str, str] | None
    sheet: str | None
    on_error: str | None


class Filters(TypedDict, total=False):
    """Which rows of a file are asked for; several conditions must all hold. See docs/api.md."""

    topic: str | None
    min_probability: float | None
    max_probability: float | None
    assigned: str | None
    q: str | None
    status: str | None


def address_of(text: str) -> str:
    """An address as it is used, without a slash at its end. Raises `ArgumentError` for what can be none."""
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL as error:
        raise ArgumentError(f"{text.strip()!r} is not an address of the web: {error}.") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ArgumentError(f"{text.strip()!r} is not an address of the web: it begins with http:// or https://.")
    if "%" in url.host or not 0 < (url.port or 80) < 65536:
        raise ArgumentError(f"{text.strip()!r} is not an address of the web: no such host or port can be.")
    return text.strip().rstrip("/")


def headers_of(key: str | None) -> dict[str, str]:
    """The headers of every request. Raises `ArgumentError`, which does not tell the key, for one that can be none."""
    key = (key or "").strip()
    if not is_printable_ascii(key):
        raise ArgumentError("The key of the service has characters that are not printable ASCII: was it copied whole?")
    try:
        version = metadata.version("rubrika-client")
    except metadata.PackageNotFoundError:
        version = "0"  # Part of Rubrika itself rather than installed alone.
    headers = {"User-Agent": f"rubrika-client/{version}", "Accept": "application/json, */*;q=0.1"}
    return headers | ({"Authorization": f"Bearer {key}"} if key else {})


def timeout_of(call: Call[Any]) -> httpx2.Timeout:
    """A connection is there within seconds or not at all, and takes what is sent; an answer may take its time."""
    return httpx2.Timeout(call.patience, connect=CONNECT_SECONDS, write=WRITE_SECONDS)


class Counting:
    """A file that tells how many bytes of it were read. What httpx asks of a file, and no more."""

    def __init__(self, file: BinaryIO, told: Callable[[int], object]) -> None:
        self._file = file
        self._told = told
        self._read = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        block = self._file.read(size)
        self._read += len(block)
        self._told(self._read)
        return block

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place; the count goes there too."""
        place = self._read = self._file.seek(offset, whence)
        return place

    def tell(self) -> int:
        """The place."""
        return self._file.tell()


def request_of(client: httpx2.Client | httpx2.AsyncClient, call: Call[Any], file: BinaryIO | None) -> httpx2.Request:
    """The request of a call; `file` is that of its form, open."""
    more: dict[str, Any] = {}
    if call.form is not None and file is not None:
        told = call.form.sent
        content = file if told is None else Counting(file, told)
        more = {
            "data": dict(call.form.fields),
            "files": {"file": (call.form.filename, content, "application/octet-stream")},
        }
    elif call.body is not None:
        more = {"json": call.body}
    # An empty mapping would take away the parameters that the address of a next page has.
    params = dict(call.params) or None
    return client.build_request(
        call.method, call.path, params=params, headers=dict(call.headers), timeout=timeout_of(call), **more
    )


def lost(error: httpx2.TransportError, url: str) -> Lost:
    """What broke, as a sentence. Raises `ArgumentError` for a request that will never go."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Lost(f"Nobody answers at {url}: {str(error) or 'no connection in time'}.", sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return Lost(f"{url} has taken the request and does not answer.")
    if isinstance(error, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
        # Its own words may show a header, and with it the key.
        raise ArgumentError(f"The request to {url} is none of HTTP: has its file changed meanwhile?") from None
    return Lost(f"The connection to {url} broke: {str(error) or type(error).__name__}.")


def form_of(
    source: Source, filename: str | None, fields: Mapping[str, str], sent: Callable[[int], object] | None
) -> Form:
    """A file as the form that is sent, which is opened anew for each attempt."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Form(lambda: path.open("rb"), filename or path.name, fields, sent)
    given = source

    def again() -> BinaryIO:
        given.seek(0)
        return _Borrowed(given)  # type: ignore[return-value]

    named = getattr(given, "name", None)
    return Form(again, filename or (Path(named).name if isinstance(named, str) else "posts"), fields, sent)


class _Borrowed:
    """A file of the caller's, which is not ours to close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Borrowed":
        return self

    def __exit__(self, *_: object) -> None:
        return


def format_of(path: Path, wanted: str | None) -> Format:
    """The format of a download: as wanted, else by the ending. Raises `ValueError` where there is none such."""
    named = (wanted or path.suffix.lstrip(".")).lower()
    named = {"jsonl": "ndjson"}.get(named, named)
    for form in FORMATS:
        if form == named:
            return form
    raise ValueError(f"A download is {', '.join(FORMATS)}, and {path.name} ends in none of these.")


def is_special(path: Path) -> bool:
    """Whether there is something else than a file: a pipe or a device, which is written into and never replaced."""
    return path.exists() and not path.is_file()


class PartFile:
    """A file that is there whole or not at all: written beside its place, and moved there at the end.

    A link stays, and what it leads to is written. What has gone into a pipe or a device cannot be taken back, so that
    these are given all of it at the end.
    """

    def __init__(self, path: Path) -> None:
        self._special = is_special(path)
        self._path = path if self._special else path.resolve()
        self._part = self._path.with_name(f"{self._path.name}.part")

    def open(self) -> BinaryIO:
        """What to write into. A pipe is waited for until somebody reads it."""
        self._file: BinaryIO
        if self._special:
            self._out = self._path.open("wb")
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by keep and drop)
        else:
            self._file = self._part.open("wb")
        return self._file

    def keep(self) -> None:
        """All of it is written. A pipe is waited for until it was taken out."""
        if self._special:
            with self._out, self._file:
                self._file.seek(0)
                shutil.copyfileobj(self._file, self._out)
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)

    def drop(self) -> None:
        """It will not be whole."""
        with suppress(OSError):
            self._file.close()
        if self._special:
            with suppress(OSError):
                self._out.close()
        else:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> BinaryIO:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.keep()
        else:
            self.drop()
