"""What came of a file, as its rows and its summary give it; the rest is in `api.shapes`."""

from pydantic import BaseModel, ConfigDict, Field

from api.shapes import RowErrorOut, RowOut


class ResultOut(RowOut):
    """A row of a file with its results."""

    status: str = Field(description="queued, running, succeeded, failed or cancelled")
    model: str | None = Field(description="which one has read it, as `name@version`; null: none has")
    probabilities: dict[str, float] | None
    assigned: list[str]
    truncated: bool
    error: RowErrorOut | None
    feedback: list[str] | None = Field(description="topics that a person gave it; null: nobody has judged it")


class TopicSummaryOut(BaseModel):
    """One topic over all computed rows."""

    topic: str = Field(description="its id")
    name: str
    name_en: str
    threshold: float = Field(description="of the model; `assigned` follows those of the request where it has some")
    assigned: int
    mean_probability: float | None
    histogram: list[int] = Field(description="rows by probability, in 20 equal bins from 0 to 1")


class PairOut(BaseModel):
    """How many rows two topics are assigned to together."""

    topics: list[str]
    rows: int


class FailuresOut(BaseModel):
    """How many rows failed for one reason."""

    code: str
    rows: int
    examples: list[int] = Field(description="the first of these rows, as far as they were found quickly")


class OtherModelOut(BaseModel):
    """Rows of the file that another model has computed."""

    model: str
    model_sha256: str
    rows: int


class SummaryOut(BaseModel):
    """The rows that one model has computed of a file, so far; and how many others have."""

    model: str | None = Field(description="null, and no topics, while no model has begun on the file")
    model_sha256: str | None = Field(description="of the model: a name and a version may be those of several")
    computed: int = Field(description="rows that this model has computed; all other figures are of these")
    none_assigned: int = Field(description="rows on none of the topics")
    truncated: int
    topics: list[TopicSummaryOut]
    pairs: list[PairOut]
    failures: list[FailuresOut] = Field(description="of the file, whatever model")
    other_models: list[OtherModelOut] = Field(
        description="models that have computed rows of the file which are not counted here, the most rows first"
    )


class SearchedOut(BaseModel):
    """The rows that were looked at for a page, the first and the last."""

    model_config = ConfigDict(validate_by_name=True)

    from_: int = Field(alias="from")
    to: int


class ResultsOut(BaseModel):
    """A page of rows, in file order unless another was asked for."""

    items: list[ResultOut]
    next: str | None = Field(None, description="absent when all rows were searched, and only then")
    searched: SearchedOut
