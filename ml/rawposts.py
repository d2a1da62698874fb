"""Labelled posts as they stand in their files, read with patience: what training would refuse becomes a finding.

`ml.data` reads the same folders for training, stops at the first thing that is wrong and forgets where a post stood.
A check wants everything that is wrong, and where.
"""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.data import group_key, text_key
from ml.findings import Finding, Place, Severity, example, finding
from ml.posts import FIELDS, Post, is_empty

TEXT_LIKE = {"text", "post", "post_text", "message", "content", "body", "текст", "пост", "сообщение"}
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class RawPost:
    """A row of a file.

    Attributes:
        topic: the id of the topic, which is the name of the file.
        place: where it stands.
        text: digits that equal texts share.
        group: digits that near-equal texts share.
    """

    topic: str
    place: Place
    post: Post
    text: str
    group: str


@dataclass(frozen=True)
class RawFile:
    """A file of one topic.

    Attributes:
        name: relative to the folder that is checked.
        rows: all of them.
        posts: the rows that hold a text.
        empty: places of the others.
    """

    topic: str
    name: str
    rows: int
    posts: tuple[RawPost, ...]
    empty: tuple[Place, ...]


def read_raw(file: Path, name: str) -> tuple[RawFile, list[Finding]]:
    """Read a CSV file as far as it can be read, and say what stood in the way."""
    found: list[Finding] = []
    blank = RawFile(file.stem, name, 0, (), ())
    here = [Place(name)]
    try:
        content, encoding = _decode(file.read_bytes())
    except OSError as error:
        action = "Make the file readable, or take it out of the folder."
        return blank, [finding(Severity.ERROR, "unreadable", f"{name}: {error.strerror}.", action, here)]
    if content is None:
        message = f"{name} is text in no encoding that is known here (UTF-8, UTF-16, Windows-1251)."
        return blank, [finding(Severity.ERROR, "not_text", message, "Save it as CSV in UTF-8.", here)]
    if encoding not in ("utf-8", "utf-8-sig"):
        message = f"{name} is not UTF-8: it looks like {encoding}, and training refuses it."
        action = f"Convert it: iconv -f {encoding} -t UTF-8 {name} > converted.csv"
        found.append(finding(Severity.ERROR, "not_utf8", message, action, here))
    if not content.strip():
        message = f"{name} is empty."
        action = "Fill it, or take it out: every CSV file of the folder is a topic."
        return blank, [*found, finding(Severity.ERROR, "no_rows", message, action, here)]
    try:
        header, records = _records(content)
    except csv.Error as error:
        action = "Look for a quote that is never closed, or save the file anew from the program that made it."
        return blank, [*found, finding(Severity.ERROR, "broken_csv", f"{name}: {error}.", action, here)]
    found += _columns(name, header)
    if not records:
        message = f"{name} has a header and no row."
        found.append(finding(Severity.ERROR, "no_rows", message, "Fill it, or take it out of the folder.", here))
    found += _open_quote(name, content)
    if "doc_text" not in header:
        # That all rows lack a text would be said a second time, row by row.
        return RawFile(file.stem, name, len(records), (), ()), found
    read, shape = _posts(file.stem, name, header, records)
    return read, [*found, *shape]


def _decode(raw: bytes) -> tuple[str | None, str]:
    """Return the text and its encoding: by its mark, else UTF-16 by its many NULs, else UTF-8, else Windows-1251."""
    guesses = ["utf-8", "windows-1251"]
    named = [encoding for mark, encoding in _BOMS if raw.startswith(mark)]
    even, odd = raw[:4000:2].count(0), raw[1:4000:2].count(0)
    # In UTF-16 every comma, digit and line break has a NUL; and what is left may well be valid UTF-8.
    if even + odd > len(raw[:4000]) / 20:
        guesses = ["utf-16-le" if odd > even else "utf-16-be"]
    for encoding in [*named, *guesses]:
        try:
            return raw.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return None, ""


def _records(content: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header, and each record with the line on which it begins; blank lines are no records."""
    reader = csv.reader(io.StringIO(content, newline=""))
    header = next(reader, [])
    records = []
    line = reader.line_num + 1
    for cells in reader:
        if cells:
            records.append((line, cells))
        line = reader.line_num + 1
    return header, records


def _open_quote(name: str, content: str) -> list[Finding]:
    """A quote that is never closed takes in all rows after it, silently: only a strict reader sees it."""
    try:
        for _ in csv.reader(io.StringIO(content, newline=""), strict=True):
            pass
    except csv.Error as error:
        if "end of data" in str(error):
            message = f"{name} ends inside a quoted cell: rows before the end were taken in by one cell."
            action = "Find the longest row of the file (see too_long) and close its quote."
            return [finding(Severity.ERROR, "open_quote", message, action, [Place(name)])]
    return []


def _columns(name: str, header: Sequence[str]) -> list[Finding]:
    found: list[Finding] = []
    here = [Place(name)]
    listed = ", ".join(f"`{column}`" for column in header[:20])
    if "doc_text" not in header:
        near = [column for column in header if column.strip().casefold() in TEXT_LIKE | {"doc_text"}]
        message = f"{name} has no column `doc_text`; its columns are {listed}."
        action = f"Rename `{near[0]}` to `doc_text`." if near else "Name the column of texts `doc_text`."
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
            action = "Separate the cells with commas: this file uses another character."
        found.append(finding(Severity.ERROR, "no_text_column", message, action, here))
    twice = sorted({column for column in header if header.count(column) > 1 and column in FIELDS})
    if twice:
        message = f"{name} has the column `{twice[0]}` more than once; training reads the last of them."
        action = "Take out or rename all but one."
        found.append(finding(Severity.ERROR, "duplicate_column", message, action, here))
    unknown = [column for column in header if column not in FIELDS]
    if unknown and "doc_text" in header:
        message = f"{name} has columns that training does not read: {', '.join(f'`{one}`' for one in unknown[:20])}."
        action = "Nothing, unless one of them is a misspelt `image2text` or `speech2text`."
        found.append(finding(Severity.NOTE, "unknown_columns", message, action, here))
    return found


def _posts(
    topic: str, name: str, header: Sequence[str], records: Sequence[tuple[int, list[str]]]
) -> tuple[RawFile, list[Finding]]:
    """Make posts of the records. Of columns of one name the last counts, as in `ml.data`."""
    index = {column: number for number, column in enumerate(header)}
    posts: list[RawPost] = []
    empty: list[Place] = []
    long: list[Place] = []
    short: list[Place] = []
    for row, (line, cells) in enumerate(records, 1):
        doc, image, speech = (
            cells[index[field]] if field in index and index[field] < len(cells) else "" for field in FIELDS
        )
        post = Post(doc, image, speech)
        place = Place(name, row, line, example(doc or image or speech))
        if len(cells) > len(header):
            long.append(place)
        elif len(cells) < len(header):
            short.append(place)
        if is_empty(post):
            empty.append(place)
        else:
            posts.append(RawPost(topic, place, post, text_key(post), group_key(post)))
    found: list[Finding] = []
    if long:
        message = f"{len(long)} rows of {name} have more cells than the header: what is beyond it is lost."
        action = "Put quotes around texts that hold commas, or save the file anew from the program that made it."
        found.append(finding(Severity.ERROR, "too_many_cells", message, action, long))
    if short:
        message = f"{len(short)} rows of {name} have fewer cells than the header; the missing ones count as empty."
        action = "Look whether these rows are halves of a row that was broken in two."
        found.append(finding(Severity.WARNING, "too_few_cells", message, action, short))
    return RawFile(topic, name, len(records), tuple(posts), tuple(empty)), found
