"""A worker takes a wish for an explanation and records what it has found; the sweeper brings back what was left.

As with chunks, the lease token is the fence, each change of state is a conditional UPDATE, and zero rows mean that
somebody else was first. Locks are taken in the order explanations, jobs.
"""

from collections.abc import Sequence
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from jobs.asking import NOT_CLASSIFIED_WORDS
from jobs.fleet import WORKER_ALIVE_SECONDS
from jobs.records import ClaimedText, ExplanationClaim, Piece
from jobs.states import ExplanationError
from jobs.store import settle

MAX_ATTEMPTS = 3
"""So many workers may die on an explanation before it is given up. The classification of its text stands."""

MODEL_GONE_SECONDS = 2 * WORKER_ALIVE_SECONDS
"""So long an explanation waits for its model to come back while workers with other models are there, of which those on
trial do not count: whoever is told that the model is gone is to send the text anew, for them to compute. It begins when
nobody with that model counts as alive any more: when the last one has signed off, or `WORKER_ALIVE_SECONDS` after the
last sign of life of one that died."""


def claim(
    connection: Connection, *, model_id: int, lease_seconds: float, beside_others: bool = False
) -> ExplanationClaim | None:
    """Take the next explanation that this model can give, under a new lease; None when there is none.

    One that a worker has died on is not taken by a caller who has other work in hand (`beside_others`).
    """
    found = connection.execute(
        text("""
            SELECT job_id, row_no, day FROM explanations
            WHERE state = 'queued' AND model_id = :model AND (attempts = 0 OR NOT :beside)
            ORDER BY turn, job_id, row_no FOR UPDATE SKIP LOCKED LIMIT 1
        """),
        {"model": model_id, "beside": beside_others},
    ).one_or_none()
    if found is None:
        return None
    key = dict(found._mapping)
    lease = uuid4()
    connection.execute(
        text("""
            UPDATE explanations SET state = 'running', attempts = attempts + 1, lease = :lease,
                                    lease_until = now() + make_interval(secs => :seconds)
            WHERE job_id = :job_id AND row_no = :row_no
        """),
        {**key, "lease": lease, "seconds": lease_seconds},
    )
    its = connection.execute(
        text("""
            SELECT job_id, day, row_no, doc_text, image2text, speech2text FROM texts
            WHERE job_id = :job_id AND day = :day AND row_no = :row_no
        """),
        key,
    ).one()
    return ExplanationClaim(lease, ClaimedText(**its._mapping))


def extend(connection: Connection, leases: Sequence[UUID], lease_seconds: float) -> None:
    """A sign of life: the leases run `lease_seconds` from now."""
    connection.execute(
        text("""
            UPDATE explanations SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
            WHERE lease = ANY(:leases) AND state = 'running'
        """),
        {"leases": list(leases), "seconds": lease_seconds},
    )


def release(connection: Connection, claimed: ExplanationClaim) -> None:
    """Give back what a worker that is told to stop has begun: others may take it at once, and it counts as no death."""
    connection.execute(
        text("""
            UPDATE explanations SET state = 'queued', lease = NULL, lease_until = NULL, attempts = attempts - 1
            WHERE job_id = :job AND row_no = :row AND lease = :lease AND state = 'running'
        """),
        _key(claimed),
    )


def finish(
    connection: Connection, claimed: ExplanationClaim, pieces: Sequence[Piece], weights: Sequence[Sequence[float]]
) -> bool:
    """Record what was found under a lease: for each topic of the model the weight of each piece; False: it was lost."""
    changed = connection.execute(
        text("""
            UPDATE explanations SET state = 'done', lease = NULL, lease_until = NULL, finished_at = clock_timestamp(),
                                    fields = CAST(:fields AS text[]), starts = CAST(:starts AS integer[]),
                                    ends = CAST(:ends AS integer[]), weights = CAST(:weights AS real[])
            WHERE job_id = :job AND row_no = :row AND lease = :lease AND state = 'running'
        """),
        {
            **_key(claimed),
            "fields": [piece.field for piece in pieces],
            "starts": [piece.start for piece in pieces],
            "ends": [piece.end for piece in pieces],
            "weights": [weight for of_topic in weights for weight in of_topic],
        },
    ).rowcount
    settle_explained(connection, [claimed.text.job_id])
    return bool(changed)


def fail(connection: Connection, claimed: ExplanationClaim, code: ExplanationError, message: str) -> bool:
    """Record why there is no explanation; False: the lease was lost."""
    changed = connection.execute(
        text("""
            UPDATE explanations SET state = 'done', lease = NULL, lease_until = NULL, finished_at = clock_timestamp(),
                                    error_code = :code, error_message = :message
            WHERE job_id = :job AND row_no = :row AND lease = :lease AND state = 'running'
        """),
        {**_key(claimed), "code": code, "message": message},
    ).rowcount
    settle_explained(connection, [claimed.text.job_id])
    return bool(changed)


