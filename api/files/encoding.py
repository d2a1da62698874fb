"""Which encoding the bytes of a file are in, found in a stated order while they are decoded.

The order: the caller's word; a byte order mark; UTF-16 by the pattern of its NULs; strict UTF-8; Windows-1251, if the
result reads like Russian. UTF-8 and Windows-1251 are alike in ASCII, so the choice between the two waits for the first
byte beyond it, wherever that stands, and is made by the 64 KiB from there on. Nothing is ever replaced: a byte that
does not fit is an error that names its place.
"""

import codecs
import re
from dataclasses import dataclass

from api.files.errors import FileCode, UnreadableFile, UnsupportedFile
from api.files.model import ByteStream
from api.files.stream import Peekable

BLOCK_BYTES = 256 * 1024
HEAD_BYTES = 64 * 1024
WINDOW_BYTES = 64 * 1024

_BYTE_ORDER_MARKS = (
    # UTF-32 comes first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8", "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)

# Only these: Python knows codecs that unpack or run through their input, and none of those is an encoding of a file.
_NAMED = {
    "utf-8": "utf-8",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "utf-16": "utf-16-le",
    "windows-1251": "cp1251",
    "cp1251": "cp1251",
    "windows-1252": "cp1252",
    "iso-8859-1": "latin-1",
    "iso-8859-5": "iso8859-5",
    "koi8-r": "koi8-r",
    "cp866": "cp866",
    "mac-cyrillic": "mac-cyrillic",
}
_ALIASES = {
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "win-1251": "windows-1251",
    "win1251": "windows-1251",
    "1251": "windows-1251",
    "cp1252": "windows-1252",
    "latin-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "koi8r": "koi8-r",
    "ibm866": "cp866",
    "866": "cp866",
}

_CONTROL = bytes(b for b in range(32) if b not in b"\t\n\v\f\r\x1a\x1b")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_COMMON_LETTERS = frozenset("оеаинтсрвлОЕАИНТСРВЛ")


@dataclass(frozen=True)
class Encoding:
    """How bytes become text: the name that is shown, Python's codec, and how many bytes a byte order mark takes."""

    name: str
    codec: str
    bom: int = 0


UTF_8 = Encoding("utf-8", "utf-8")
WINDOWS_1251 = Encoding("windows-1251", "cp1251")


class Decoder:
    """Decodes a stream, once, from where it stands.

    Raises `UnreadableFile`, at first or while reading, for an encoding that is not known or does not fit, with the
    offset of the first byte that shows it, and `UnsupportedFile` for bytes that are no text at all.
    """

    def __init__(self, stream: ByteStream, named: str | None) -> None:
        self._stream = Peekable(stream)
        head = self._stream.peek(HEAD_BYTES)
        self._was_named = named is not None and bool(named.strip())
        found = _named(head, named) if named is not None and self._was_named else _evident(head)
        if found is None and _share(head, _CONTROL) > 0.3:
            message = "The file is not text: it is full of control characters."
            raise UnsupportedFile(FileCode.LOOKS_LIKE_BINARY, message)
        self._has_nuls = b"\x00" in head
        self._encoding = found
        self._decoder = _decoder_of(found or UTF_8)
        self._offset = found.bom if found else 0
        """Where the bytes that the stream gives next stand in the file."""
        self._stream.read(self._offset)

    @property
    def encoding(self) -> str:
        """The name of the encoding. As long as there was nothing but ASCII, that is UTF-8."""
        return (self._encoding or UTF_8).name

    def read(self) -> str:
        """Return the next part of the text; "" at the end and only there."""
        while True:
            data = self._stream.read(BLOCK_BYTES)
            if self._encoding is None and not data.isascii():
                data = self._decide(data)
            held_back = len(self._decoder.getstate()[0])
            try:
                text = self._decoder.decode(data, not data)
            except UnicodeDecodeError as error:
                raise self._misfit(self._offset - held_back + error.start, error) from error
            self._offset += len(data)
            if text or not data:
                return text

    def _decide(self, data: bytes) -> bytes:
        """Choose between UTF-8 and Windows-1251; return what was read, with the window that it took to choose."""
        first = _BEYOND_ASCII.search(data)
        begin = first.start() if first else 0
        missing = WINDOW_BYTES - (len(data) - begin)
        data += self._stream.peek(missing) if missing > 0 else b""
        window = data[begin : begin + WINDOW_BYTES]
        is_cut = len(window) == WINDOW_BYTES
        try:
            _decoder_of(UTF_8).decode(window, not is_cut)
            self._encoding = UTF_8
        except UnicodeDecodeError as error:
            place = self._offset + begin + error.start
            self._encoding = _cyrillic_or_refuse(window, self._has_nuls, place, error)
        self._decoder = _decoder_of(self._encoding)
        if missing > 0:
            self._stream.read(missing)
        return data

    def _misfit(self, place: int, error: UnicodeDecodeError) -> UnreadableFile:
        message = f"Byte {place}{_shown(error)} does not fit the encoding {self.encoding}"
        if not self._was_named:
            message += ", in which the file began. If it is in another, name that with `encoding`"
        return UnreadableFile(FileCode.BAD_ENCODING, f"{message}.", byte=place)


def _decoder_of(encoding: Encoding) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(encoding.codec)("strict")


def _evident(head: bytes) -> Encoding | None:
    """The encoding that the first bytes show by themselves; None leaves UTF-8 and Windows-1251."""
    for mark, name, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return Encoding(name, codec, len(mark))
    wide = _wide_by_nuls(head)
    return Encoding("utf-16", wide) if wide else None


def _named(head: bytes, named: str) -> Encoding:
    key = named.strip().lower().replace("_", "-")
    name = _ALIASES.get(key, key)
    if name not in _NAMED:
        known = ", ".join(_NAMED)
        raise UnreadableFile(FileCode.UNKNOWN_ENCODING, f"The encoding {named[:40]!r} is none of {known}.")
    codec = _NAMED[name]
    bom = 0
    for mark, marked_name, marked_codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark) and (marked_codec == codec or marked_name == name):
            codec, bom = marked_codec, len(mark)
    return Encoding(name, codec, bom)


