"""What the pages load: Rubrika's own files and Bootstrap's, all from this machine.

Bootstrap's style sheet and icons are served as the installed Bootstrap-Flask package ships them. Everything is small
enough to be read once and kept in memory, which leaves no path of a request to be joined to a folder.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from flask import Request, Response
from markupsafe import Markup

STATIC_FOLDER = Path(__file__).resolve().parent / "static"

# Python's own table of media types reads files of the machine it runs on; a module with a wrong type does not start.
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}

ICONS = (
    "arrow-repeat",
    "caret-down-fill",
    "caret-up-fill",
    "check-circle",
    "check-lg",
    "chevron-left",
    "chevron-right",
    "clipboard",
    "download",
    "exclamation-circle",
    "exclamation-triangle",
    "file-earmark-text",
    "hourglass-split",
    "info-circle",
    "plus-lg",
    "question-circle",
    "slash-circle",
    "trash",
    "upload",
    "x-lg",
)


@dataclass(frozen=True)
class Asset:
    """One file as it is sent: its bytes, the same bytes gzipped, its media type and a strong tag of its content."""

    body: bytes
    gzipped: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class Assets:
    """All files by name, and a version that changes whenever any of them does."""

    files: Mapping[str, Asset]
    version: str


def bootstrap_folder() -> Path:
    """The folder of Bootstrap 5's files in the installed Bootstrap-Flask, found without importing the package."""
    spec = find_spec("flask_bootstrap")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Bootstrap-Flask is not installed: the page takes Bootstrap's files from it.")
    return Path(spec.origin).parent / "static" / "bootstrap5"


@cache
def load() -> Assets:
    """Read every file that a page may ask for. Called when the blueprint is made, and remembered."""
    sources = {"bootstrap.min.css": bootstrap_folder() / "css" / "bootstrap.min.css"}
    for path in sorted(STATIC_FOLDER.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            sources[path.relative_to(STATIC_FOLDER).as_posix()] = path
    files = {name: _read(path) for name, path in sources.items()}
    digest = hashlib.sha256("".join(f"{name} {asset.etag}\n" for name, asset in files.items()).encode())
    return Assets(files, digest.hexdigest()[:12])


@cache
def icon_symbols() -> Markup:
    """The icons that the pages use, as `<symbol id="icon-NAME">` elements cut from Bootstrap's sprite of two thousand.

    They are put into each page, because the whole sprite is a megabyte.
    """
    sprite = (bootstrap_folder() / "icons" / "bootstrap-icons.svg").read_text(encoding="utf-8")
    symbols = []
    for name in ICONS:
        found = re.search(rf'<symbol [^>]*viewBox="([^"]+)" id="{re.escape(name)}">(.*?)</symbol>', sprite, re.DOTALL)
        if found is None:
            raise LookupError(f"Bootstrap's icons have no {name!r}.")
        symbols.append(f'<symbol id="icon-{name}" viewBox="{found[1]}">{found[2]}</symbol>')
    return Markup("".join(symbols))  # noqa: S704 - the text comes from an installed package, not from a request.


def icon(name: str) -> Markup:
    """One of `ICONS` as it stands beside words. It is hidden from screen readers, which read the words."""
    return Markup('<svg class="icon" aria-hidden="true"><use href="#icon-{}"></use></svg>').format(name)


def respond(request: Request, asset: Asset, *, forever: bool) -> Response:
    """Answer with `asset`, gzipped where the client takes that; `forever` when the address names its version."""
    zipped = request.accept_encodings.quality("gzip") > 0
    response = Response(asset.gzipped if zipped else asset.body, content_type=asset.media_type)
    if zipped:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if forever else "no-cache"
    response.set_etag(asset.etag + ("-gzip" if zipped else ""))
    return response.make_conditional(request)  # type: ignore[return-value]  # It returns the response itself.


def _read(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(body, gzip.compress(body, mtime=0), MEDIA_TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])
