"""The bodies, parameters and answers of the interface as pydantic models; the OpenAPI document is made of them."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from jobs.csv_lines import Decimal, Delimiter, Dialect
from jobs.states import JobState

CUSTOM_ID_CHARS = 200


def _written_out(value: object) -> object:
    """Pydantic would take a bare number for seconds since 1970, which nobody means."""
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("a date, or a time as RFC 3339")
    return value


Moment = Annotated[
    datetime,
    BeforeValidator(_written_out),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]

# What the code checks with a sentence of its own, said to who reads the document as well.
_WORDS: JsonDict = {"pattern": r"^[^\u0000]*$"}
_STATUS = "|".join(JobState)
_STATUSES: JsonDict = {"pattern": rf"^({_STATUS})?( *, *({_STATUS}))*$"}


class Strict(BaseModel):
    """Input: a name that is not known is an error, not something to overlook."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PostIn(Strict):
    """One post; at least one of its texts must not be empty."""

    text: str | None = Field(None, description="the same as doc_text, which must then be absent")
    doc_text: str | None = Field(None, description="what the author wrote")
    image2text: str | None = Field(None, description="text found in its picture (OCR)")
    speech2text: str | None = Field(None, description="text heard in its video (ASR)")
    custom_id: str | None = Field(None, max_length=CUSTOM_ID_CHARS, description="your own id, given back as it is")
    explain: bool = Field(False, description="say as well which words speak for each topic, and which against it")


class ClassificationsIn(PostIn):
    """One post, or `items` with up to a thousand of them."""

    items: list[PostIn] | None = Field(None, min_length=1, description="posts; no other field may stand beside it")


class RerunIn(Strict):
    """What to compute the rows of a file again with."""

    model: str | None = Field(
        None, max_length=200, description="`name`, `name@version` or `sha256`; none: the active model"
    )


class FeedbackIn(Strict):
    """What a person says is right."""

    topics: list[Annotated[str, Field(max_length=200)]] = Field(
        max_length=1000, description="ids of the right topics; empty: none of the topics"
    )


class RowPath(BaseModel):
    """A row of a file, counted from 1."""

    id: str
    row: int


class IdPath(BaseModel):
    """The id of a resource."""

    id: str


class NamePath(BaseModel):
    """Which model is meant."""

    name: str = Field(description="its name, `name@version`, or its `sha256`")


class PageQuery(BaseModel):
    """Where in a list to begin, and how much of it."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(None, max_length=500, description="from the `next` of the page before")
    limit: int = Field(50, ge=1, le=1000)


class PeriodQuery(BaseModel):
    """Which entries of a history are asked for; several conditions must all hold."""

    model_config = ConfigDict(extra="forbid")

    q: str | None = Field(
        None,
        max_length=200,
        description="words that all stand in the texts, `custom_id`, or name",
        json_schema_extra=_WORDS,
    )
    since: Moment | None = Field(None, description="accepted at this time or later: a date or RFC 3339; UTC")
    until: Moment | None = Field(None, description="accepted before this time")


class TextsFilter(PeriodQuery):
    """Which posted texts are asked for."""

    status: Literal["succeeded", "failed", "queued"] | None = Field(None, description="queued: nothing recorded yet")


class TextsQuery(TextsFilter, PageQuery):
    """A page of posted texts."""


class JobsFilter(PeriodQuery):
    """Which files are asked for."""

    status: str | None = Field(
        None, max_length=200, description="one status, or several joined by commas", json_schema_extra=_STATUSES
    )


class JobsQuery(JobsFilter, PageQuery):
    """A page of jobs."""


class CsvOptions(BaseModel):
    """How a CSV is written."""

    bom: int = Field(1, ge=0, le=1, description="CSV begins with a byte order mark, which Excel needs")
    raw: int = Field(0, ge=0, le=1, description="1: cells that look like formulas are left as they are")
    delimiter: Delimiter = Field("comma", description="what stands between cells; Excel in Russia expects a semicolon")
    decimal: Decimal = Field("point", description="what stands in numbers before their fraction")

    @property
    def dialect(self) -> Dialect:
        return Dialect(self.delimiter, self.decimal)


class TextsCsvQuery(TextsFilter, CsvOptions):
    """Posted texts as CSV."""


class JobsCsvQuery(JobsFilter, CsvOptions):
    """Files as CSV."""


class ThresholdsQuery(BaseModel):
    """Thresholds of the caller's own."""

    model_config = ConfigDict(extra="forbid")

    thresholds: str | None = Field(None, max_length=2000, description="assign anew: `sport:0.5,ads:0.3`")


