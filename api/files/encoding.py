"""Which encoding the bytes of a file are in, found in a stated order and checked over the whole file.

The order: the caller's word; a byte order mark; UTF-16 by the pattern of its NULs; strict UTF-8; Windows-1251, if the
result reads like Russian. Nothing is ever replaced: a byte that does not fit is an error that names its place.
"""

import codecs

from api.files.errors import FileCode, UnreadableFile, UnsupportedFile
from api.files.model import ByteStream
from api.files.source import BLOCK_BYTES, Encoding

HEAD_BYTES = 64 * 1024

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
_COMMON_LETTERS = frozenset("оеаинтсрвлОЕАИНТСРВЛ")


def find_encoding(stream: ByteStream, named: str | None) -> Encoding:
    """Return the encoding of a whole file, read from its start.

    Raises `UnreadableFile` for an encoding that is not known or does not fit, with the offset of the first byte that
    shows it, and `UnsupportedFile` for bytes that are no text at all.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if named is not None and named.strip():
        return _check_named(stream, head, named)
    for mark, name, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return _check(stream, Encoding(name, codec, len(mark)))
    wide = _wide_by_nuls(head)
    if wide is not None:
        return _check(stream, Encoding("utf-16", wide))
    if _share(head, _CONTROL) > 0.3:
        raise UnsupportedFile(FileCode.LOOKS_LIKE_BINARY, "The file is not text: it is full of control characters.")
    misfit = first_misfit(stream, Encoding("utf-8", "utf-8"))
    if misfit is None:
        return Encoding("utf-8", "utf-8")
    return _cyrillic_or_refuse(stream, head, misfit)


def first_misfit(stream: ByteStream, encoding: Encoding) -> int | None:
    """Return the offset of the first byte that does not fit an encoding, None when the whole file does."""
    decoder = codecs.getincrementaldecoder(encoding.codec)("strict")
    offset = encoding.bom
    stream.seek(offset)
    while True:
        data = stream.read(BLOCK_BYTES)
        held_back = len(decoder.getstate()[0])
        try:
            decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            return offset - held_back + error.start
        if not data:
            return None
        offset += len(data)


def _check_named(stream: ByteStream, head: bytes, named: str) -> Encoding:
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
    return _check(stream, Encoding(name, codec, bom))


def _check(stream: ByteStream, encoding: Encoding) -> Encoding:
    misfit = first_misfit(stream, encoding)
    if misfit is not None:
        message = f"Byte {misfit}{_shown(stream, misfit)} does not fit the encoding {encoding.name}."
        raise UnreadableFile(FileCode.BAD_ENCODING, message, byte=misfit)
    return encoding


def _cyrillic_or_refuse(stream: ByteStream, head: bytes, misfit: int) -> Encoding:
    """Decide about a file that is not UTF-8 from byte `misfit` on, by what stands around that byte."""
    stream.seek(max(0, misfit - 1024))
    sample = stream.read(HEAD_BYTES)
    if b"\x00" in head or b"\x00" in sample:
        raise UnsupportedFile(FileCode.LOOKS_LIKE_BINARY, "The file is not text: it has NULs and bytes beyond UTF-8.")
    likeliest = max(("cp1251", "koi8-r", "cp866", "iso8859-5"), key=lambda codec: _russian(sample, codec))
    windows = Encoding("windows-1251", "cp1251")
    if likeliest == "cp1251" and _has_cyrillic_words(sample) and first_misfit(stream, windows) is None:
        return windows
    hint = ""
    if likeliest != "cp1251" and _russian(sample, likeliest) > 0.3:
        hint = f" It may be {likeliest}."
    message = (
        f"Byte {misfit}{_shown(stream, misfit)} is not UTF-8, and the file does not read like UTF-16 or Windows-1251."
        f"{hint} Name its encoding with `encoding`."
    )
    raise UnreadableFile(FileCode.BAD_ENCODING, message, byte=misfit)


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


def _shown(stream: ByteStream, offset: int) -> str:
    stream.seek(offset)
    found = stream.read(1)
    return f" (0x{found.hex().upper()})" if found else ""
