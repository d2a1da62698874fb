"""What the service answers with, as frozen dataclasses. A test holds every field to the OpenAPI document.

Times are aware datetimes in UTC. A field that a newer service has added is left out, and one that an older service does
not know yet has its default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
"""An object of JSON whose keys are the caller's or the model's own."""

TERMINAL = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled"})


@dataclass(frozen=True)
class Post:
    """A post to classify; at least one of its texts must not be empty."""

    doc_text: str = ""
    image2text: str = ""
    speech2text: str = ""
    custom_id: str | None = None


@dataclass(frozen=True)
class RowError:
    """Why a text has no probabilities; docs/api.md explains the codes."""

    code: str
    message: str | None
    column: str | None


@dataclass(frozen=True)
class Reason:
    """Why there is no explanation of a text."""

    code: str
    message: str


# --- texts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TopicProbability:
    """What the model says of one topic."""

    topic: str
    name: str
    name_en: str
    probability: float
    threshold: float
    assigned: bool


@dataclass(frozen=True)
class Classification:
    """A posted text and what became of it. `topics` has all topics, most probable first; it is empty until computed."""

    id: str
    status: str
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    model: str | None
    created_at: datetime
    finished_at: datetime | None
    truncated: bool
    topics: tuple[TopicProbability, ...]
    assigned: tuple[str, ...]
    error: RowError | None
    feedback: tuple[str, ...] | None
    explanation: Any = None
    """Which pieces of text speak for a topic, where that was asked for, as the service gives it."""
    explanation_error: Reason | None = None
    """Why an explanation that was asked for is not there."""

    @property
    def is_finished(self) -> bool:
        """Whether the status is a last one."""
        return self.status in TERMINAL

    def probability(self, topic: str) -> float | None:
        """The probability of this topic; None while it is not computed, and for a topic that the model lacks."""
        return next((one.probability for one in self.topics if one.topic == topic), None)


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowCounts:
    """Counts of recorded rows; `cached` are those that were known from an equal text seen before."""

    total: int
    succeeded: int
    failed: int
    queued: int
    cached: int


@dataclass(frozen=True)
class Job:
    """An uploaded file and how far it is. `progress` goes from 0 to 1."""

    id: str
    status: str
    filename: str | None
    model: str | None
    rows: RowCounts
    progress: float
    rows_per_second: float | None
    eta_seconds: int | None
    queue_position: int
    layout: Json
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    links: Mapping[str, str]
    model_sha256: str | None = None
    """Of the model: a name and a version may be those of several."""

    @property
    def is_finished(self) -> bool:
        """Whether the status is a last one, which never changes."""
        return self.status in TERMINAL


@dataclass(frozen=True)
class Row:
    """A row of a file with its results; `columns` are the other columns of the file."""

    row: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    columns: Json
    status: str
    probabilities: Mapping[str, float] | None
    assigned: tuple[str, ...]
    truncated: bool
    error: RowError | None
    feedback: tuple[str, ...] | None
    model: str | None = None
    """Which one has read it; another than that of the job where a new one was activated meanwhile."""


@dataclass(frozen=True)
class PreviewRow:
    """A row as it would be read."""

    row: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    columns: Json
    error: RowError | None


@dataclass(frozen=True)
class PreviewError(RowError):
    """A row that could not be classified."""

    row: int


@dataclass(frozen=True)
class Preview:
    """How a file would be read, and its first rows."""

    format: str
    encoding: str | None
    delimiter: str | None
    columns: tuple[str, ...]
    mapping: Mapping[str, str]
    guessed: bool
    sheet: str | None
    sheets: tuple[str, ...]
    rows: tuple[PreviewRow, ...]
    errors: tuple[PreviewError, ...]


@dataclass(frozen=True)
class TopicSummary:
    """One topic over all computed rows; `histogram` has 20 equal bins from 0 to 1. `threshold` is that of the model."""

    topic: str
    assigned: int
    mean_probability: float | None
    histogram: tuple[int, ...]
    name: str = ""
    name_en: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Pair:
    """How many rows two topics are assigned to together."""

    topics: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Failures:
    """How many rows failed for one reason, and the numbers of a few of them."""

    code: str
    rows: int
    examples: tuple[int, ...]


@dataclass(frozen=True)
class OtherModel:
    """How many rows of a file another model has computed."""

    model: str
    model_sha256: str
    rows: int


@dataclass(frozen=True)
class Summary:
    """A file as a whole, as far as `model` has computed it; that is None while no model has begun on it."""

    model: str | None
    computed: int
    none_assigned: int
    truncated: int
    topics: tuple[TopicSummary, ...]
    pairs: tuple[Pair, ...]
    failures: tuple[Failures, ...]
    model_sha256: str | None = None
    other_models: tuple[OtherModel, ...] = ()
    """Models that have computed rows which are not counted here."""


# --- two jobs beside each other ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """One of two jobs that are compared."""

    id: str
    status: str
    model: str


@dataclass(frozen=True)
class ComparedRows:
    """Counts of rows: those that both jobs have computed are compared."""

    total: int
    compared: int
    same: int
    changed: int


@dataclass(frozen=True)
class TopicAgreement:
    """One topic that both models know. `agreement` is a share; `correlation` is Pearson's."""

    topic: str
    name: str
    name_en: str
    agreement: float | None
    both: int
    only_first: int
    only_second: int
    neither: int
    mean_difference: float | None
    correlation: float | None


@dataclass(frozen=True)
class Outcome:
    """What one model says of a row."""

    assigned: tuple[str, ...]
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class ChangedRow:
    """A row to which the models assign other topics, with the beginnings of its texts."""

    row: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    first: Outcome
    second: Outcome


@dataclass(frozen=True)
class Comparison:
    """Two jobs of the same rows beside each other, and the first rows on which they differ."""

    first: Side
    second: Side
    rows: ComparedRows
    agreement: float | None
    topics: tuple[TopicAgreement, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    items: tuple[ChangedRow, ...]


# --- the service ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Topic:
    """A topic of a model; a text whose probability is at least `threshold` is assigned to it."""

    id: str
    name: str
    name_en: str
    threshold: float


@dataclass(frozen=True)
class Topics:
    """The topics of the active model, in its own order."""

    model: str
    items: tuple[Topic, ...]


@dataclass(frozen=True)
class Model:
    """A registered model with its card."""

    name: str
    version: str
    sha256: str
    active: bool
    registered_at: datetime
    topics: tuple[Topic, ...]
    card: Json = field(repr=False)


@dataclass(frozen=True)
class Readiness:
    """Whether a text that is posted now will be computed soon, check by check."""

    status: str
    checks: Mapping[str, Json]

    @property
    def is_ready(self) -> bool:
        """Whether every check is good."""
        return self.status == "ready"
