"""How an owner stops a job, or removes it with all its data.

As everywhere, chunks are locked before jobs, and a change of state is a conditional UPDATE.
"""

from datetime import date
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs import asking
from jobs.database import run
from jobs.errors import ConflictError, NotFoundError
from jobs.states import JobState
from jobs.store import settle


def cancel(engine: Engine, owner: str, job_id: UUID) -> None:
    """Stop a job: nothing more of it is claimed, finished rows stay, chunks in work are finished by their workers.

    Cancelling twice is the same as once. Raises `NotFoundError`, and `ConflictError` when the job is finished.
    """

    def step(connection: Connection) -> None:
        mine = {"job": job_id, "owner": owner}
        state = text("SELECT state FROM jobs WHERE id = :job AND owner = :owner")
        if connection.execute(state, mine).scalar_one_or_none() is None:
            raise NotFoundError("There is no such job.")
        connection.execute(
            text("""
                UPDATE chunks SET state = 'cancelled', finished_at = now()
                WHERE (job_id, first_row) IN (
                    SELECT job_id, first_row FROM chunks WHERE job_id = :job AND state = 'queued'
                    FOR UPDATE SKIP LOCKED)
            """),
            {"job": job_id},
        )
        changed = connection.execute(
            text("UPDATE jobs SET state = 'cancelling' WHERE id = :job AND state IN ('queued', 'running')"),
            {"job": job_id},
        ).rowcount
        # Asked anew, because another who cancels may have been first since the function began.
        now = connection.execute(state, mine).scalar_one_or_none()
        if not changed and now not in {JobState.CANCELLING, JobState.CANCELLED}:
            raise ConflictError("The job is finished; there is nothing to cancel.")
        settle(connection, [job_id])

    run(engine, step)


def delete(engine: Engine, owner: str, job_id: UUID) -> None:
    """Remove a job and all its data. A worker that computes it finds its chunks taken away and records nothing.

    In two transactions, because deleting a million rows takes seconds: the first takes the chunks from the workers, who
    would wait for the second otherwise. Should the second fail, the job is there as a cancelled one, to be deleted.
    """

    def stop(connection: Connection) -> None:
        if _day(connection, owner, job_id) is None:
            raise NotFoundError("There is no such job.")
        connection.execute(
            text("""
                UPDATE chunks SET state = 'cancelled', lease_until = NULL, finished_at = now()
                WHERE (job_id, first_row) IN (
                    SELECT job_id, first_row FROM chunks WHERE job_id = :job AND state IN ('queued', 'running')
                    ORDER BY first_row FOR UPDATE)
            """),
            {"job": job_id},
        )
        asking.stop(connection, job_id)
        settle(connection, [job_id])

    def remove(connection: Connection) -> None:
        day = _day(connection, owner, job_id)
        if day is None:
            return  # Another request for the same was quicker.
        for table in ("chunks", "explanations", "jobs", "feedback"):
            column = "id" if table == "jobs" else "job_id"
            connection.execute(text(f"DELETE FROM {table} WHERE {column} = :job"), {"job": job_id})
        for table in ("results", "texts"):
            connection.execute(
                text(f"DELETE FROM {table} WHERE job_id = :job AND day = :day"),
                {"job": job_id, "day": day},
            )

    run(engine, stop)
    run(engine, remove)


def _day(connection: Connection, owner: str, job_id: UUID) -> date | None:
    return connection.execute(
        text("SELECT day FROM jobs WHERE id = :job AND owner = :owner"),
        {"job": job_id, "owner": owner},
    ).scalar_one_or_none()