class RowsQuery(ThresholdsQuery):
    """Which rows of a file are asked for; several conditions must all hold."""

    topic: str | None = Field(None, max_length=200, description="assigned this topic, or within the range given")
    min_probability: float | None = Field(None, ge=0, le=1, description="of `topic`, at least")
    max_probability: float | None = Field(None, ge=0, le=1, description="of `topic`, at most")
    assigned: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="assigned all of these, joined by `;` (other topics may be there as well); `none`: no topic at all",
    )
    q: str | None = Field(
        None,
        max_length=200,
        description="words that all stand in the texts or in `custom_id`",
        json_schema_extra=_WORDS,
    )
    status: Literal["succeeded", "failed", "queued"] | None = Field(None, description="queued: nothing recorded yet")


class ResultsQuery(RowsQuery, PageQuery):
    """A page of rows."""

    sort: str | None = Field(
        None,
        max_length=201,
        description="the id of a topic: by its probability, the least first; with a `-` before it, the most first. "
        "None: in file order",
    )


class ExportQuery(RowsQuery):
    """Which rows are written, and how they are assigned."""


class CsvQuery(ExportQuery, CsvOptions):
    """Rows as CSV."""


class TopicOut(BaseModel):
    """A topic of the active model."""

    id: str
    name: str
    name_en: str
    threshold: float = Field(description="a text whose probability is at least this is assigned to the topic")


class TopicProbability(BaseModel):
    """What the model says of one topic."""

    topic: str
    name: str
    name_en: str
    probability: float
    threshold: float
    assigned: bool


class RowErrorOut(BaseModel):
    """Why a text has no probabilities."""

    code: str
    message: str | None
    column: str | None


class PieceOut(BaseModel):
    """A piece of a text, and how much it speaks for a topic."""

    field: str = Field(description="doc_text, image2text or speech2text")
    start: int = Field(description="its first character in the field, counted in code points")
    end: int = Field(description="behind its last character")
    weight: float = Field(
        description="by how much the natural logarithm of the odds falls without it; below 0 it speaks against"
    )


Explained = dict[str, list[PieceOut]]
"""By topic, the pieces that the model has read, in the order of the text."""


class ReasonOut(BaseModel):
    """Why there is no explanation."""

    code: str
    message: str


class ExplanationOut(BaseModel):
    """What has become of the wish for an explanation."""

    id: str = Field(description="of the text")
    status: str = Field(description="queued, running, succeeded or failed")
    model: str | None
    asked_at: str
    finished_at: str | None
    explanation: Explained | None
    error: ReasonOut | None


class ClassificationOut(BaseModel):
    """A posted text and what became of it."""

    id: str
    status: str = Field(description="queued, running, succeeded, failed or cancelled")
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    model: str | None
    created_at: str
    finished_at: str | None
    truncated: bool = Field(description="the text was longer than the model reads")
    topics: list[TopicProbability] = Field(description="all topics, most probable first; empty until computed")
    assigned: list[str]
    error: RowErrorOut | None
    feedback: list[str] | None = Field(description="topics that a person gave it; null: nobody has judged it")
    explanation: Explained | None = Field(
        description="by topic, the pieces of the text that speak for or against it; null: not asked for, or not there"
    )
    explanation_error: ReasonOut | None = Field(description="why it was asked for and is not there")


class ClassificationsOut(BaseModel):
    """Posted texts: the answer to `items`, or a page of the history."""

    items: list[ClassificationOut]
    next: str | None = Field(None, description="link to the next page; absent on the last one")


class RowsOut(BaseModel):
    """Counts of committed rows."""

    total: int
    succeeded: int
    failed: int
    queued: int
    cached: int = Field(description="of those that succeeded, how many were known from an equal text seen before")


class JobOut(BaseModel):
    """An uploaded file and how far it is."""

    id: str
    status: str = Field(
        description="queued, running, succeeded, partially_succeeded, failed, cancelling or cancelled; "
        "the last one never changes",
    )
    filename: str | None
    model: str | None
    model_sha256: str | None = Field(description="of the model: a name and a version may be those of several")
    rows: RowsOut
    progress: float
    rows_per_second: float | None
    eta_seconds: int | None
    queue_position: int
    layout: dict[str, Any] = Field(description="format, encoding, delimiter, columns and mapping of the file")
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    links: dict[str, str]


class JobsOut(BaseModel):
    """A page of jobs, newest first."""

    items: list[JobOut]
    next: str | None = None


class RowOut(BaseModel):
    """A row of a file as it was sent."""

    row: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    columns: dict[str, Any]


class PreviewRow(RowOut):
    """A row as it would be read."""

    error: RowErrorOut | None


class PreviewError(RowErrorOut):
    """A row that could not be classified."""

    row: int


class PreviewOut(BaseModel):
    """How a file would be read, and its first rows."""

    format: str
    encoding: str | None = Field(description="null for formats that are no text")
    delimiter: str | None
    columns: list[str]
    mapping: dict[str, str] = Field(description="which column is which field")
    guessed: bool = Field(description="the column of texts was guessed from its name")
    sheet: str | None = Field(description="of a spreadsheet: the sheet that is read")
    sheets: list[str] = Field(description="of a spreadsheet: all of its sheets")
    rows: list[PreviewRow]
    errors: list[PreviewError]
