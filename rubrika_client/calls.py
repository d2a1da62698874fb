"""Requests and their answers without a network: what is sent for each operation, and how its answer is read."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

from rubrika_client import resources
from rubrika_client.decoding import decode
from rubrika_client.errors import ArgumentError, BadAnswerError
from rubrika_client.resources import Classification, Job, Post

T = TypeVar("T")

V1 = "/api/v1"
MAX_WAIT_SECONDS = 60
"""The longest that the service holds a request."""

Format = Literal["csv", "ndjson", "json", "xlsx", "parquet"]
MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}
FORMATS = tuple(MEDIA_TYPES)

Delimiter = Literal["comma", "semicolon", "tab"]
"""What stands between the cells of a CSV."""
Decimal = Literal["point", "comma"]
"""What stands in a number of a CSV before its fraction."""

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_KEY_CHARS = 255
MAKING_SECONDS = 900.0
"""The longest that a new job may take to be there: its rows are read, or copied, before the answer."""
ANSWER_SECONDS = 30.0
"""The longest that most answers may take."""
COUNTING_SECONDS = 150.0
"""The longest that counting or sorting the rows of a job may take: the service itself gives up after two minutes."""


@dataclass(frozen=True)
class Form:
    """A file to send. `open` gives it anew from its beginning for each attempt; `fields` stand before it."""

    open: Callable[[], BinaryIO]
    filename: str
    fields: Mapping[str, str]
    sent: Callable[[int], object] | None = None


@dataclass(frozen=True)
class Sink:
    """Where the body of an answer goes, block by block; an attempt that follows a broken one begins it anew."""

    file: BinaryIO
    received: Callable[[int], object] | None = None

    def begin(self) -> Callable[[bytes], None]:
        """Begin anew; what to call with each block."""
        self.file.seek(0)
        self.file.truncate()

        def write(block: bytes) -> None:
            self.file.write(block)
            if self.received is not None:
                self.received(self.file.tell())

        return write


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        form: a file that is sent.
        sink: where the body of a good answer goes; `read` is then given None.
        read: makes the result of the JSON of the answer; None stands for an empty body.
        patience: seconds that the answer may take.
        also: statuses besides those from 200 to 299 that are an answer.
        media_type: what an answer must be; None where its JSON shows that.
        removes: it takes something away, so that 404 after an attempt that may have reached the service is success.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = None
    sink: Sink | None = None
    patience: float = ANSWER_SECONDS
    also: frozenset[int] = frozenset()
    media_type: str | None = None
    removes: bool = False


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a list, and the request for the next one."""

    items: tuple[T, ...]
    following: "Call[Page[T]] | None"


def given(**values: Any) -> dict[str, Any]:
    """Those that are given."""
    return {name: value for name, value in values.items() if value is not None}


def thresholds_text(thresholds: Mapping[str, float] | None) -> str | None:
    """`sport:0.5,ads:0.3`; None without any."""
    return ",".join(f"{topic}:{value}" for topic, value in (thresholds or {}).items()) or None


def one(kind: type[T]) -> Callable[[Any], T]:
    """Read a single resource."""
    return lambda body: decode(kind, body)


def nothing(_: Any) -> None:
    """Read an answer without a body."""


def page_of(
    kind: type[T], path: str, params: Mapping[str, Any], *, patience: float = ANSWER_SECONDS
) -> "Call[Page[T]]":
    """A page of a list. `next` of the service leads to the following one as it is."""

    def read(body: Any) -> Page[T]:
        try:
            items, following = body["items"], body.get("next")
        except (TypeError, KeyError, AttributeError) as error:
            raise BadAnswerError("The answer is no list that this client can read.") from error
        if following and not str(following).startswith(f"{V1}/"):
            # It would be followed with the key in hand.
            raise BadAnswerError("The list goes on at another service.")
        call = Call("GET", following, read, patience=patience) if following else None
        return Page(tuple(decode(kind, item) for item in items), call)

    return Call("GET", path, read, params, patience=patience)


# --- texts ------------------------------------------------------------------------------------------------------------


def classify(posts: Sequence[Post], *, wait: float, explain: bool, key: str | None) -> Call[tuple[Classification, ...]]:
    """Post up to as many texts as the service takes in one request; the answers are in their order."""
    more = {"explain": True} if explain else {}
    items = [{**given(**{name: value for name, value in vars(post).items() if value != ""}), **more} for post in posts]
    body = items[0] if len(items) == 1 else {"items": items}
    headers = keyed(key)
    held = min(round(wait), MAX_WAIT_SECONDS)
    if held > 0:
        headers["Prefer"] = f"wait={held}"

    def read(answer: Any) -> tuple[Classification, ...]:
        found = answer["items"] if isinstance(answer, dict) and "items" in answer else [answer]
        return tuple(decode(Classification, item) for item in found)

    path = f"{V1}/classifications"
    return Call("POST", path, read, body=body, headers=headers, patience=ANSWER_SECONDS + held)


def classification(text_id: str) -> Call[Classification]:
    return Call("GET", f"{V1}/classifications/{_id(text_id)}", one(Classification))


def classifications(**wanted: Any) -> Call[Page[Classification]]:
    return page_of(Classification, f"{V1}/classifications", given(**wanted))


