"""A second try: a new job of the rows of another that failed in the hands of workers."""

from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import Engine, text

from jobs import reading
from jobs.database import transaction
from jobs.errors import ConflictError
from jobs.records import Idempotency, Job, NewJob, NewText
from jobs.states import TERMINAL_STATES, Lane
from jobs.store import add_job

PAGE = 1000


def retry_failed(
    engine: Engine,
    owner: str,
    job_id: UUID,
    *,
    chunk_rows: int,
    idempotency: Idempotency | None = None,
) -> UUID:
    """Make a job of the failed rows of a finished one, in their order and with their other columns; its id.

    Rows that could not be read at all (empty, broken, too long) would fail again and are left out. Raises
    `NotFoundError`, and `ConflictError` while the job runs or when no row is worth another try.
    """
    with transaction(engine) as connection:
        job = reading.get_job(connection, owner, job_id)
    if job.state not in TERMINAL_STATES:
        raise ConflictError("The job is not finished; retry it when it is.")
    layout = dict(job.layout) | {"retry_of": job_id.hex}
    new = NewJob(owner, job.kind, filename=job.filename, layout=layout, idempotency=idempotency)
    try:
        return add_job(engine, new, _failed(engine, job), lane=Lane.BULK, chunk_rows=chunk_rows)[0]
    except ValueError as error:
        raise ConflictError("No row of this job is worth another try: none failed in the hands of a worker.") from error


def _failed(engine: Engine, job: Job) -> Iterator[NewText]:
    after = 0
    while True:
        with transaction(engine) as connection:
            rows = connection.execute(
                text("""
                    SELECT t.row_no, t.doc_text, t.image2text, t.speech2text, t.custom_id, t.extra
                    FROM results r JOIN texts t ON t.job_id = r.job_id AND t.day = r.day AND t.row_no = r.row_no
                    WHERE r.job_id = :job AND r.day = :day AND r.row_no > :after
                      AND r.error_code IS NOT NULL AND t.error_code IS NULL
                    ORDER BY r.row_no LIMIT :page
                """),
                {"job": job.id, "day": job.day, "after": after, "page": PAGE},
            ).all()
        for row in rows:
            yield NewText(row.doc_text, row.image2text, row.speech2text, row.custom_id, row.extra)
        if len(rows) < PAGE:
            return
        after = rows[-1].row_no
