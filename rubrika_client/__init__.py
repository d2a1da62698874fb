"""A client of Rubrika for Python programs: `Client` and `AsyncClient`. See docs/client.md.

It depends on httpx2 alone and imports nothing else of Rubrika, so that it can be installed by itself.
"""

from rubrika_client.aio import AsyncClient
from rubrika_client.errors import (
    ArgumentError,
    BadAnswerError,
    BusyError,
    ConflictError,
    InvalidError,
    KeyRefusedError,
    NoAnswerError,
    NotFoundError,
    ProblemError,
    ServiceError,
    TooLargeError,
    UnavailableError,
)
from rubrika_client.flows import Retry
from rubrika_client.resources import (
    ChangedRow,
    Classification,
    Comparison,
    Job,
    Model,
    Post,
    Preview,
    Readiness,
    Row,
    RowError,
    Summary,
    Topic,
    TopicProbability,
    Topics,
)
from rubrika_client.sync import Client

__all__ = [
    "ArgumentError",
    "AsyncClient",
    "BadAnswerError",
    "BusyError",
    "ChangedRow",
    "Classification",
    "Client",
    "Comparison",
    "ConflictError",
    "InvalidError",
    "Job",
    "KeyRefusedError",
    "Model",
    "NoAnswerError",
    "NotFoundError",
    "Post",
    "Preview",
    "ProblemError",
    "Readiness",
    "Retry",
    "Row",
    "RowError",
    "ServiceError",
    "Summary",
    "TooLargeError",
    "Topic",
    "TopicProbability",
    "Topics",
    "UnavailableError",
]
