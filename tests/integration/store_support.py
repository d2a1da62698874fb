"""Jobs in a real database, and the steps of a worker over them, for tests of the store."""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from jobs import accepting, reading, store
from jobs.database import run
from jobs.records import Claim, NewJob, NewText, Outcome, Topic
from jobs.states import JobKind, Lane

TOPICS = (Topic("sport", "Спорт", "Sport", 0.5), Topic("ads", "Реклама", "Ads", 0.4))


def posts(count: int) -> list[NewText]:
    return [NewText(f"текст {number}\t\\ \n", "", "речь", f"id{number}", {"a": "б"}) for number in range(1, count + 1)]


def add(engine: Engine, count: int = 10, *, chunk_rows: int = 4, lane: Lane = Lane.BULK, owner: str = "me") -> UUID:
    job_id, _ = accepting.add_job(
        engine,
        NewJob(owner, JobKind.FILE, "posts.csv", {"columns": ["text"]}),
        posts(count),
        lane=lane,
        chunk_rows=chunk_rows,
    )
    return job_id


def take(connection: Connection, lane: Lane = Lane.BULK, limit: int = 1, seconds: float = 30) -> Claim | None:
    return store.claim(connection, lane=lane, limit=limit, lease_seconds=seconds)


def work(engine: Engine, model: int, lane: Lane = Lane.BULK) -> list[UUID]:
    """Do one claim as a worker does; the jobs that it finished."""

    def step(connection: Connection) -> list[UUID]:
        claimed = take(connection, lane)
        assert claimed is not None
        store.begin(connection, claimed.lease)
        outcomes = [Outcome(read, [0.75, 0.25]) for read in store.read_texts(connection, claimed)]
        return store.finish(connection, claimed.lease, model, outcomes)

    return run(engine, step)


def job_of(engine: Engine, job_id: UUID) -> reading.Job:
    return run(engine, lambda c: reading.get_job(c, "me", job_id))


def recorded(engine: Engine, job_id: UUID) -> list[int]:
    return run(
        engine,
        lambda c: list(
            c.execute(text("SELECT row_no FROM results WHERE job_id = :job ORDER BY 1"), {"job": job_id}).scalars(),
        ),
    )
