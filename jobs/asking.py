"""An explanation is asked for: together with a text, or later; and becomes work once the text is classified.

How a worker takes it and records what it has found is in `jobs.explaining`. Locks are taken in the order chunks,
explanations, jobs.
"""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs.database import run
from jobs.errors import ConflictError, NotFoundError
from jobs.records import Outcome
from jobs.states import ExplanationError, JobKind
from jobs.waiting import require_room_to_explain

NOT_CLASSIFIED_WORDS = "The text has no probabilities, so there is nothing to explain."

# As jobs do (`accepting.accept`), requests share: the first text of each comes before the second of any.
_TURN = "coalesce((SELECT min(turn) FROM explanations WHERE state = 'queued'), 0)"


class NotClassifiedError(ConflictError):
    """The text is not classified yet, or could not be, so there is nothing to explain."""


def ask_with(
    connection: Connection, owner: str, job_id: UUID, day: date, rows: Sequence[int], max_waiting: int | None = None
) -> None:
    """Note in the transaction that accepts the texts that these `rows` shall be explained; their job ends with that.

    Raises `TooManyExplanationsError` when more than `max_waiting` of the owner would wait.
    """
    if not rows:
        return
    connection.execute(
        text(f"""
            INSERT INTO explanations (job_id, row_no, day, with_text, state, turn)
            SELECT :job, row_no, :day, true, 'waiting', {_TURN} + place - 1
            FROM unnest(CAST(:rows AS integer[])) WITH ORDINALITY AS asked(row_no, place)
        """),
        {"job": job_id, "day": day, "rows": list(rows)},
    )
    if max_waiting is not None:
        require_room_to_explain(connection, owner, len(rows), max_waiting)


def results_are_in(connection: Connection, outcomes: Sequence[Outcome], model_id: int) -> None:
    """What is asked for together with texts becomes work, or comes to its end where there is nothing to explain.

    Belongs into the transaction that records the `outcomes`. For files it costs one look into an index.
    """
    jobs = list({outcome.text.job_id for outcome in outcomes})
    waiting = connection.execute(
        text("SELECT job_id, row_no FROM explanations WHERE job_id = ANY(:jobs) AND state = 'waiting'"),
        {"jobs": jobs},
    ).all()
    if not waiting:
        return
    asked = {(row.job_id, row.row_no) for row in waiting}
    of_asked = [outcome for outcome in outcomes if (outcome.text.job_id, outcome.text.row_no) in asked]
    ready = [outcome.text for outcome in of_asked if outcome.probabilities is not None]
    connection.execute(
        text("""
            UPDATE explanations SET state = 'queued', queued_at = now(), model_id = :model
            FROM unnest(CAST(:jobs AS uuid[]), CAST(:rows AS integer[])) AS ready(job_id, row_no)
            WHERE explanations.job_id = ready.job_id AND explanations.row_no = ready.row_no AND state = 'waiting'
        """),
        {"model": model_id, "jobs": [one.job_id for one in ready], "rows": [one.row_no for one in ready]},
    )
    for outcome in of_asked:
        if outcome.probabilities is None:
            nothing_to_explain(connection, outcome.text.job_id, outcome.text.row_no)


def nothing_to_explain(connection: Connection, job_id: UUID, row_no: int) -> None:
    """The text failed: what was asked for together with it has come to its end."""
    connection.execute(
        text("""
            UPDATE explanations SET state = 'done', finished_at = now(), error_code = :code, error_message = :message
            WHERE job_id = :job AND row_no = :row AND state = 'waiting'
        """),
        {"job": job_id, "row": row_no, "code": ExplanationError.NOT_CLASSIFIED, "message": NOT_CLASSIFIED_WORDS},
    )


def stop(connection: Connection, job_id: UUID) -> None:
    """The job is stopped or removed: nothing more of it is explained."""
    connection.execute(
        text("""
            UPDATE explanations SET state = 'done', lease_until = NULL, finished_at = now(), error_code = :code,
                                    error_message = 'The job was stopped.'
            WHERE (job_id, row_no) IN (
                SELECT job_id, row_no FROM explanations WHERE job_id = :job AND state <> 'done'
                ORDER BY row_no FOR UPDATE)
        """),
        {"job": job_id, "code": ExplanationError.STOPPED},
    )


def ask(
    engine: Engine, owner: str, kind: JobKind, job_id: UUID, row_no: int, *, max_waiting: int | None = None
) -> bool:
    """Ask for the explanation of a text that is classified; whether there is something new to do.

    One that is there or on its way is left as it is; one that came to nothing is tried again. Raises `NotFoundError`
    when the owner has no such text, `NotClassifiedError`, and `TooManyExplanationsError` when more than `max_waiting`
    of the owner would wait.
    """
    mine = {"job": job_id, "owner": owner, "kind": kind, "row": row_no}

    def step(connection: Connection) -> bool:
        found = connection.execute(
            text("""
                SELECT r.probabilities IS NOT NULL AS classified, e.job_id IS NOT NULL AS asked
                FROM jobs j JOIN texts t ON t.job_id = j.id AND t.day = j.day
                LEFT JOIN results r ON r.job_id = t.job_id AND r.day = t.day AND r.row_no = t.row_no
                LEFT JOIN explanations e ON e.job_id = t.job_id AND e.row_no = t.row_no
                WHERE j.id = :job AND j.owner = :owner AND j.kind = :kind AND t.row_no = :row
            """),
            mine,
        ).one_or_none()
        if found is None:
            raise NotFoundError("There is no such text.")
        if not found.classified:
            if found.asked:
                return False
            raise NotClassifiedError("The text is not classified yet, or could not be: there is nothing to explain.")
        # The key of the job is held against its removal, and its row is not: whoever finishes an explanation of it
        # changes the job while it holds the explanation.
        asked = connection.execute(
            text(f"""
                INSERT INTO explanations (job_id, row_no, day, with_text, state, turn, model_id, queued_at)
                SELECT j.id, r.row_no, j.day, false, 'queued', {_TURN}, r.model_id, now()
                FROM jobs j JOIN results r ON r.job_id = j.id AND r.day = j.day
                WHERE j.id = :job AND j.owner = :owner AND j.kind = :kind AND r.row_no = :row
                FOR KEY SHARE OF j
                ON CONFLICT (job_id, row_no) DO UPDATE
                SET state = 'queued', with_text = false, attempts = 0, turn = excluded.turn,
                    model_id = excluded.model_id, asked_at = now(), queued_at = now(), lease = NULL,
                    finished_at = NULL, error_code = NULL, error_message = NULL
                WHERE explanations.error_code IS NOT NULL
            """),
            mine,
        ).rowcount
        if asked and max_waiting is not None:
            require_room_to_explain(connection, owner, asked, max_waiting)
        return bool(asked)

    return run(engine, step)
