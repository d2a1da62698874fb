"""What people say is right: recorded beside a text, kept with a copy of it, and read again to train with.

A judgement outlives the day of its text, which is dropped when it is old, because a person has taken the time to make
it; it goes when the job is deleted, because its owner wants the text gone. What is left of a job that has expired is
forgotten by the same ids.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
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


def take_back(engine: Engine, owner: str, kind: JobKind, job_id: UUID, row_no: int) -> None:
    """Forget what was said of a text, also of one that has expired. Raises `NotFoundError` where nothing was."""
    of_kind = "NOT EXISTS (SELECT 1 FROM jobs WHERE id = :job AND kind <> :kind)"
    mine = {"job": job_id, "owner": owner, "kind": kind, "row": row_no}
    if not _forget(engine, f"row_no = :row AND {of_kind}", mine):
        raise NotFoundError("There is no such judgement.")


def forget_expired(engine: Engine, owner: str, job_id: UUID) -> bool:
    """Forget what was said of the texts of a job that has expired; whether there was something.

    What was said of a job that is there goes with it, see `jobs.ending`.
    """
    return _forget(engine, "NOT EXISTS (SELECT 1 FROM jobs WHERE id = :job)", {"job": job_id, "owner": owner})


def _forget(engine: Engine, which: str, values: Mapping[str, Any]) -> bool:
    statement = text(f"DELETE FROM feedback WHERE job_id = :job AND owner = :owner AND {which}")
    return bool(run(engine, lambda connection: connection.execute(statement, values).rowcount))


def standing(connection: Connection, job_id: UUID) -> tuple[int, datetime | None]:
    """How many texts of this job are judged, and when that was done last: another pair whenever something changes."""
    count, last = connection.execute(
        text("SELECT count(*), max(given_at) FROM feedback WHERE job_id = :job"), {"job": job_id}
    ).one()
    return count, last


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
