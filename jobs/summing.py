"""What a job's results say as a whole: shares of topics, histograms, pairs, failures.

Read from the running sums in `tallies`. What these do not know is counted by Postgres over the results: everything for
a file that was computed before there were tallies, and who is assigned what under other thresholds.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, text

from jobs import tallies
from jobs.filtering import float32, real
from jobs.records import Job, Model
from jobs.tallies import BINS, Tally

EXAMPLES = 5
"""So many rows are named for each reason of failures, at most."""

EXAMPLE_SECONDS = 0.06
EXAMPLE_WINDOW = 50_000
"""For about so long, so many results at a time, a job is searched for these rows."""

TOPICS_A_COLUMN = 60
"""So many topics are packed into one bigint when rows are grouped by what is assigned to them."""


@dataclass(frozen=True)
class TopicSummary:
    """One topic over all computed rows. `histogram` has `BINS` equal bins of the probability from 0 to 1."""

    topic: str
    assigned: int
    mean_probability: float | None
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Failures:
    """The rows that failed for one reason, and the first of them, as far as they were found quickly."""

    rows: int
    examples: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """A job as a whole. `pairs` counts the rows to which two topics are assigned together, by the two ids; `others` the
    rows that other models have computed, by the id of the model, the most first."""

    computed: int
    none_assigned: int
    truncated: int
    topics: tuple[TopicSummary, ...]
    pairs: Mapping[tuple[str, str], int]
    failures: Mapping[str, Failures]
    others: Mapping[int, int]


def summarise(connection: Connection, job: Job, model: Model | None, thresholds: Mapping[str, float]) -> Summary:
    """What is recorded of a job so far.

    `thresholds` replaces those of the model, by topic. Rows that another model made are counted apart: the topics of
    two models need not be the same. Without a model, that is before any worker has begun, there are only failures. It
    must be the first to use the transaction of `connection`.
    """
    # One snapshot for all queries, so that the figures of a running job belong together.
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    failures = _failures(connection, job)
    if model is None:
        return Summary(0, 0, 0, (), {}, failures, {})
    limits = tuple(float32(thresholds.get(topic.id, topic.threshold)) for topic in model.topics)
    kept = tallies.read(connection, job.id)
    if kept is None:
        rows_by_model = _count_by_model(connection, job)
    else:
        rows_by_model = {model_id: its.computed for model_id, its in kept.items()}
    tally = (kept or {}).get(model.id) or _count_all(connection, job, model, limits)
    if tally.thresholds != limits:
        tally = _assign_anew(connection, job, model, limits, tally)
    names = [topic.id for topic in model.topics]
    together = [tally.assigned_together[at : at + len(names)] for at in range(0, len(names) ** 2, len(names))]
    return Summary(
        computed=tally.computed,
        none_assigned=tally.none_assigned,
        truncated=tally.truncated,
        topics=tuple(
            TopicSummary(
                name,
                together[number][number],
                tally.probability_sums[number] / tally.computed if tally.computed else None,
                tally.histogram[number * BINS : (number + 1) * BINS],
            )
            for number, name in enumerate(names)
        ),
        pairs={
            (name, names[second]): together[first][second]
            for first, name in enumerate(names)
            for second in range(first + 1, len(names))
        },
        failures=failures,
        others={model_id: rows for model_id, rows in rows_by_model.items() if model_id != model.id},
    )


_MINE = "job_id = :job AND day = :day AND model_id = :model AND probabilities IS NOT NULL"


def _count_all(connection: Connection, job: Job, model: Model, limits: tuple[float, ...]) -> Tally:
    """A tally by one pass over the results, or rather two: bins and sums, then what is assigned."""
    histogram = [0] * (len(limits) * BINS)
    sums = [0.0] * len(limits)
    counted = connection.execute(
        text(f"""
            SELECT n, least(floor(p * :bins)::int, :bins - 1) AS bin, count(*) AS rows, sum(p::float8) AS total
            FROM results, unnest(probabilities) WITH ORDINALITY AS one(p, n) WHERE {_MINE} GROUP BY 1, 2
        """),
        {"job": job.id, "day": job.day, "model": model.id, "bins": BINS},
    )
    for n, bin_, rows, total in counted:
        histogram[(n - 1) * BINS + bin_] += rows
        sums[n - 1] += total
    return _assign_anew(connection, job, model, limits, Tally(limits, 0, 0, 0, tuple(sums), tuple(histogram), ()))


def _assign_anew(
    connection: Connection,
    job: Job,
    model: Model,
    limits: tuple[float, ...],
    tally: Tally,
) -> Tally:
    """The same tally with everything that does not follow from the probabilities alone counted by `limits`.

    Rows are grouped by the set of their topics, packed into the bits of a number: a group for each set that occurs, in
    one pass and without anything made for a row.
    """
    bits = [
        f"CASE WHEN probabilities[{number + 1}] >= {real(limit)} THEN {1 << number % TOPICS_A_COLUMN} ELSE 0 END"
        for number, limit in enumerate(limits)
    ]
    columns = [f"({' + '.join(bits[at : at + TOPICS_A_COLUMN])})" for at in range(0, len(bits), TOPICS_A_COLUMN)]
    groups = connection.execute(
        text(f"""
            SELECT ARRAY[{", ".join(f"{column}::bigint" for column in columns)}] AS assigned,
                   count(*) AS rows, count(*) FILTER (WHERE truncated) AS truncated
            FROM results WHERE {_MINE} GROUP BY {", ".join(columns)}
        """),
        {"job": job.id, "day": job.day, "model": model.id},
    ).all()
    together = [0] * len(limits) ** 2
    for group in groups:
        assigned = [n for n in range(len(limits)) if group.assigned[n // TOPICS_A_COLUMN] >> n % TOPICS_A_COLUMN & 1]
        for first in assigned:
            for second in assigned:
                together[first * len(limits) + second] += group.rows
    return replace(
        tally,
        thresholds=limits,
        computed=sum(group.rows for group in groups),
        truncated=sum(group.truncated for group in groups),
        none_assigned=sum(group.rows for group in groups if not any(group.assigned)),
        assigned_together=tuple(together),
    )


def _count_by_model(connection: Connection, job: Job) -> dict[int, int]:
    """How many rows of the job each model has computed, by its id, the most first."""
    counts = connection.execute(
        text("""
            SELECT model_id, count(*) FROM results
            WHERE job_id = :job AND day = :day AND probabilities IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1
        """),
        {"job": job.id, "day": job.day},
    )
    return dict(counts.all())


def _failures(connection: Connection, job: Job) -> dict[str, Failures]:
    """How many rows failed for each reason, the most frequent first, with the numbers of a few."""
    counts = connection.execute(
        text("SELECT key, value::int FROM jobs, jsonb_each_text(failures) WHERE id = :job ORDER BY 2 DESC, 1"),
        {"job": job.id},
    ).all()
    missing = {code: min(rows, EXAMPLES) for code, rows in counts}
    examples: dict[str, list[int]] = {code: [] for code in missing}
    deadline = time.monotonic() + EXAMPLE_SECONDS
    after = 0
    while any(missing.values()) and after < job.rows_total and (after == 0 or time.monotonic() < deadline):
        found = connection.execute(
            text("""
                SELECT error_code, (array_agg(row_no ORDER BY row_no))[1:CAST(:most AS integer)] FROM results
                WHERE job_id = :job AND day = :day AND row_no > :after AND row_no <= :upto
                  AND error_code = ANY(:codes)
                GROUP BY 1
            """),
            {
                "job": job.id,
                "day": job.day,
                "after": after,
                "upto": after + EXAMPLE_WINDOW,
                "codes": [code for code, rows in missing.items() if rows],
                "most": EXAMPLES,
            },
        )
        for code, numbers in found:
            examples[code] += numbers[: missing[code]]
            missing[code] -= len(numbers[: missing[code]])
        after += EXAMPLE_WINDOW
    return {code: Failures(rows, tuple(examples[code])) for code, rows in counts}