def _cyrillic_or_refuse(window: bytes, has_nuls: bool, place: int, error: UnicodeDecodeError) -> Encoding:
    """Decide about a file that is not UTF-8 at byte `place`, by the bytes from the first one beyond ASCII on."""
    if has_nuls or b"\x00" in window:
        raise UnsupportedFile(FileCode.LOOKS_LIKE_BINARY, "The file is not text: it has NULs and bytes beyond UTF-8.")
    likeliest = max(("cp1251", "koi8-r", "cp866", "iso8859-5"), key=lambda codec: _russian(window, codec))
    if likeliest == "cp1251" and _has_cyrillic_words(window):
        return WINDOWS_1251
    hint = ""
    if likeliest != "cp1251" and _russian(window, likeliest) > 0.3:
        hint = f" It may be {likeliest}."
    message = (
        f"Byte {place}{_shown(error)} is not UTF-8, and the file does not read like UTF-16 or Windows-1251."
        f"{hint} Name its encoding with `encoding`."
    )
    raise UnreadableFile(FileCode.BAD_ENCODING, message, byte=place) from error


def _wide_by_nuls(head: bytes) -> str | None:
    """Recognise UTF-16 without a mark: of each pair, one byte is that of ASCII (0x00) or of Cyrillic (0x04)."""
    pairs = len(head) // 2
    for codec, high, low in (("utf-16-le", head[1::2], head[0::2]), ("utf-16-be", head[0::2], head[1::2])):
        if 0 in high and (high.count(0) + high.count(4)) >= 0.9 * pairs and low.count(0) <= 0.01 * pairs:
            return codec
    return None


def _share(data: bytes, wanted: bytes) -> float:
    return 1 - len(data.translate(None, wanted)) / len(data) if data else 0.0


def _russian(sample: bytes, codec: str) -> float:
    """The share of the ten commonest Russian letters among all characters beyond ASCII; about 0.6 in real text."""
    beyond = [letter for letter in sample.decode(codec, "replace") if letter > "\x7f"]
    return sum(letter in _COMMON_LETTERS for letter in beyond) / max(len(beyond), 1)


def _has_cyrillic_words(sample: bytes) -> bool:
    """Whether the bytes beyond ASCII are, in Windows-1251, mostly Russian letters that stand beside other ones.

    Western accents stand alone among ASCII letters, and broken UTF-8 is half symbols: both fail.
    """
    text = sample.decode("cp1251", "replace")
    is_letter = ["а" <= character <= "я" or character in "ёЁ" or "А" <= character <= "Я" for character in text]
    beyond = sum(character > "\x7f" for character in text)
    letters = sum(is_letter)
    beside = sum(
        here and (before or after)
        for before, here, after in zip([False, *is_letter], is_letter, [*is_letter[1:], False], strict=False)
    )
    return letters >= 0.75 * beyond and beside >= 0.5 * letters > 0


def _shown(error: UnicodeDecodeError) -> str:
    found = error.object[error.start : error.start + 1]
    return f" (0x{found.hex().upper()})" if found else ""
