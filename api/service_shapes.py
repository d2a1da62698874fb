"""Bodies and answers that belong to nobody's text: topics, models, sessions, health. The rest is in `api.shapes`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.shapes import TopicOut


class TopicsOut(BaseModel):
    """The topics of the active model."""

    model: str
    items: list[TopicOut]


class ModelOut(BaseModel):
    """A registered model."""

    name: str
    version: str
    sha256: str
    active: bool
    registered_at: str
    topics: list[TopicOut]
    card: dict[str, Any]


class ModelsOut(BaseModel):
    """All registered models, the active one first."""

    items: list[ModelOut]


class SignInIn(BaseModel):
    """A key, to begin a session with."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=200)


class LimitsOut(BaseModel):
    """What the caller may do at most."""

    requests_per_minute: int | None = Field(description="null: as many as it likes")
    waiting_rows: int = Field(description="rows that may wait or be in work at once")
    waiting_explanations: int = Field(description="explanations that may wait or be in work at once")


class SessionOut(BaseModel):
    """Who the caller is."""

    auth: str = Field(description="keys or off")
    name: str = Field(description="of the key")
    owner: str = Field(description="whose texts and files these are")
    role: str = Field(description="user or admin")
    limits: LimitsOut


class HealthOut(BaseModel):
    """The process is up."""

    status: str


class ReadyOut(BaseModel):
    """Whether a text that is posted now will be computed soon, check by check."""

    status: str = Field(description="ready or not_ready")
    checks: dict[str, dict[str, Any]]
