"""Two jobs of the same rows beside each other: how far their models agree, and the rows on which they do not.

Everything is counted by Postgres, and only over rows that both jobs have computed, each with the model that the job
names; so it can be asked while either of them runs. Topics are the same when their ids are.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from jobs.errors import ConflictError
from jobs.records import Job, Model
from jobs.retrying import rows_of

_TOPICS_AT_ONCE = 200
"""Postgres counts no more than some 1,600 things in one query."""

TEXT_CHARS = 300
"""So much of a text, and of a `custom_id`, stands beside a row that has changed."""


@dataclass(frozen=True)
class Side:
    """One of the two: a job with the model that made its results."""

    job: Job
    model: Model

    @property
    def positions(self) -> dict[str, int]:
        """Where in the probabilities a topic stands, from 1 as Postgres counts."""
        return {topic.id: number for number, topic in enumerate(self.model.topics, 1)}


@dataclass(frozen=True)
class TopicAgreement:
    """One topic that both models know, over the rows that both jobs have computed.

    `mean_difference` is the mean of |p - q|, `correlation` is Pearson's, which is None where a side never varies.
    """

    topic: str
    both: int
    only_first: int
    only_second: int
    neither: int
    mean_difference: float | None
    correlation: float | None


@dataclass(frozen=True)
class Agreement:
    """`same` counts the rows to which both models assign the same of the topics that both know."""

    rows: int
    same: int
    topics: tuple[TopicAgreement, ...]


@dataclass(frozen=True)
class ChangedRow:
    """A row whose assigned topics differ, with the probabilities of both sides.

    Its texts and its `custom_id` go as far as `TEXT_CHARS`.
    """

    row_no: int
    custom_id: str | None
    doc_text: str
    image2text: str
    speech2text: str
    first: tuple[float, ...]
    second: tuple[float, ...]


def common_topics(first: Side, second: Side) -> list[str]:
    """The ids of the topics that both models know, in the order of the first."""
    return [topic for topic in first.positions if topic in second.positions]


def require_same_rows(connection: Connection, first: Job, second: Job) -> None:
    """Raise `ConflictError` unless row n of one job has the texts of row n of the other, for all of them.

    Jobs that were copied from one file are known to; else all texts are compared, which takes seconds for a million.
    """
    if rows_of(first) == rows_of(second):
        return
    if first.rows_total != second.rows_total:
        raise ConflictError(
            f"These are not jobs of the same rows: one has {first.rows_total}, the other {second.rows_total}. "
            "Compare a job with its rerun, or two uploads of one file.",
        )
    _plan_joins_over_all_rows(connection)
    differs = connection.execute(
        text("""
            SELECT a.row_no FROM texts a JOIN texts b ON b.row_no = a.row_no
            WHERE a.job_id = :first AND a.day = :first_day AND b.job_id = :second AND b.day = :second_day
              AND (a.doc_text, a.image2text, a.speech2text) <> (b.doc_text, b.image2text, b.speech2text)
            LIMIT 1
        """),
        _jobs(first, second),
    ).scalar_one_or_none()
    if differs is not None:
        raise ConflictError(
            f"These are not jobs of the same rows: row {differs} has other texts in each. "
            "Compare a job with its rerun, or two uploads of one file.",
        )


def agreement(connection: Connection, first: Side, second: Side) -> Agreement:
    """Count how far the two agree, topic by topic and as a whole."""
    topics = common_topics(first, second)
    _plan_joins_over_all_rows(connection)
    found: list[TopicAgreement] = []
    rows = same = 0
    for start in range(0, max(len(topics), 1), _TOPICS_AT_ONCE):
        part = topics[start : start + _TOPICS_AT_ONCE]
        counts = ["count(*)"]
        inner = [f"{_same(topics, first, second)} AS same"]
        for topic in part:
            at = first.positions[topic]
            p, q, a, b = _terms(topic, first, second)
            # Each is made once a row in the inner query, which the OFFSET keeps from being folded into the outer one.
            inner += [f"{p} AS p{at}", f"{q} AS q{at}", f"{a} AS a{at}", f"{b} AS b{at}"]
            counts += [
                f"count(*) FILTER (WHERE a{at} AND b{at})",
                f"count(*) FILTER (WHERE a{at} AND NOT b{at})",
                f"count(*) FILTER (WHERE b{at} AND NOT a{at})",
                f"avg(abs(p{at} - q{at}))",
                f"corr(p{at}, q{at})",
            ]
        row = connection.execute(
            text(f"""
                SELECT {", ".join(counts)}, count(*) FILTER (WHERE same)
                FROM (SELECT {", ".join(inner)} FROM {_RESULTS} OFFSET 0) AS compared
            """),
            _values(first, second),
        ).one()
        rows, same = row[0], row[-1]
        for number, topic in enumerate(part):
            both, only_first, only_second, difference, correlation = row[1 + 5 * number : 6 + 5 * number]
            neither = rows - both - only_first - only_second
            found.append(TopicAgreement(topic, both, only_first, only_second, neither, difference, correlation))
    return Agreement(rows, same, tuple(found))


def changed_rows(connection: Connection, first: Side, second: Side, *, after: int, limit: int) -> list[ChangedRow]:
    """Rows after `after`, in file order, on which the models do not assign the same of the topics that both know."""
    same = _same(common_topics(first, second), first, second)
    _plan_joins_over_all_rows(connection)
    rows = connection.execute(
        text(f"""
            SELECT changed.row_no, left(t.custom_id, :chars) AS custom_id, left(t.doc_text, :chars) AS doc_text,
                   left(t.image2text, :chars) AS image2text, left(t.speech2text, :chars) AS speech2text,
                   changed.first, changed.second
            FROM (SELECT r.row_no, r.probabilities AS first, s.probabilities AS second FROM {_RESULTS}
                  AND r.row_no > :after AND s.row_no > :after AND NOT ({same})
                  ORDER BY r.row_no LIMIT :limit) changed
            CROSS JOIN LATERAL (
                SELECT * FROM texts WHERE job_id = :first AND day = :first_day AND row_no = changed.row_no OFFSET 0) t
            ORDER BY changed.row_no
        """),
        _values(first, second) | {"after": after, "limit": limit, "chars": TEXT_CHARS},
    )
    return [ChangedRow(**{**row._mapping, "first": tuple(row.first), "second": tuple(row.second)}) for row in rows]


_RESULTS = """
    results r JOIN results s ON s.row_no = r.row_no
    WHERE r.job_id = :first AND r.day = :first_day AND r.model_id = :first_model AND r.probabilities IS NOT NULL
      AND s.job_id = :second AND s.day = :second_day AND s.model_id = :second_model AND s.probabilities IS NOT NULL
