"""Traces of jobs, from the request that brought one to the last result, for a collector that speaks OpenTelemetry.

The trace of a job has the id of the job, which has as many bits as it needs, and the id of its first span follows from
that. So the API and all workers write into one trace, and nothing has to be carried from one to the other: not by
Redis, whose messages hold nothing, and not by the record. Whether a job is traced follows from its id as well.

With RUBRIKA_TRACES at 0 the libraries are not even imported.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol
from uuid import UUID

from jobs.errors import SettingsError
from jobs.settings import Settings

Attributes = Mapping[str, str | int | float]


class Traces(Protocol):
    """Where spans go. Times are nanoseconds since 1970; no call waits for the collector."""

    def accepted(self, job_id: UUID, begun: int, ended: int, attributes: Attributes, parent: str) -> None:
        """A request has made this job. `parent` is its `traceparent` header, empty for none: the trace links to it."""

    def computed(
        self, job_ids: Iterable[UUID], begun: int, ended: int, moments: Mapping[str, int], attributes: Attributes
    ) -> None:
        """A worker has recorded a claim with rows of these jobs; `moments` are what happened on the way."""

    def close(self) -> None:
        """Send what is left."""


class NoTraces:
    """Traces that nobody asked for."""

    def accepted(self, job_id: UUID, begun: int, ended: int, attributes: Attributes, parent: str) -> None:
        """Nothing."""

    def computed(
        self, job_ids: Iterable[UUID], begun: int, ended: int, moments: Mapping[str, int], attributes: Attributes
    ) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make_traces(settings: Settings, process: str) -> Traces:
    """The traces of one process (`api`, `worker`). After a fork, not before: they have a thread.

    Raises `SettingsError` when they are wanted and their library is missing.
    """
    if settings.traces == 0:
        return NoTraces()
    try:
        from jobs.otlp import OtlpTraces
    except ImportError as error:
        raise SettingsError(
            "RUBRIKA_TRACES must be 0 without OpenTelemetry: in a checkout "
            "`.venv/bin/pip install -c constraints.txt -e '.[traces]'` installs it."
        ) from error
    return OtlpTraces(settings.traces, process)
