"""What people say is right: recorded beside a text, kept with a copy of it, and read again to train with.

A judgement outlives the day of its text, which is dropped when it is old, because a person has taken the time to make
it; it goes when the job is deleted, because its owner wants the text gone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs.database import run
from jobs.errors import NotFoundError
from jobs.states import JobKind


@dataclass(frozen=True)
class Feedback:
    """A text with the topics that a person gave it; none of them: an empty tuple."""

    doc_text: str
    image2text: str
    speech2text: str
    topics: tuple[str, ...]
    given_at: datetime


def record(engine: Engine, owner: str, kind: JobKind, job_id: UUID, row_no: int, topics: Sequence[str]) -> None:
    """Record which topics are right for a text, in place of what was said of it before.

    `topics` are ids of topics that some model knows. Raises `NotFoundError` when the owner has no such text.
    """

    def step(connection: Connection) -> None:
        recorded = connection.execute(
            text("""
                INSERT INTO feedback (job_id, row_no, owner, topics, doc_text, image2text, speech2text, model_id)
                SELECT t.job_id, t.row_no, j.owner, CAST(:topics AS text[]), t.doc_text, t.image2text, t.speech2text,
                       r.model_id
                FROM jobs j JOIN texts t ON t.job_id = j.id AND t.day = j.day
                LEFT JOIN results r ON r.job_id = t.job_id AND r.day = t.day AND r.row_no = t.row_no
                WHERE j.id = :job AND j.owner = :owner AND j.kind = :kind AND t.row_no = :row
                FOR SHARE OF j
                ON CONFLICT (job_id, row_no) DO UPDATE
                SET topics = excluded.topics, model_id = excluded.model_id, given_at = now()
            """),
            {"topics": list(topics), "job": job_id, "owner": owner, "kind": kind, "row": row_no},
        ).rowcount
        if not recorded:
            raise NotFoundError("There is no such text.")

    run(engine, step)


def last_given(connection: Connection, job_id: UUID) -> datetime | None:
    """When something was said of a text of this job for the last time; None: never."""
    found: datetime | None = connection.execute(
        text("SELECT max(given_at) FROM feedback WHERE job_id = :job"), {"job": job_id}
    ).scalar_one()
    return found


def read_all(connection: Connection, since: datetime | None = None) -> Iterator[Feedback]:
    """All that was said, of every owner, the oldest first; `since`: only what was said then or later."""
    rows = connection.execute(
        text("""
            SELECT doc_text, image2text, speech2text, topics, given_at FROM feedback
            WHERE CAST(:since AS timestamptz) IS NULL OR given_at >= :since ORDER BY given_at, job_id, row_no
        """),
        {"since": since},
    )
    for row in rows:
        yield Feedback(row.doc_text, row.image2text, row.speech2text, tuple(row.topics), row.given_at)
