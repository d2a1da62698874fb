"""The names of a file's columns, and which of them hold the texts.

Names lose surrounding white space and stray byte order marks. An unnamed column is called `column_N` after its place,
and a name that occurs again gets a number (`tag`, `tag_2`), so that each column can be named and given back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from api.files.errors import FileCode, UnreadableFile
from api.files.model import FIELDS, Limits
from api.files.rows import storable

MAX_NAME_CHARS = 200

MAX_NAMES_SHOWN = 500
"""So many names of columns go with a refusal, for a list to choose from."""

_NAMES = {
    "doc_text": ("doc_text", "text"),
    "image2text": ("image2text",),
    "speech2text": ("speech2text",),
    "custom_id": ("custom_id",),
}

_GUESSES = (
    *("post_text", "post", "message_text", "message", "content", "body", "full_text", "text_content", "plain_text"),
    *("текст", "текст_поста", "текст_сообщения", "текст_публикации", "пост", "сообщение", "публикация"),
    *("tweet", "caption", "comment", "description", "комментарий", "описание"),
)
"""Names that a column of texts is likely to have, the likeliest first."""


@dataclass(frozen=True)
class Mapped:
    """Which column is which of `FIELDS`, and whether the one of the texts was guessed."""

    mapping: Mapping[str, str]
    guessed: bool


def unique_names(header: Sequence[str], limits: Limits) -> tuple[str, ...]:
    """Return a name for each column, all different. Raises `UnreadableFile` for too many of them."""
    if len(header) > limits.max_columns:
        message = f"The file has {len(header)} columns; the limit is {limits.max_columns}."
        raise UnreadableFile(FileCode.TOO_MANY_COLUMNS, message)
    cleaned = [storable(name.strip().strip("\ufeff").strip()[:MAX_NAME_CHARS]) for name in header]
    taken = set(cleaned)
    names: list[str] = []
    given: set[str] = set()
    for place, name in enumerate(cleaned, 1):
        unique = name or f"column_{place}"
        if unique in given or (not name and unique in taken):
            unique = _numbered(unique, taken | given)
        given.add(unique)
        names.append(unique)
    if sum(map(len, names)) > limits.max_header_chars:
        message = f"The names of the columns are longer than {limits.max_header_chars} characters together."
        raise UnreadableFile(FileCode.TOO_MANY_COLUMNS, message)
    return tuple(names)


def map_columns(header: Sequence[str], names: Sequence[str], wanted: Mapping[str, str] | None) -> Mapped | None:
    """Decide which column is which field; None when none holds a text.

    `header` has the names as they stand in the file, `names` those of `unique_names`. The caller's word (`wanted`)
    comes first, then the names of the fields themselves, then, for the text, a guess; a field that the caller calls ""
    stays without a column. Raises `UnreadableFile` when the caller names a column that is not there, or when a name
    that decides occurs twice.
    """
    wanted = wanted or {}
    mapping = _as_wanted(names, {field: column for field, column in wanted.items() if column})
    open_fields = [field for field in FIELDS if wanted.get(field) != ""]
    keys = [_key(name) for name in header]
    for field in open_fields:
        for known in _NAMES[field]:
            if field not in mapping:
                _map_by_key(mapping, field, known, keys, names)
    guessed = False
    for guess in _GUESSES:
        if "doc_text" in open_fields and "doc_text" not in mapping:
            _map_by_key(mapping, "doc_text", guess, keys, names)
            guessed = "doc_text" in mapping
    if not mapping.keys() - {"custom_id"}:
        return None
    return Mapped({field: mapping[field] for field in FIELDS if field in mapping}, guessed)


def no_text_column(names: Sequence[str], line: int | None = None) -> UnreadableFile:
    """The refusal of a file without a known column of texts: it lists the columns and says how to name one."""
    shown = ", ".join(repr(name[:40]) for name in names[:20]) + (", ..." if len(names) > 20 else "")
    message = (
        "No column is called text, doc_text, image2text or speech2text, nor anything like it. "
        f'The columns are: {shown}. Name one with `columns`, for example {{"doc_text": "..."}}.'
    )
    error = UnreadableFile(FileCode.NO_TEXT_COLUMN, message, line=line)
    error.columns = tuple(names[:MAX_NAMES_SHOWN])
    return error


def _as_wanted(names: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for field, column in wanted.items():
        if field not in FIELDS:
            message = f"`columns` may name {', '.join(FIELDS)}, and has {field[:40]!r}."
            raise UnreadableFile(FileCode.UNKNOWN_FIELD, message)
        alike = [name for name in names if name == column] or [name for name in names if _key(name) == _key(column)]
        if not alike:
            shown = ", ".join(repr(name[:40]) for name in names[:20])
            message = f"`columns` says that {field} is {column[:40]!r}, and the columns are: {shown}."
            raise UnreadableFile(FileCode.MISSING_COLUMN, message, column=storable(column[:MAX_NAME_CHARS]))
        if len(alike) > 1 or alike[0] in mapping.values():
            message = f"The column {column[:40]!r} of `columns` is not one column for one field."
            raise UnreadableFile(FileCode.DUPLICATE_COLUMN, message, column=storable(column[:MAX_NAME_CHARS]))
        mapping[field] = alike[0]
    return mapping


def _map_by_key(mapping: dict[str, str], field: str, known: str, keys: Sequence[str], names: Sequence[str]) -> None:
    taken = set(mapping.values())
    found = [name for key, name in zip(keys, names, strict=True) if key == known and name not in taken]
    if len(found) > 1:
        message = f"The name {known!r} stands over {len(found)} columns: say which one is {field} with `columns`."
        raise UnreadableFile(FileCode.DUPLICATE_COLUMN, message, column=found[0])
    if found:
        mapping[field] = found[0]


def _key(name: str) -> str:
    """A name as it is compared: `Doc Text`, `doc-text` and `DOC_TEXT` are one."""
    return "_".join(name.strip().strip("\ufeff").casefold().replace("-", " ").replace("_", " ").split())


def _numbered(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
