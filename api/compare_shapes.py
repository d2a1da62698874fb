"""The parameters and answers of a comparison of two jobs, as `api.shapes` has those of everything else."""

from pydantic import BaseModel, ConfigDict, Field

from api.shapes import IdPath


class ComparePath(IdPath):
    """The ids of two jobs."""

    other: str


class CompareQuery(BaseModel):
    """How many of the rows that changed stand beside the comparison."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=1000)


class SideOut(BaseModel):
    """One of two jobs that are compared."""

    id: str
    status: str
    model: str


class ComparedRowsOut(BaseModel):
    """Counts of rows: those that both jobs have computed are compared."""

    total: int
    compared: int
    same: int = Field(description="both models assign the same of the topics that both know")
    changed: int


class TopicAgreementOut(BaseModel):
    """One topic that both models know."""

    topic: str
    name: str
    name_en: str
    agreement: float | None = Field(description="share of the compared rows that both assign, or that neither does")
    both: int
    only_first: int
    only_second: int
    neither: int
    mean_difference: float | None = Field(description="mean of the absolute difference of the two probabilities")
    correlation: float | None = Field(description="Pearson's; null where one of the models always says the same")


class OutcomeOut(BaseModel):
    """What one model says of a row."""

    assigned: list[str]
    probabilities: dict[str, float]


class ChangedRowOut(BaseModel):
    """A row to which the models assign other topics, with the beginnings of its texts."""

    row: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    first: OutcomeOut
    second: OutcomeOut


class ChangedRowsOut(BaseModel):
    """A page of rows that changed, in file order."""

    items: list[ChangedRowOut]
    next: str | None = None


class ComparisonOut(ChangedRowsOut):
    """Two jobs of the same rows beside each other."""

    first: SideOut
    second: SideOut
    rows: ComparedRowsOut
    agreement: float | None = Field(description="share of the compared rows that are the same")
    topics: list[TopicAgreementOut]
    only_first: list[str] = Field(description="topics that only the first model knows; left out of the comparison")
    only_second: list[str]
