"""What a file is: by its first bytes, its name, the media type it was sent with and its first line, in this order."""

import json
import re
from typing import Literal

from api.files.errors import FileCode, UnsupportedFile

Kind = Literal["csv", "tsv", "ndjson", "json", "text"]
BinaryKind = Literal["sheet", "parquet"]

SIGNATURE_BYTES = 8192

_BY_EXTENSION: dict[str, Kind] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "json": "json",
    "txt": "text",
}
ENDINGS = (*_BY_EXTENSION, "xlsx", "xlsm", "xls", "ods", "parquet")
"""How the names of files end that are read; of the last five the first bytes tell."""

_BY_MEDIA_TYPE: dict[str, Kind] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/json": "json",
    "text/plain": "text",
}

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SIGNATURES: tuple[tuple[bytes, FileCode, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", FileCode.LOOKS_LIKE_ARCHIVE, "a 7z archive"),
    (b"Rar!\x1a\x07", FileCode.LOOKS_LIKE_ARCHIVE, "a RAR archive"),
    (b"BZh", FileCode.LOOKS_LIKE_ARCHIVE, "packed by bzip2"),
    (b"\xfd7zXZ\x00", FileCode.LOOKS_LIKE_ARCHIVE, "packed by xz"),
    (b"\x28\xb5\x2f\xfd", FileCode.LOOKS_LIKE_ARCHIVE, "packed by Zstandard"),
    (b"%PDF-", FileCode.LOOKS_LIKE_DOCUMENT, "a PDF"),
    (b"{\\rtf", FileCode.LOOKS_LIKE_DOCUMENT, "an RTF document"),
    (b"\x89PNG\r\n\x1a\n", FileCode.LOOKS_LIKE_MEDIA, "a PNG picture"),
    (b"\xff\xd8\xff", FileCode.LOOKS_LIKE_MEDIA, "a JPEG picture"),
    (b"GIF8", FileCode.LOOKS_LIKE_MEDIA, "a GIF picture"),
    (b"OggS", FileCode.LOOKS_LIKE_MEDIA, "an Ogg sound or video"),
    (b"ID3", FileCode.LOOKS_LIKE_MEDIA, "an MP3 sound"),
    (b"SQLite format 3\x00", FileCode.LOOKS_LIKE_BINARY, "an SQLite database"),
)
_ADVICE = {
    FileCode.LOOKS_LIKE_ARCHIVE: " Unpack it and send what is inside.",
}
_HTML = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|table)\b", re.IGNORECASE)
WHITE = "\ufeff \t\r\n"
"""What may stand before the first character of a file that matters."""


def binary_kind(head: bytes) -> BinaryKind | None:
    """Say of the first bytes (`SIGNATURE_BYTES`) whether they are those of a binary format that is read.

    What a ZIP archive holds, and whether an old office file is a sheet, is found out when it is read.
    """
    if head.startswith(b"PAR1") and not _is_plain(head):
        return "parquet"
    if head.startswith(_OLD_OFFICE):
        return "sheet"
    is_sheet = b"xl/" in head or b"opendocument.spreadsheet" in head or b"[Content_Types].xml" in head
    return "sheet" if head.startswith(_ZIP) and is_sheet and not _is_document(head) else None


def refuse_foreign(head: bytes) -> None:
    """Raise `UnsupportedFile` when the first bytes (`SIGNATURE_BYTES`) are those of a format that is not read."""
    if head.startswith(_ZIP):
        if _is_document(head):
            raise _refusal(FileCode.LOOKS_LIKE_DOCUMENT, "a Word or OpenDocument text")
        raise _refusal(FileCode.LOOKS_LIKE_ARCHIVE, "a ZIP archive")
    for signature, code, what in _SIGNATURES:
        if head.startswith(signature) and (len(signature) > 4 or not _is_plain(head)):
            raise _refusal(code, what)
    if (head[4:8] == b"ftyp" or head.startswith(b"RIFF")) and not _is_plain(head):
        raise _refusal(FileCode.LOOKS_LIKE_MEDIA, "a sound, a picture or a video")
    if _HTML.match(head):
        raise _refusal(FileCode.LOOKS_LIKE_HTML, "a web page")


def find_kind(filename: str | None, media_type: str | None, beginning: str) -> Kind:
    """Say how to read a file whose text begins with `beginning`.

    Raises `UnsupportedFile` when nothing but a foreign media type speaks for it. What stands in the file overrules
    its name where the two cannot both be right: an array of JSON is one in a `.csv` too, and lines of objects are.
    """
    declared = _declared(filename, media_type)
    text = beginning.lstrip(WHITE)
    if declared == "text":
        return declared
    if declared != "ndjson" and text.startswith("{") and _is_object(text.split("\n", 1)[0]):
        return "ndjson"
    if _begins_array(text, declared):
        return "json"
    return declared or "csv"


def _declared(filename: str | None, media_type: str | None) -> Kind | None:
    extension = (filename or "").rpartition(".")[2].lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    media = (media_type or "").partition(";")[0].strip().lower()
    if media.partition("/")[0] in ("image", "audio", "video", "font", "model"):
        message = (
            f"The media type {media[:60]!r} is not read. "
            "Send CSV, TSV, NDJSON, a JSON array, XLSX, Parquet or plain text."
        )
        raise UnsupportedFile(FileCode.MEDIA_TYPE, message)
    return _BY_MEDIA_TYPE.get(media)


def _begins_array(text: str, declared: Kind | None) -> bool:
    if declared == "json":
        return True
    if declared == "ndjson":
        # A line of its own that is an array is a broken row; an array that goes on, or is all there is, is the file.
        first, _, rest = text.partition("\n")
        return text.startswith("[") and (not rest.strip() or re.search(r"\A\[\s*\{?\s*\Z|,\s*\Z", first) is not None)
    return re.match(r"\[\s*[{\]]", text) is not None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_plain(head: bytes) -> bool:
    """Whether the bytes are text after all: a header may well begin with `PAR1`, `ID3` or `BZh`."""
    return not any(b < 32 and b not in b"\t\n\r\f\v" for b in head)


def _is_document(head: bytes) -> bool:
    return b"word/" in head or b"opendocument.text" in head


def _refusal(code: FileCode, what: str) -> UnsupportedFile:
    message = f"The file is {what}, which is not read.{_ADVICE.get(code, '')}"
    return UnsupportedFile(code, message)
