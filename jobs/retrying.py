"""A job of rows that another one has already: those that failed in the hands of workers, or all of them again.

The rows are copied inside Postgres. A file of a million rows is read anew by nobody and passes through no process of
ours.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs import reading
from jobs.accepting import accept, today
from jobs.database import transaction
from jobs.errors import ConflictError, NotFoundError
from jobs.records import Idempotency, Job, Model, NewJob, new_id
from jobs.repeating import find_idempotent
from jobs.states import TERMINAL_STATES, Lane

_COLUMNS = """
    job_id, row_no, day, doc_text, image2text, speech2text, custom_id, extra, error_code, error_message, error_column
"""

# The inner query keeps its OFFSET so that a text is looked up by its key for each failed row: while the statistics know
# nothing of a young job, a join of the two tables may be planned as one that reads them again for every row.
_FAILED = f"""
    INSERT INTO texts ({_COLUMNS})
    SELECT :new, row_number() OVER (ORDER BY r.row_no), :today, t.doc_text, t.image2text, t.speech2text,
           t.custom_id, t.extra, NULL, NULL, NULL
    FROM results r CROSS JOIN LATERAL (
        SELECT * FROM texts WHERE job_id = :job AND day = :day AND row_no = r.row_no OFFSET 0) t
    WHERE r.job_id = :job AND r.day = :day AND r.error_code IS NOT NULL AND t.error_code IS NULL
"""

_ALL = f"""
    INSERT INTO texts ({_COLUMNS})
    SELECT :new, row_no, :today, doc_text, image2text, speech2text, custom_id, extra,
           error_code, error_message, error_column
    FROM texts WHERE job_id = :job AND day = :day
"""

_ORIGINS = frozenset({"retry_of", "rerun_of", "rows_of"})


def retry_failed(
    engine: Engine,
    owner: str,
    job_id: UUID,
    *,
    chunk_rows: int,
    idempotency: Idempotency | None = None,
    max_waiting: int | None = None,
) -> tuple[UUID, bool]:
    """Make a job of the failed rows of a finished one, in their order and with their other columns.

    Returns its id and whether it is new. Rows that could not be read at all (empty, broken, too long) would fail again
    and are left out. A job that is bound to a model is tried again with that one. Raises `NotFoundError`, and
    `ConflictError` while the job runs or when no row is worth another try, `TooManyWaitingError`.
    """
    with transaction(engine) as connection:
        if (there := _made_before(connection, owner, idempotency)) is not None:
            return there, False
        job = reading.get_job(connection, owner, job_id)
        if job.state not in TERMINAL_STATES:
            raise ConflictError("The job is not finished; retry it when it is.")
        bound = connection.execute(
            text("SELECT model_id FROM chunks WHERE job_id = :job LIMIT 1"),
            {"job": job.id},
        ).scalar_one_or_none()
        again = NewJob(owner, job.kind, job.filename, job.layout, idempotency, max_waiting)
        made = _copy(engine, connection, job, _FAILED, {"retry_of": job.id.hex}, bound, chunk_rows, again)
        if made is None:
            raise ConflictError("No row of this job is worth another try: none failed in the hands of a worker.")
        return made, True


def rerun(
    engine: Engine,
    owner: str,
    job_id: UUID,
    *,
    choose: Callable[[], Model],
    chunk_rows: int,
    idempotency: Idempotency | None = None,
    max_waiting: int | None = None,
) -> tuple[UUID, bool]:
    """Make a job of the same rows that only the model of `choose` may compute, whatever the state of the first is.

    Returns its id and whether it is new. Rows that could not be read are failed rows of the new job as well. `choose`
    is called only for a request that was not heard before; what it raises undoes everything. Raises `NotFoundError` and
    `TooManyWaitingError`.
    """
    with transaction(engine) as connection:
        if (there := _made_before(connection, owner, idempotency)) is not None:
            return there, False
        job = reading.get_job(connection, owner, job_id)
        again = NewJob(owner, job.kind, job.filename, job.layout, idempotency, max_waiting)
        origin = {"rerun_of": job.id.hex, "rows_of": rows_of(job)}
        made = _copy(engine, connection, job, _ALL, origin, choose().id, chunk_rows, again)
        if made is None:
            raise NotFoundError("There is no such job.")
        return made, True


def rows_of(job: Job) -> str:
    """The id of the job whose file was read; jobs with the same one have the same rows under the same numbers."""
    return str(job.layout.get("rows_of", job.id.hex))


def _made_before(connection: Connection, owner: str, idempotency: Idempotency | None) -> UUID | None:
    return None if idempotency is None else find_idempotent(connection, owner, idempotency)


def _copy(
    engine: Engine,
    connection: Connection,
    job: Job,
    statement: str,
    origin: dict[str, Any],
    model_id: int | None,
    chunk_rows: int,
    again: NewJob,
) -> UUID | None:
    """The new job of the rows that `statement` copies; None when there are none."""
    day, new = today(engine, connection), new_id()
    rows = connection.execute(text(statement), {"new": new, "today": day, "job": job.id, "day": job.day}).rowcount
    if not rows:
        return None
    layout = {name: value for name, value in job.layout.items() if name not in _ORIGINS} | origin
    accept(
        connection,
        replace(again, layout=layout),
        new,
        day,
        lane=Lane.BULK,
        chunk_rows=chunk_rows,
        rows=rows,
        model_id=model_id,
    )
    return new