def sweep(connection: Connection) -> list[UUID]:
    """Bring back explanations whose lease has run out, or end them; the jobs whose explanations came to an end.

    After `MAX_ATTEMPTS` deaths an explanation is given up, and so is one whose model nobody runs any more.
    """
    _catch_up(connection)
    lost = connection.execute(
        text("""
            UPDATE explanations SET
                state = CASE WHEN attempts < :most THEN 'queued' ELSE 'done' END,
                finished_at = CASE WHEN attempts < :most THEN NULL ELSE now() END,
                error_code = CASE WHEN attempts < :most THEN NULL ELSE :code END,
                error_message = CASE WHEN attempts < :most THEN NULL
                                     ELSE 'Every worker that tried was lost (' || attempts || ' attempts).' END,
                queued_at = now(), lease = NULL, lease_until = NULL
            WHERE (job_id, row_no) IN (
                SELECT job_id, row_no FROM explanations WHERE state = 'running' AND lease_until < now()
                ORDER BY job_id, row_no FOR UPDATE SKIP LOCKED LIMIT 200)
            RETURNING job_id, state
        """),
        {"most": MAX_ATTEMPTS, "code": ExplanationError.WORKER_LOST},
    ).all()
    gone = connection.execute(
        text("""
            UPDATE explanations SET state = 'done', finished_at = now(), error_code = :code,
                error_message = 'No worker runs the model any more that classified the text.'
            WHERE (job_id, row_no) IN (
                SELECT job_id, row_no FROM explanations
                WHERE state = 'queued' AND queued_at < now() - make_interval(secs => :patience)
                  AND model_id NOT IN (
                    SELECT model_id FROM workers WHERE seen_at > now() - make_interval(secs => :alive + :patience))
                  AND EXISTS (
                    SELECT 1 FROM workers WHERE NOT trial AND seen_at > now() - make_interval(secs => :alive)
                                            AND started_at < now() - make_interval(secs => :patience))
                ORDER BY job_id, row_no FOR UPDATE SKIP LOCKED LIMIT 200)
            RETURNING job_id
        """),
        {"code": ExplanationError.MODEL_GONE, "alive": WORKER_ALIVE_SECONDS, "patience": MODEL_GONE_SECONDS},
    ).all()
    ended = sorted({row.job_id for row in gone} | {row.job_id for row in lost if row.state == "done"})
    settle_explained(connection, ended)
    return ended


def _catch_up(connection: Connection) -> None:
    """What still waits for the result of a text whose job is finished: its worker was of a version that knew nothing of
    explanations, or the job was stopped."""
    connection.execute(
        text("""
            UPDATE explanations AS e SET
                state = CASE WHEN r.probabilities IS NULL THEN 'done' ELSE 'queued' END,
                model_id = r.model_id, queued_at = now(),
                finished_at = CASE WHEN r.probabilities IS NULL THEN now() END,
                error_code = CASE WHEN r.probabilities IS NULL THEN :code END,
                error_message = CASE WHEN r.probabilities IS NULL THEN :message END
            FROM explanations AS mine JOIN jobs j ON j.id = mine.job_id AND j.finished_at IS NOT NULL
            LEFT JOIN results r ON r.job_id = mine.job_id AND r.day = mine.day AND r.row_no = mine.row_no
            WHERE mine.state = 'waiting' AND e.state = 'waiting'
              AND e.job_id = mine.job_id AND e.row_no = mine.row_no
        """),
        {"code": ExplanationError.NOT_CLASSIFIED, "message": NOT_CLASSIFIED_WORDS},
    )


def waiting(connection: Connection, at_most: int = 1000) -> int:
    """How many explanations wait for a worker, counted up to a bound."""
    count: int = connection.execute(
        text("SELECT count(*) FROM (SELECT 1 FROM explanations WHERE state = 'queued' LIMIT :most) AS few"),
        {"most": at_most},
    ).scalar_one()
    return count


def settle_explained(connection: Connection, jobs: Sequence[UUID]) -> list[UUID]:
    """Give the jobs of which nothing is open any more their terminal state; return these.

    Their rows are locked first, so that of two workers who finish the last chunk and the last explanation of one job at
    once the second sees what the first has committed.
    """
    if not jobs:
        return []
    connection.execute(
        text("SELECT 1 FROM jobs WHERE id = ANY(:jobs) ORDER BY id FOR NO KEY UPDATE"), {"jobs": list(jobs)}
    )
    return settle(connection, jobs)


def _key(claimed: ExplanationClaim) -> dict[str, object]:
    return {"job": claimed.text.job_id, "row": claimed.text.row_no, "lease": claimed.lease}
