"""Posts as JSON objects: what NDJSON and a JSON array have in common."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from api.files.columns import MAX_NAME_CHARS, Mapped, map_columns, no_text_column
from api.files.model import FIELDS, GIVE_UP_AFTER, FileRow, Limits, ReadOptions, RowProblem
from api.files.rows import is_storable, problem_of, storable, storable_texts, text_columns
from jobs.states import RowError

SAMPLE_OBJECTS = 1000
SAMPLE_CHARS = 1_000_000

_ESCAPED_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_WHITE = re.compile(r"[ \t\r\n]*")
_BRACKETS = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[\[{\]}]', re.DOTALL)


Parsed = Iterator[tuple[int, int, object, str]]
"""Row number, line, value, and the text it was parsed from; the value is a `JsonError` when it could not be."""


class JsonError(ValueError):
    """A piece of JSON cannot be used; its text says why. `place` counts characters from 0, where it is known."""

    def __init__(self, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place


def _no_constant(name: str) -> object:
    raise JsonError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonError(f"the number {digits[:40]} is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def after_white(text: str, start: int) -> int:
    """Return the place of the first character from `start` on that is not white space in JSON."""
    found = _WHITE.match(text, start)
    return found.end() if found else start


def parse(text: str, start: int = 0) -> tuple[object, int]:
    """Parse the JSON value that begins at `start` (white space skipped before); return it and the place after it.

    Stricter than Python: NaN, Infinity and numbers beyond float64 are refused. Raises `JsonError`.
    """
    try:
        return _DECODER.raw_decode(text, after_white(text, start))
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.pos) from error
    except RecursionError as error:
        raise JsonError("brackets are nested too deep") from error
    except ValueError as error:
        # Python refuses to convert integers of thousands of digits.
        raise JsonError("a number has too many digits") from error


def too_deep(max_depth: int) -> JsonError:
    """What is wrong with a value that nests deeper than that."""
    return JsonError(f"brackets are nested too deep; the limit is {max_depth}")


def is_too_deep(text: str, max_depth: int) -> bool:
    """Whether a text nests brackets deeper than `max_depth`. Strings are skipped; nothing is parsed."""
    if text.count("[") + text.count("{") <= max_depth:
        return False
    depth = 0
    for match in _BRACKETS.finditer(text):
        bracket = text[match.start()]
        if bracket in "[{":
            depth += 1
            if depth > max_depth:
                return True
        elif bracket in "]}":
            depth -= 1
    return False


def find_columns(values: Parsed, options: ReadOptions, limits: Limits) -> tuple[tuple[str, ...], Mapped]:
    """Return the keys of the first objects, as they come up, and which of them is which field.

    Without a single object among the first values the fields' own names are returned: iterating over the rows will
    say what is wrong with them. Raises `UnreadableFile` when there are objects and none of their keys holds a text.
    """
    found: dict[str, None] = {}
    chars = 0
    objects = 0
    for _, _, value, raw in islice(values, GIVE_UP_AFTER):
        if isinstance(value, dict):
            objects += 1
            found.update(dict.fromkeys(islice(value, limits.max_columns)))
            chars += len(raw)
        if objects == SAMPLE_OBJECTS or chars > SAMPLE_CHARS or len(found) > limits.max_columns:
            break
    if not objects:
        return (), Mapped({"doc_text": "text"}, False)
    # A key of monstrous length or with characters that cannot be stored is kept in its row and named nowhere.
    names = tuple(key for key in found if len(key) <= MAX_NAME_CHARS and is_storable(key))[: limits.max_columns]
    mapped = map_columns(names, names, options.columns)
    if mapped is None:
        raise no_text_column(names)
    return names, mapped


class RowMaker:
    """Makes rows of parsed objects, and knows the keys that came up in them.

    Attributes:
        columns: the keys that were known at the beginning, then those that came up later, as far as the limits allow.
        mapping: which of them is which field.
    """

    def __init__(
        self, columns: Sequence[str], mapping: Mapping[str, str], options: ReadOptions, limits: Limits
    ) -> None:
        self.columns = tuple(columns)
        self.mapping = dict(mapping)
        # A key that is rare need not occur among the first objects: a field's own name always means the field, unless
        # the caller says that the field has no column.
        unwanted = {field for field, column in (options.columns or {}).items() if not column}
        by_field: dict[str, str | None] = {
            field: field for field in FIELDS if field not in mapping.values() and field not in unwanted
        }
        by_field.update(mapping)
        self._text_keys = tuple(by_field.get(field) for field in FIELDS[:3])
        self._id_key = by_field.get("custom_id")
        self._own_keys = frozenset((*self._text_keys, self._id_key))
        self._called = text_columns(mapping)
        self._known = set(columns)
        self._name_chars = sum(map(len, columns))
        self._limits = limits

    def broken(self, row_no: int, line: int, reason: str) -> FileRow:
        """A row that is no object."""
        problem = RowProblem(RowError.BROKEN_ROW, f"The row on line {line} cannot be read: {reason}.", None, line)
        return FileRow(row_no, "", "", "", None, {}, problem)

    def row(self, row_no: int, line: int, value: object, raw: str) -> FileRow:
        """Make a row of a parsed value. `raw` is its text, in which escapes that matter can be seen quickly."""
        if not isinstance(value, dict):
            return self.broken(row_no, line, "it is not a JSON object")
        if len(value) > self._limits.max_columns:
            return self.broken(row_no, line, f"it has {len(value)} keys, and the limit is {self._limits.max_columns}")
        if not self._known.issuperset(value):
            self._take_in(value)
        texts, custom_id, problem = self._fields(value, line)
        extra = {key: value[key] for key in value if key not in self._own_keys}
        # A NUL or half a surrogate pair can only come from an escape: the parser refuses the one, no decoder gives the
        # other. Few rows have escapes at all, and the texts of the others need not be searched one by one.
        suspicious = "\\u" in raw and _ESCAPED_UNSTORABLE.search(raw) is not None
        if suspicious:
            extra = {storable(key): storable_value(kept) for key, kept in extra.items()}
            custom_id = custom_id and storable(custom_id)
        if problem is None and (
            suspicious
            or len(texts[0]) + len(texts[1]) + len(texts[2]) > self._limits.max_text_chars
            or not (texts[0] and not texts[0].isspace())
        ):
            problem = problem_of(texts, self._limits.max_text_chars, line=line, names=self._called)
        if problem is not None:
            texts = storable_texts(texts, self._limits.max_text_chars)
        return FileRow(row_no, *texts, custom_id, extra, problem)

    def _take_in(self, keys: Iterable[str]) -> None:
        """Add the keys that are new to the columns. One that does not fit is kept in its row and named nowhere."""
        for key in keys:
            if key in self._known or not self._has_room_for(key) or not is_storable(key):
                continue
            self.columns += (key,)
            self._known.add(key)
            self._name_chars += len(key)
            if key in self._own_keys and key in FIELDS:
                # What is mapped by another name was among the columns before, so this is a field by its own name.
                self.mapping[key] = key

    def _has_room_for(self, key: str) -> bool:
        fits = len(key) <= MAX_NAME_CHARS and self._name_chars + len(key) <= self._limits.max_header_chars
        return fits and len(self.columns) < self._limits.max_columns

    def _fields(
        self, value: dict[str, object], line: int
    ) -> tuple[tuple[str, str, str], str | None, RowProblem | None]:
        texts: list[str] = []
        problem = None
        for key in self._text_keys:
            found = None if key is None else value.get(key)
            if key is not None and found is not None and not isinstance(found, str):
                problem = problem or _not_text(key, found, line)
            texts.append(found if isinstance(found, str) else "")
        custom_id = None if self._id_key is None else value.get(self._id_key)
        if isinstance(custom_id, int | float) and not isinstance(custom_id, bool):
            custom_id = str(custom_id)
        elif custom_id is not None and not isinstance(custom_id, str):
            problem = problem or _not_text(self._id_key or "", custom_id, line)
            custom_id = None
        return (texts[0], texts[1], texts[2]), custom_id or None, problem


def _not_text(key: str, value: object, line: int) -> RowProblem:
    kind = {bool: "true or false", int: "a number", float: "a number", list: "an array"}.get(type(value), "an object")
    name = storable(key[:200])
    return RowProblem(RowError.NOT_TEXT, f"{name} on line {line} is {kind}, and should be text.", name, line)


def storable_value(value: object) -> object:
    """Clean all texts within a JSON value, which is at most `Limits.max_depth` deep."""
    if isinstance(value, str):
        return value if is_storable(value) else storable(value)
    if isinstance(value, list):
        return [storable_value(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable_value(item) for key, item in value.items()}
    return value
