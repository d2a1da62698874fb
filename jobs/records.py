"""What crosses the boundary between the store and those who use it: frozen, and without SQL or HTTP words."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from jobs.errors import NotFoundError
from jobs.states import ExplanationState, JobKind, JobState


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. Sorts by time of creation."""
    stamp = time.time_ns() // 1_000_000
    value = (stamp << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


_TEXT_ID = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,8})")


def text_id(job_id: UUID, row_no: int) -> str:
    """The public id of one text of a job."""
    return f"{job_id.hex}-{row_no}"


def parse_text_id(value: str) -> tuple[UUID, int]:
    """The job and the row of a public id. Raises `NotFoundError` for anything that is not one."""
    match = _TEXT_ID.fullmatch(value)
    if match is None:
        raise NotFoundError("There is no such classification.")
    return UUID(match[1]), int(match[2])


def parse_job_id(value: str) -> UUID:
    """The id of a job. Raises `NotFoundError` for anything that is not one."""
    if re.fullmatch(r"[0-9a-f]{32}", value) is None:
        raise NotFoundError("There is no such job.")
    return UUID(value)


class NewText(NamedTuple):
    """A post on its way in. `error_code` is set for a row that was read but cannot be given to a model.

    A tuple, because one is made for each of millions of rows, and a frozen dataclass takes three times as long.
    """

    doc_text: str
    image2text: str
    speech2text: str
    custom_id: str | None = None
    extra: Mapping[str, Any] | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_column: str | None = None
    explain: bool = False
    """Whether its explanation is asked for together with it."""


@dataclass(frozen=True)
class Idempotency:
    """A client's `Idempotency-Key` and the SHA-256 of what it sent with it.

    A fingerprint that is known only when the body was read to its end is a function, called then.
    """

    key: str
    fingerprint: str | Callable[[], str]

    def read(self) -> str:
        """The fingerprint; reads what is left of the body where that is needed."""
        return self.fingerprint if isinstance(self.fingerprint, str) else self.fingerprint()


@dataclass(frozen=True)
class NewJob:
    """What is known of a job before its rows are read. A layout that is complete only then is a function."""

    owner: str
    kind: JobKind
    filename: str | None = None
    layout: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    idempotency: Idempotency | None = None
    max_waiting: int | None = None
    """How many rows of its owner may wait when it is there; None: whoever makes it has looked at that."""
    max_explanations: int | None = None
    """How many explanations of its owner may wait when it is there."""

    def read_layout(self) -> Mapping[str, Any]:
        """The layout, asked for when the rows were read."""
        return self.layout() if callable(self.layout) else self.layout


@dataclass(frozen=True)
class Topic:
    """One topic of a model: texts whose probability is at least `threshold` are assigned to it."""

    id: str
    name: str
    name_en: str
    threshold: float


@dataclass(frozen=True)
class Model:
    """A registered model; `topics` are in the order of its probabilities."""

    id: int
    name: str
    version: str
    sha256: str
    topics: tuple[Topic, ...]
    card: Mapping[str, Any]
    active: bool
    registered_at: datetime
    folder: str | None = None
    """Where it was last loaded from, on the machine that did so."""

    @property
    def label(self) -> str:
        """How the interface names it: `rubrika-small@1.0.0`."""
        return f"{self.name}@{self.version}"

    def is_called(self, name: str) -> bool:
        """Whether somebody means this model by `name`: its name, its label, or its `sha256`."""
        return name in {self.name, self.label, self.sha256}


@dataclass(frozen=True)
class Chunk:
    """A run of rows that a worker holds."""

    job_id: UUID
    day: date
    first_row: int
    row_count: int
    attempts: int


@dataclass(frozen=True)
class Claim:
    """What one claim gave a worker: its lease token, and the chunks that are recorded together under it."""

    lease: UUID
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class ClaimedText:
    """A text as a worker reads it."""

    job_id: UUID
    day: date
    row_no: int
    doc_text: str
    image2text: str
    speech2text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker records for a text: probabilities in the order of the model's topics, or an error.

    `cached` says that they were known from an equal text.
    """

    text: ClaimedText
    probabilities: Sequence[float] | None
    truncated: bool = False
    error_code: str | None = None
    error_message: str | None = None
    cached: bool = False


@dataclass(frozen=True)
class Job:
    """A job as its owner sees it. Counts are of committed rows."""

    id: UUID
    day: date
    owner: str
    kind: JobKind
    state: JobState
    filename: str | None
    layout: Mapping[str, Any]
    model_id: int | None
    rows_total: int
    rows_succeeded: int
    rows_failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    rows_cached: int = 0
    rows_per_second: float | None = None
    queue_position: int = 0


class Piece(NamedTuple):
    """A piece of a text that an explanation weighs: from `start` to before `end` in a field, in code points."""

    field: str
    start: int
    end: int


@dataclass(frozen=True)
class Explanation:
    """What has become of the wish to know which words speak for the topics of a text.

    `weights` has a tuple for each topic of the model, in its order, with the weight of each of `pieces`; both are None
    until they are found, and for ever when there is an error.
    """

    state: ExplanationState
    with_text: bool
    asked_at: datetime
    finished_at: datetime | None = None
    pieces: tuple[Piece, ...] | None = None
    weights: tuple[tuple[float, ...], ...] | None = None
    error_code: str | None = None
    error_message: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is still to come."""
        return self.state is not ExplanationState.DONE


@dataclass(frozen=True)
class ExplanationClaim:
    """A text that a worker shall explain, under a lease."""

    lease: UUID
    text: ClaimedText


@dataclass(frozen=True)
class Row:
    """A text with what is recorded for it so far."""

    job_id: UUID
    row_no: int
    doc_text: str
    image2text: str
    speech2text: str
    custom_id: str | None
    extra: Mapping[str, Any]
    model_id: int | None
    probabilities: tuple[float, ...] | None
    truncated: bool
    error_code: str | None
    error_message: str | None
    error_column: str | None
    feedback: tuple[str, ...] | None = None
    """The topics that a person gave it; none: nobody has judged it."""
    explanation: Explanation | None = None
    """Of a posted text; none: nobody has asked for it."""

    @property
    def is_settled(self) -> bool:
        """Whether everything that was asked for together with the text is recorded."""
        if self.error_code is not None:
            return True
        explained = self.explanation is None or not self.explanation.with_text or not self.explanation.is_open
        return self.probabilities is not None and explained


@dataclass(frozen=True)
class Sweep:
    """What one sweep did, and how much is still waiting: chunks and explanations, and seconds since the oldest
    chunk was queued."""

    requeued: int
    split: int
    given_up: int
    waiting: int
    oldest_waiting_seconds: float | None
    settled: tuple[UUID, ...]
