"""States of jobs, chunks and explanations (drawn in `docs/states.md`), the lanes in which chunks wait, and roles."""

from enum import IntEnum, StrEnum


class JobKind(StrEnum):
    """Where the texts of a job came from."""

    TEXTS = "texts"
    """Posted as JSON to `/classifications`: one text, or up to a thousand."""

    FILE = "file"
    """Uploaded as a file to `/jobs`."""


class Role(StrEnum):
    """What the holder of a key may do."""

    USER = "user"
    """Everything with what belongs to the key's owner, and nothing with anybody else's."""

    ADMIN = "admin"
    """The same, and a look at the service itself: its metrics, its workers and its queue. Nobody else's texts."""


class JobState(StrEnum):
    """A job as its owner sees it. A terminal state never changes."""

    QUEUED = "queued"
    """Accepted and recorded; no worker has begun."""

    RUNNING = "running"
    """At least one chunk was claimed by a worker."""

    SUCCEEDED = "succeeded"
    """Every row has probabilities."""

    PARTIALLY_SUCCEEDED = "partially_succeeded"
    """Every row is recorded, some of them as failed with a reason."""

    FAILED = "failed"
    """Every row is recorded, all of them as failed with a reason."""

    CANCELLING = "cancelling"
    """Nothing more will be claimed; chunks that workers hold are being finished."""

    CANCELLED = "cancelled"
    """The owner stopped it; rows that were finished before keep their results."""


TERMINAL_STATES = frozenset(
    {JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED, JobState.FAILED, JobState.CANCELLED},
)


class ChunkState(StrEnum):
    """A run of rows of one job that a worker claims, computes and records as one."""

    QUEUED = "queued"
    """Waiting for a worker."""

    RUNNING = "running"
    """Held by the worker whose lease token it carries, until `lease_until`."""

    DONE = "done"
    """Every row of it has a recorded result or a recorded error."""

    CANCELLED = "cancelled"
    """The job was cancelled before a worker got to it."""


class Lane(IntEnum):
    """Lower numbers are served first."""

    INTERACTIVE = 0
    """Somebody is waiting in front of a page or a held request."""

    BULK = 1
    """Files, and batches that nobody holds a request for."""


class ExplanationState(StrEnum):
    """What has become of the wish to know which words speak for the topics of a text."""

    WAITING = "waiting"
    """Asked for together with a text that is not classified yet."""

    QUEUED = "queued"
    """The text is classified; waiting for a worker with the model that did it."""

    RUNNING = "running"
    """Held by the worker whose lease token it carries, until `lease_until`."""

    DONE = "done"
    """The weights are recorded, or why there are none."""


class ExplanationError(StrEnum):
    """Why a text has no explanation although somebody asked. Codes are part of the interface: clients compare them."""

    NOT_CLASSIFIED = "not_classified"
    """The text has no probabilities, so there is nothing to explain."""

    FAILED = "explanation_failed"
    """The model failed on the text without some of its words."""

    WORKER_LOST = "explainer_lost"
    """Every worker that tried died or hung. The classification stands."""

    MODEL_GONE = "model_gone"
    """No worker runs the model any more that classified the text."""

    STOPPED = "stopped"
    """The job was stopped before its turn came."""


class RowError(StrEnum):
    """Why a row has no probabilities. Codes are part of the interface: clients compare them."""

    EMPTY = "empty_text"
    """All three fields are empty or only white space."""

    TOO_LONG = "text_too_long"
    """The fields together are longer than `RUBRIKA_MAX_TEXT_CHARS`."""

    INVALID_CHARACTERS = "invalid_characters"
    """A NUL or a lone surrogate, which no text may contain."""

    BROKEN_ROW = "broken_row"
    """The line of the file cannot be read as a row; the message says what is wrong with it."""

    NOT_TEXT = "not_text"
    """A field holds something other than text (an object, a list, a number where text is expected)."""

    WORKER_LOST = "worker_lost"
    """Every worker that read this text died or hung; it was tried alone before giving up."""

    MODEL_FAILED = "model_failed"
    """The classifier raised an error for this text alone."""