def judge_text(text_id: str, topics: Sequence[str]) -> Call[Classification]:
    path = f"{V1}/classifications/{_id(text_id)}/feedback"
    return Call("POST", path, one(Classification), body={"topics": list(topics)})


# --- files ------------------------------------------------------------------------------------------------------------


def upload(form: Form, *, key: str | None) -> Call[Job]:
    """Send a file. The service reads it to its end before it answers, which may take minutes."""
    return Call("POST", f"{V1}/jobs", one(Job), headers=keyed(key), form=form, patience=MAKING_SECONDS)


def preview(form: Form) -> Call[resources.Preview]:
    return Call("POST", f"{V1}/jobs/preview", one(resources.Preview), form=form, patience=120.0)


def options(
    name: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    columns: Mapping[str, str] | None = None,
    sheet: str | None = None,
    on_error: str | None = None,
) -> dict[str, str]:
    """How a file is to be read, as fields of a form."""
    written = json.dumps(dict(columns), ensure_ascii=False) if columns else None
    return given(
        name=name, encoding=encoding, delimiter=delimiter, columns=written, sheet=sheet, on_error=on_error
    )  # fmt: skip


def job(job_id: str) -> Call[Job]:
    return Call("GET", _job(job_id), one(Job))


def jobs(**wanted: Any) -> Call[Page[Job]]:
    return page_of(Job, f"{V1}/jobs", given(**wanted))


def cancel(job_id: str) -> Call[Job]:
    return Call("POST", f"{_job(job_id)}/cancel", one(Job))


def retry(job_id: str, *, key: str | None) -> Call[Job]:
    return Call("POST", f"{_job(job_id)}/retry", one(Job), headers=keyed(key), patience=MAKING_SECONDS)


def rerun(job_id: str, model: str | None, *, key: str | None) -> Call[Job]:
    path, body = f"{_job(job_id)}/rerun", given(model=model)
    return Call("POST", path, one(Job), body=body, headers=keyed(key), patience=MAKING_SECONDS)


def delete(job_id: str) -> Call[None]:
    return Call("DELETE", _job(job_id), nothing, removes=True)


def results(job_id: str, **wanted: Any) -> Call[Page[resources.Row]]:
    return page_of(resources.Row, f"{_job(job_id)}/results", given(**wanted), patience=COUNTING_SECONDS)


def summary(job_id: str, thresholds: Mapping[str, float] | None) -> Call[resources.Summary]:
    params = given(thresholds=thresholds_text(thresholds))
    return Call("GET", f"{_job(job_id)}/summary", one(resources.Summary), params, patience=COUNTING_SECONDS)


def compare(first: str, second: str, limit: int) -> Call[resources.Comparison]:
    path, read = f"{_job(first)}/compare/{_id(second)}", one(resources.Comparison)
    return Call("GET", path, read, {"limit": limit}, patience=COUNTING_SECONDS)


def changed_rows(first: str, second: str) -> Call[Page[resources.ChangedRow]]:
    path = f"{_job(first)}/compare/{_id(second)}/rows"
    return page_of(resources.ChangedRow, path, {"limit": 1000}, patience=COUNTING_SECONDS)


def judge_row(job_id: str, row: int, topics: Sequence[str]) -> Call[resources.Row]:
    path = f"{_job(job_id)}/rows/{row}/feedback"
    return Call("POST", path, one(resources.Row), body={"topics": list(topics)})


def events(job_id: str) -> Call[None]:
    """The changes of a job, as they come; not to be read as a whole."""
    return Call("GET", f"{_job(job_id)}/events", nothing, media_type="text/event-stream")


def export(job_id: str, form: Format, sink: Sink, **wanted: Any) -> Call[None]:
    """All rows as a file."""
    path, media_type = f"{_job(job_id)}/results.{form}", MEDIA_TYPES[form]
    return Call("GET", path, nothing, given(**wanted), sink=sink, patience=300.0, media_type=media_type)


# --- the service ------------------------------------------------------------------------------------------------------


def topics() -> Call[resources.Topics]:
    return Call("GET", f"{V1}/topics", one(resources.Topics))


def models() -> Call[Page[resources.Model]]:
    return page_of(resources.Model, f"{V1}/models", {})


def model(name: str) -> Call[resources.Model]:
    return Call("GET", f"{V1}/models/{_id(name)}", one(resources.Model))


def ready() -> Call[resources.Readiness]:
    """503 is an answer of this one: the checks that are not good stand in it."""
    return Call("GET", f"{V1}/readyz", one(resources.Readiness), also=frozenset({503}))


def health() -> Call[None]:
    return Call("GET", f"{V1}/healthz", nothing)


def _id(text: str) -> str:
    return quote(text, safe="")


def _job(job_id: str) -> str:
    return f"{V1}/jobs/{_id(job_id)}"


def keyed(key: str | None) -> dict[str, str]:
    """The header under which a request may be repeated; without a key it is a new one. Raises `ArgumentError`."""
    named = (key or str(uuid4())).strip()
    if not 0 < len(named) <= MAX_KEY_CHARS or not is_printable_ascii(named):
        raise ArgumentError(f"An idempotency key has 1 to {MAX_KEY_CHARS} characters of printable ASCII.")
    return {IDEMPOTENCY_KEY: named}


def is_printable_ascii(text: str) -> bool:
    """Whether it may stand in a header."""
    return text.isascii() and text.isprintable()
