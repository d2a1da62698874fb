"""Sums of what workers and sweepers have done, kept with the record, and what waits now: what `/metrics` shows of it.

They are added in the transaction that records what they count, so they are neither lost with a process nor counted
twice, and any API process shows the same ones. A row per worker and sum, so that a worker that freezes in the middle of
a transaction holds nobody else up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

from jobs.records import Outcome
from jobs.states import Lane

SWEEPER = "sweeper"
PAST = "past"
"""Whose sums those of workers that are gone are added to."""


class Meter(StrEnum):
    """The sums. Seconds are those of the clock, in threads that work beside each other."""

    ROWS_COMPUTED = "rows_computed"
    """Rows recorded with probabilities that the network has computed for them."""

    ROWS_CACHED = "rows_cached"
    """Rows recorded with the probabilities of an equal text."""

    ROWS_FAILED = "rows_failed"
    """Rows recorded as failed after they were given to a worker."""

    CLAIMS_FIRST = "claims_first"
    """Claims of chunks that nobody had begun on."""

    CLAIMS_AGAIN = "claims_again"
    """Claims of a chunk that a worker was lost with before."""

    BATCHES = "batches"
    """Batches that the network has computed."""

    TOKENS = "tokens"
    """Tokens of texts in them."""

    PADDING = "padding"
    """Tokens that only fill them up."""

    READ_SECONDS = "read_seconds"
    """Claiming chunks and reading their texts."""

    RECALL_SECONDS = "recall_seconds"
    """Looking into the cache of answers."""

    TOKENISE_SECONDS = "tokenise_seconds"
    """From texts to token ids."""

    NETWORK_SECONDS = "network_seconds"
    """From token ids to logits."""

    RECORD_SECONDS = "record_seconds"
    """Recording results; those of a claim are added with the next one."""

    SWEEPS = "sweeps"
    """Sweeps that were done, whatever they found."""

    LEASES_REQUEUED = "leases_requeued"
    """Leases that ran out, whose chunk waits again."""

    LEASES_SPLIT = "leases_split"
    """Leases that ran out for the third time, whose chunk was split."""

    LEASES_GIVEN_UP = "leases_given_up"
    """Leases that ran out on a single text, which was recorded as failed."""


@dataclass(frozen=True)
class Waiting:
    """What waits in a lane, and what of it workers hold; `oldest_seconds` is 0 when nothing waits."""

    queued_chunks: int
    queued_rows: int
    running_chunks: int
    running_rows: int
    oldest_seconds: float


@dataclass(frozen=True)
class Fleet:
    """How many live workers run a model on a device; those on trial do not count."""

    model: str
    device: str
    workers: int


@dataclass(frozen=True)
class Readings:
    """The sums of all sources, and how things are now. `swept_seconds` is the time since the last sweep, if any."""

    sums: Mapping[Meter, float]
    lanes: Mapping[Lane, Waiting]
    fleet: Sequence[Fleet]
    swept_seconds: float | None


def rows_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Outcomes that are recorded, as sums."""
    kinds = (
        Meter.ROWS_FAILED
        if outcome.probabilities is None
        else Meter.ROWS_CACHED
        if outcome.cached
        else Meter.ROWS_COMPUTED
        for outcome in outcomes
    )
    return {str(kind): float(rows) for kind, rows in Counter(kinds).items()}


def add(connection: Connection, source: str, amounts: Mapping[str, float]) -> None:
    """Add to the sums of a source, by their names, so that no two threads wait for each other in a circle."""
    given = {str(name): amount for name, amount in sorted(amounts.items()) if amount}
    if not given:
        return
    connection.execute(
        text("""
            INSERT INTO meters (source, name, value)
            SELECT :source, * FROM unnest(CAST(:names AS text[]), CAST(:amounts AS double precision[]))
            ON CONFLICT (source, name) DO UPDATE SET value = meters.value + excluded.value, updated_at = now()
        """),
        {"source": source, "names": list(given), "amounts": [float(amount) for amount in given.values()]},
    )


def fold(connection: Connection) -> None:
    """Add the sums of workers that are gone to those of the past, so that the table stays as small as the fleet.

    In one statement: whoever reads the totals meanwhile sees them before or after it. A worker that was taken for gone
    begins its sums anew.
    """
    connection.execute(
        text("""
            WITH gone AS (
                DELETE FROM meters WHERE source NOT IN (:sweeper, :past) AND source NOT IN (SELECT name FROM workers)
                RETURNING name, value
            )
            INSERT INTO meters (source, name, value) SELECT :past, name, sum(value) FROM gone GROUP BY name
            ON CONFLICT (source, name) DO UPDATE SET value = meters.value + excluded.value, updated_at = now()
        """),
        {"sweeper": SWEEPER, "past": PAST},
    )


def read(connection: Connection, *, alive_seconds: float) -> Readings:
    """Everything at one moment. Every sum and lane is there, also those that nothing was added to yet."""
    found = connection.execute(text("SELECT name, sum(value) AS value FROM meters GROUP BY name")).all()
    known = {row.name: row.value for row in found}
    return Readings(
        {meter: known.get(meter, 0.0) for meter in Meter},
        _lanes(connection),
        _fleet(connection, alive_seconds),
        swept_seconds(connection),
    )


def swept_seconds(connection: Connection) -> float | None:
    """Time since the last sweep of any sweeper; None when there never was one."""
    seconds: float | None = connection.execute(
        text("""
            SELECT extract(epoch FROM clock_timestamp() - max(updated_at))::float FROM meters
            WHERE source = :sweeper AND name = :sweeps
        """),
        {"sweeper": SWEEPER, "sweeps": str(Meter.SWEEPS)},
    ).scalar_one()
    return seconds


def _lanes(connection: Connection) -> dict[Lane, Waiting]:
    rows = connection.execute(
        text("""
            SELECT lane, count(*) FILTER (WHERE state = 'queued') AS queued_chunks,
                   coalesce(sum(row_count) FILTER (WHERE state = 'queued'), 0) AS queued_rows,
                   count(*) FILTER (WHERE state = 'running') AS running_chunks,
                   coalesce(sum(row_count) FILTER (WHERE state = 'running'), 0) AS running_rows,
                   coalesce(extract(epoch FROM now() - min(queued_at) FILTER (WHERE state = 'queued')), 0)::float
                       AS oldest_seconds
            FROM chunks WHERE state IN ('queued', 'running') GROUP BY lane
        """),
    )
    nothing = dict.fromkeys(Lane, Waiting(0, 0, 0, 0, 0.0))
    return nothing | {
        Lane(row.lane): Waiting(
            row.queued_chunks, row.queued_rows, row.running_chunks, row.running_rows, max(0.0, row.oldest_seconds)
        )
        for row in rows
    }


def _fleet(connection: Connection, alive_seconds: float) -> list[Fleet]:
    rows = connection.execute(
        text("""
            SELECT models.name || '@' || version AS model, device, count(*) AS workers
            FROM workers JOIN models ON models.id = model_id
            WHERE NOT trial AND seen_at > now() - make_interval(secs => :seconds) GROUP BY 1, 2 ORDER BY 1, 2
        """),
        {"seconds": alive_seconds},
    )
    return [Fleet(row.model, row.device, row.workers) for row in rows]