"""


def _terms(topic: str, first: Side, second: Side) -> tuple[str, str, str, str]:
    """SQL of a topic: both probabilities, and whether each side assigns it. Compared as `real`, as everywhere."""
    at, to = first.positions[topic], second.positions[topic]
    return (
        f"r.probabilities[{at}]",
        f"s.probabilities[{to}]",
        f"r.probabilities[{at}] >= CAST(:first_{at} AS real)",
        f"s.probabilities[{to}] >= CAST(:second_{to} AS real)",
    )


def _same(topics: list[str], first: Side, second: Side) -> str:
    pairs = (_terms(topic, first, second)[2:] for topic in topics)
    return " AND ".join(f"({a}) = ({b})" for a, b in pairs) or "true"


def _jobs(first: Job, second: Job) -> dict[str, Any]:
    return {"first": first.id, "first_day": first.day, "second": second.id, "second_day": second.day}


def _values(first: Side, second: Side) -> dict[str, Any]:
    values = _jobs(first.job, second.job) | {"first_model": first.model.id, "second_model": second.model.id}
    for name, side in (("first", first), ("second", second)):
        values |= {f"{name}_{at}": topic.threshold for at, topic in enumerate(side.model.topics, 1)}
    return values


def _plan_joins_over_all_rows(connection: Connection) -> None:
    """Have rows joined by hashing or merging, in this transaction.

    Of a young job the statistics know nothing, and a nested loop that is planned for one row takes hours for a million.
    """
    connection.execute(text("SET LOCAL enable_nestloop = off"))
