"""What a job's results say as a whole, counted by Postgres: shares of topics, histograms, pairs, failures."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

from jobs.records import Job, Model

BINS = 20


@dataclass(frozen=True)
class TopicSummary:
    """One topic over all computed rows. `histogram` has `BINS` equal bins of the probability from 0 to 1."""

    topic: str
    assigned: int
    mean_probability: float | None
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """A job as a whole. `pairs` counts the rows to which two topics are assigned together, by the two ids."""

    computed: int
    none_assigned: int
    truncated: int
    topics: tuple[TopicSummary, ...]
    pairs: Mapping[tuple[str, str], int]
    failures: Mapping[str, int]


def summarise(connection: Connection, job: Job, model: Model, thresholds: Mapping[str, float]) -> Summary:
    """Count what is recorded of a job so far, in one pass over its results.

    `thresholds` replaces those of the model, by topic. Rows that another model made are left out: the topics of two
    models need not be the same.
    """
    values = {
        "job": job.id,
        "day": job.day,
        "model": model.id,
        "thresholds": [thresholds.get(topic.id, topic.threshold) for topic in model.topics],
        "bins": BINS,
    }
    patterns = connection.execute(
        text("""
            SELECT (SELECT array_agg(p >= t ORDER BY n)
                    FROM unnest(probabilities, CAST(:thresholds AS real[])) WITH ORDINALITY AS one(p, t, n))
                   AS assigned,
                   count(*) AS rows, count(*) FILTER (WHERE truncated) AS truncated
            FROM results WHERE job_id = :job AND day = :day AND model_id = :model AND probabilities IS NOT NULL
            GROUP BY 1
        """),
        values,
    ).all()
    bins = connection.execute(
        text("""
            SELECT n, least(floor(p * :bins)::int, :bins - 1) AS bin, count(*) AS rows, sum(p)::float AS total
            FROM results, unnest(probabilities) WITH ORDINALITY AS one(p, n)
            WHERE job_id = :job AND day = :day AND model_id = :model AND probabilities IS NOT NULL
            GROUP BY 1, 2
        """),
        values,
    ).all()
    failures = connection.execute(
        text("""
            SELECT error_code, count(*) AS rows FROM results
            WHERE job_id = :job AND day = :day AND error_code IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1
        """),
        values,
    ).all()
    computed = sum(pattern.rows for pattern in patterns)
    names = [topic.id for topic in model.topics]
    topics = []
    for number, name in enumerate(names):
        mine = {row.bin: row for row in bins if row.n == number + 1}
        topics.append(
            TopicSummary(
                name,
                sum(pattern.rows for pattern in patterns if pattern.assigned[number]),
                sum(row.total for row in mine.values()) / computed if computed else None,
                tuple(mine[bin_].rows if bin_ in mine else 0 for bin_ in range(BINS)),
            ),
        )
    pairs = {}
    for first, name in enumerate(names):
        for second in range(first + 1, len(names)):
            both = sum(pattern.rows for pattern in patterns if pattern.assigned[first] and pattern.assigned[second])
            pairs[name, names[second]] = both
    return Summary(
        computed=computed,
        none_assigned=sum(pattern.rows for pattern in patterns if not any(pattern.assigned)),
        truncated=sum(pattern.truncated for pattern in patterns),
        topics=tuple(topics),
        pairs=pairs,
        failures={row.error_code: row.rows for row in failures},
    )
