"""What a model has said of texts before: a cache in Postgres that all workers share.

It holds digests and probabilities, never a text, and only what a model has really computed, never an error. The table
is unlogged and its commits do not wait for the disk: a crash of Postgres empties it, which costs time and nothing else.
No function here waits for another's lock in an order that could close a circle: what is written goes in by digest, what
is refreshed or trimmed leaves out what others hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import Connection, text

from jobs.copying import real_array

DIGEST_BYTES = 16
TRIM_LOCK = 0x52554241
TRIM_ROWS = 20_000
"""So many answers at most are removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Probabilities in the order of the model's topics, and whether the text was truncated."""

    probabilities: Sequence[float]
    truncated: bool
    stale: bool = False
    """It was not used today, and whoever uses it now should say so (`refresh`)."""


def look_up(connection: Connection, model_id: int, digests: Sequence[bytes]) -> dict[bytes, Answer]:
    """What this model has said of the texts with these digests, those of them that are known."""
    if not digests:
        return {}
    # One value for all digests: a list would be as many literals for Postgres to parse, which costs more than looking
    # them up. OFFSET keeps Postgres from reading the whole cache for a join: each is one look into the primary key.
    rows = connection.exec_driver_sql(
        """
        SELECT n, probabilities, truncated, used_on < current_date
        FROM generate_series(0, %(last)s) AS n,
        LATERAL (SELECT * FROM answers
                 WHERE model_id = %(model)s AND digest = substr(%(digests)s, n * 16 + 1, 16) OFFSET 0) AS its
        """,
        {"last": len(digests) - 1, "model": model_id, "digests": b"".join(digests)},
    )
    return {digests[n]: Answer(*answer) for n, *answer in rows}


def remember(connection: Connection, model_id: int, computed: Mapping[bytes, Answer]) -> None:
    """Keep what a model has just said of texts, by their digests. What is there already stays as it is.

    Waits half a second at most for another worker that learns the same; then it raises `DBAPIError`.
    """
    if not computed:
        return
    # A worker that is frozen while it learns the same text must not hold others up.
    connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
    digests = sorted(computed)
    answers = [computed[digest] for digest in digests]
    topics = len(answers[0].probabilities)
    # Workers that learn the same texts at once put them in by the order of their digests, so that each waits for those
    # before it and no two for each other.
    connection.exec_driver_sql(
        """
        INSERT INTO answers (model_id, digest, probabilities, truncated)
        SELECT %(model)s, substr(%(digests)s, n * 16 + 1, 16),
               (%(flat)s::real[])[n * %(topics)s + 1 : (n + 1) * %(topics)s],
               get_byte(%(truncated)s, n) = 1
        FROM generate_series(0, %(last)s) AS n ORDER BY n
        ON CONFLICT DO NOTHING
        """,
        {
            "model": model_id,
            "digests": b"".join(digests),
            "flat": real_array(list(chain.from_iterable(answer.probabilities for answer in answers))),
            "topics": topics,
            "truncated": bytes(answer.truncated for answer in answers),
            "last": len(answers) - 1,
        },
    )


def refresh(connection: Connection, model_id: int, digests: Sequence[bytes]) -> None:
    """Note that these answers are used today; those that another worker notes at this moment are left to it."""
    connection.execute(
        text("""
            UPDATE answers SET used_on = current_date FROM (
                SELECT digest FROM answers
                WHERE model_id = :model AND digest = ANY(:digests) AND used_on < current_date
                FOR UPDATE SKIP LOCKED) AS mine
            WHERE answers.model_id = :model AND answers.digest = mine.digest
        """),
        {"model": model_id, "digests": list(digests)},
    )


def trim(connection: Connection, max_rows: int, *, at_once: int = TRIM_ROWS) -> int:
    """Remove up to `at_once` answers beyond `max_rows`, those first that were used longest ago; how many were removed.

    0 also when another sweeper is at it.
    """
    if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": TRIM_LOCK}).scalar_one():
        return 0
    connection.execute(text("SET LOCAL synchronous_commit = off"))
    return connection.execute(
        text("""
            DELETE FROM answers WHERE (model_id, digest) IN (
                SELECT model_id, digest FROM answers ORDER BY used_on
                LIMIT least(:at_once, greatest(0, (SELECT count(*) FROM answers) - :max_rows))
                FOR UPDATE SKIP LOCKED)
        """),
        {"at_once": at_once, "max_rows": max_rows},
    ).rowcount
