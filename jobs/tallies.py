"""Running sums over the results of a job, added in the transaction that records them.

With them a summary reads one row for each model instead of a million results. Who calls these functions holds the locks
on the jobs (`store.count_rows` takes them), so that two workers add one after the other.

numpy counts, and is imported when it does: in a worker, which has it, and not in the API or the sweeper.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from jobs.filtering import float32
from jobs.records import Outcome

BINS = 20
"""Equal bins of a histogram of probabilities, from 0 to 1."""

_COUNTS = ("computed", "truncated", "none_assigned")
_ARRAYS = ("probability_sums", "histogram", "assigned_together")


@dataclass(frozen=True)
class Tally:
    """Sums over the rows of a job that one model has computed.

    `thresholds` are float32, one for each topic. `assigned_together` is counted with them: its diagonal counts the rows
    of each topic.
    """

    thresholds: tuple[float, ...]
    computed: int
    truncated: int
    none_assigned: int
    probability_sums: tuple[float, ...]
    """(topics)"""
    histogram: tuple[int, ...]
    """(topics x bins), a topic after the other"""
    assigned_together: tuple[int, ...]
    """(topics x topics), symmetric, a row after the other"""


def count(probabilities: Sequence[Sequence[float]], truncated: Sequence[bool], thresholds: Sequence[float]) -> Tally:
    """Sum up `probabilities` (rows, topics), `truncated` (rows).

    Everything is compared as Postgres compares the same numbers: a probability and its threshold as float32, a bin in
    float64.
    """
    import numpy as np

    values = np.array(probabilities, dtype=np.float32)
    rows, topics = values.shape
    limits = np.array(thresholds, dtype=np.float32)
    assigned = values >= limits
    wide = values.astype(np.float64)
    bins = np.minimum(np.floor(wide * BINS), BINS - 1).astype(np.int64) + np.arange(topics) * BINS
    # Counts below 2^24 are exact in float32, and a product of floats is what numpy does fast.
    together = assigned.astype(np.float32)
    return Tally(
        thresholds=tuple(limits.tolist()),
        computed=rows,
        truncated=sum(truncated),
        none_assigned=int(rows - assigned.any(axis=1).sum()),
        probability_sums=tuple(wide.sum(axis=0).tolist()),
        histogram=tuple(np.bincount(bins.ravel(), minlength=topics * BINS).tolist()),
        assigned_together=tuple((together.T @ together).astype(np.int64).ravel().tolist()),
    )


def add(connection: Connection, model_id: int, outcomes: Sequence[Outcome]) -> None:
    """Add what was just recorded: failures to the counts of their jobs, the rest to the tallies of files.

    Posted texts have no summary, so they need no tally.
    """
    by_job: dict[UUID, list[Outcome]] = {}
    failures: dict[UUID, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.probabilities is not None:
            by_job.setdefault(outcome.text.job_id, []).append(outcome)
        elif outcome.error_code is not None:
            failures.setdefault(outcome.text.job_id, Counter())[outcome.error_code] += 1
    add_failures(connection, failures)
    if not by_job:
        return
    # A job that has a tally goes on with its thresholds, even when those of the model were changed meanwhile.
    found = connection.execute(
        text("""
            SELECT jobs.id, coalesce(tallies.thresholds, models.thresholds) AS thresholds
            FROM jobs JOIN models ON models.id = :model
            LEFT JOIN tallies ON tallies.job_id = jobs.id AND tallies.model_id = models.id
            WHERE jobs.id = ANY(:jobs) AND kind = 'file' ORDER BY jobs.id
        """),
        {"jobs": list(by_job), "model": model_id},
    ).all()
    for job_id, thresholds in found:
        mine = by_job[job_id]
        tally = count(
            [outcome.probabilities for outcome in mine if outcome.probabilities is not None],
            [outcome.truncated for outcome in mine],
            thresholds,
        )
        _add_one(connection, job_id, model_id, tally)


def _add_one(connection: Connection, job_id: UUID, model_id: int, tally: Tally) -> None:
    summed = ", ".join(
        [f"{name} = tallies.{name} + excluded.{name}" for name in _COUNTS]
        + [
            f"{name} = ARRAY(SELECT a + b FROM unnest(tallies.{name}, excluded.{name}) "
            f"WITH ORDINALITY AS both_(a, b, n) ORDER BY n)"
            for name in _ARRAYS
        ],
    )
    connection.execute(
        text(f"""
            INSERT INTO tallies (job_id, model_id, thresholds, {", ".join((*_COUNTS, *_ARRAYS))})
            VALUES (:job, :model, CAST(:thresholds AS real[]), :computed, :truncated, :none_assigned,
                    CAST(:probability_sums AS double precision[]), CAST(:histogram AS integer[]),
                    CAST(:assigned_together AS integer[]))
            ON CONFLICT (job_id, model_id) DO UPDATE SET {summed}
        """),
        {
            "job": job_id,
            "model": model_id,
            "thresholds": list(tally.thresholds),
            **{name: getattr(tally, name) for name in _COUNTS},
            **{name: list(getattr(tally, name)) for name in _ARRAYS},
        },
    )


def add_failures(connection: Connection, failures: Mapping[UUID, Mapping[str, int]]) -> None:
    """Add failed rows to the counts of their jobs, by the code of their error."""
    for job_id, by_code in failures.items():
        connection.execute(
            text("""
                UPDATE jobs SET failures = (
                    SELECT jsonb_object_agg(code, rows) FROM (
                        SELECT code, sum(rows) AS rows FROM (
                            SELECT key AS code, value::int AS rows FROM jsonb_each_text(failures)
                            UNION ALL SELECT * FROM unnest(CAST(:codes AS text[]), CAST(:rows AS integer[]))
                        ) AS each_ GROUP BY 1) AS summed)
                WHERE id = :job
            """),
            {"job": job_id, "codes": list(by_code), "rows": list(by_code.values())},
        )


def read(connection: Connection, job_id: UUID) -> dict[int, Tally] | None:
    """The tallies of a job by the id of their model, the most rows first; None when they do not cover all of its
    computed rows.

    (A file that was computed before tallies were kept has none, or one of its last rows.)
    """
    rows = connection.execute(
        text("""
            SELECT tallies.*, rows_succeeded FROM tallies JOIN jobs ON jobs.id = job_id
            WHERE job_id = :job ORDER BY computed DESC, tallies.model_id
        """),
        {"job": job_id},
    ).all()
    if not rows or sum(row.computed for row in rows) != rows[0].rows_succeeded:
        return None
    return {
        row.model_id: Tally(
            thresholds=tuple(float32(value) for value in row.thresholds),
            computed=row.computed,
            truncated=row.truncated,
            none_assigned=row.none_assigned,
            probability_sums=tuple(row.probability_sums),
            histogram=tuple(row.histogram),
            assigned_together=tuple(row.assigned_together),
        )
        for row in rows
    }
