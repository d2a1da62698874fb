"""Every query that only reads for an owner: jobs, pages of rows, and posted texts. Histories are in `jobs.history`.

Another owner's job is not found, exactly as a missing one. Texts and results are read by job and day, which is one
partition. Probabilities are always shown with the thresholds of the model that made them.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from jobs.errors import NotFoundError
from jobs.filtering import RowFilter
from jobs.records import Explanation, Job, Model, Piece, Row
from jobs.states import TERMINAL_STATES, ExplanationState, JobKind, JobState

RATE_SECONDS = 20
"""The rate of a running job is that of the chunks which were finished in the last so many seconds."""

SEARCH_SECONDS = 0.1
"""For about so long rows are searched for those that a filter asks for, before a page ends as it is."""

FIRST_WINDOW_TEXTS = 2_000
FIRST_WINDOW_RESULTS = 20_000
"""Rows of the first window of a search: some 20 ms of reading."""

PAGE_BYTES = 8 << 20
"""A page of rows ends with the row that brings it to so much: of a thousand rows each may have a million characters."""

JOB = """
    id, day, owner, kind, state, filename, layout, model_id, rows_total, rows_succeeded, rows_failed, rows_cached,
    created_at, started_at, finished_at
"""
ROW = """
    t.job_id, t.row_no, t.doc_text, t.image2text, t.speech2text, t.custom_id, t.extra,
    r.model_id, r.probabilities, coalesce(r.truncated, false) AS truncated,
    r.error_code, r.error_message, r.error_column,
    (SELECT f.topics FROM feedback f WHERE f.job_id = t.job_id AND f.row_no = t.row_no) AS feedback
"""
EXPLANATION = """
    e.state AS e_state, e.with_text AS e_with_text, e.asked_at AS e_asked_at, e.finished_at AS e_finished_at,
    e.fields AS e_fields, e.starts AS e_starts, e.ends AS e_ends, e.weights AS e_weights,
    e.error_code AS e_error_code, e.error_message AS e_error_message
"""
EXPLAINED = "LEFT JOIN explanations e ON e.job_id = t.job_id AND e.row_no = t.row_no"
JOINED = "texts t LEFT JOIN results r ON r.job_id = t.job_id AND r.day = t.day AND r.row_no = t.row_no"


def job_of(row: Any) -> Job:
    """A row of a query for `JOB`."""
    values = dict(row._mapping)
    return Job(**{**values, "kind": JobKind(values["kind"]), "state": JobState(values["state"])})


def _row(row: Any) -> Row:
    return _row_of(dict(row._mapping))


def _row_of(values: dict[str, Any]) -> Row:
    arrays = {name: None if values[name] is None else tuple(values[name]) for name in ("probabilities", "feedback")}
    return Row(**{**values, "extra": values["extra"] or {}, **arrays})


# --- jobs -----------------------------------------------------------------------------------------------------------


def get_job(connection: Connection, owner: str, job_id: UUID, kind: JobKind = JobKind.FILE) -> Job:
    """One job with its rate and its place in the queue. Raises `NotFoundError`."""
    row = connection.execute(
        text(f"SELECT {JOB} FROM jobs WHERE id = :job AND owner = :owner AND kind = :kind"),
        {"job": job_id, "owner": owner, "kind": kind},
    ).one_or_none()
    if row is None:
        raise NotFoundError("There is no such job.")
    return with_rate(connection, job_of(row))


def with_rate(connection: Connection, job: Job) -> Job:
    """The job with its rate, or with its place in the queue while it waits."""
    done = job.rows_succeeded + job.rows_failed
    if job.finished_at is not None:
        seconds = (job.finished_at - (job.started_at or job.created_at)).total_seconds()
        return replace(job, rows_per_second=done / seconds if seconds > 0 else None)
    if job.state is JobState.QUEUED:
        # The jobs of which some part waits for an earlier turn than the first part of this one.
        ahead: int = connection.execute(
            text("""
                SELECT count(DISTINCT other.job_id)
                FROM (SELECT lane, turn FROM chunks WHERE job_id = :job AND state = 'queued'
                      ORDER BY first_row LIMIT 1) AS mine
                JOIN chunks AS other ON other.state = 'queued' AND other.lane = mine.lane
                    AND (other.turn, other.job_id) < (mine.turn, :job)
            """),
            {"job": job.id},
        ).scalar_one()
        return replace(job, queue_position=ahead)
    rows, seconds = connection.execute(
        text("""
            SELECT coalesce(sum(row_count), 0), extract(epoch FROM now() - greatest(
                (SELECT started_at FROM jobs WHERE id = :job), now() - make_interval(secs => :window)))::float
            FROM chunks WHERE job_id = :job AND state = 'done'
              AND finished_at > now() - make_interval(secs => :window)
        """),
        {"job": job.id, "window": RATE_SECONDS},
    ).one()
    return replace(job, rows_per_second=rows / seconds if seconds and seconds > 0 and rows else None)


# --- rows of a file -------------------------------------------------------------------------------------------------


def page_of_rows(connection: Connection, job: Job, *, after: int, limit: int) -> list[Row]:
    """Rows of a job in file order, those after row number `after`; also while the job runs.

    `limit` of them, or fewer when they are `PAGE_BYTES` long together.
    """
    upto = min(after + limit, job.rows_total)
    return rows_by_number(connection, job, of_a_page(connection, job, range(after + 1, upto + 1)))


def search_rows(
    connection: Connection,
    job: Job,
    wanted: RowFilter,
    models: Sequence[Model],
    thresholds: Mapping[str, float],
    *,
    after: int,
    limit: int,
    seconds: float = SEARCH_SECONDS,
) -> tuple[list[Row], int]:
    """Up to `limit` of the wanted rows after row `after`, in file order, and the last row that was looked at; fewer
    when they are `PAGE_BYTES` long together.

    A filter that matches nothing in a million rows must not hold a request for as long as reading them takes. So the
    rows are searched in windows, the first one small and each further one as large as the time left allows, judged by
    the last; after about `seconds` the search ends with what it has, to be continued from where it stands.
    """
    condition, values = wanted.conditions(models, thresholds)
    source = JOINED if wanted.reads_texts else "results r"
    table = "t" if wanted.reads_texts else "r"
    query = f"""
        SELECT {table}.row_no FROM {source}
        WHERE {table}.job_id = %(job)s AND {table}.day = %(day)s
          AND {table}.row_no > %(after)s AND {table}.row_no <= %(upto)s AND {condition}
        ORDER BY 1 LIMIT %(limit)s
    """
    values |= {"job": job.id, "day": job.day}
    deadline = time.monotonic() + seconds
    size = FIRST_WINDOW_TEXTS if wanted.reads_texts else FIRST_WINDOW_RESULTS
    found: list[int] = []
    while after < job.rows_total and len(found) < limit:
        began = time.monotonic()
        upto = min(after + size, job.rows_total)
        found += connection.exec_driver_sql(
            query,
            values | {"after": after, "upto": upto, "limit": limit - len(found)},
        ).scalars()
        left = deadline - time.monotonic()
        affordable = 0.7 * left * (upto - after) / max(time.monotonic() - began, 1e-6)
        after = found[-1] if len(found) == limit else upto
        if left <= seconds / 5:
            break
        size = max(1, int(min(affordable, 8 * size)))
    fitting = of_a_page(connection, job, found)
    if fitting and len(fitting) < len(found):
        after = fitting[-1]
    return rows_by_number(connection, job, fitting), after


def of_a_page(connection: Connection, job: Job, numbers: Sequence[int]) -> list[int]:
    """The first of these rows, up to the one that brings them to `PAGE_BYTES`.

    Postgres goes from row to row, so that none is looked at which is not on the page. Of texts it knows the length
    without reading them; the other columns of a file have to be written out for it.
    """
    if not numbers:
        return []
    fitting = connection.exec_driver_sql(
        """
        WITH RECURSIVE page(rows, bytes) AS (
            SELECT 0, 0::bigint
            UNION ALL
            SELECT page.rows + 1, page.bytes + its.bytes
            FROM page CROSS JOIN LATERAL (
                SELECT octet_length(doc_text) + octet_length(image2text) + octet_length(speech2text)
                       + coalesce(octet_length(custom_id), 0) + coalesce(octet_length(extra::text), 0) AS bytes
                FROM texts
                WHERE job_id = %(job)s AND day = %(day)s AND row_no = (%(rows)s::integer[])[page.rows + 1] OFFSET 0) its
            WHERE page.bytes < %(most)s)
        SELECT max(rows) FROM page
        """,
        {"job": job.id, "day": job.day, "rows": list(numbers), "most": PAGE_BYTES},
    ).scalar_one()
    return list(numbers[:fitting])


def rows_by_number(connection: Connection, job: Job, numbers: Sequence[int]) -> list[Row]:
    """The rows of these numbers, in file order."""
    rows = connection.execute(
        text(f"""
            SELECT {ROW} FROM {JOINED}
            WHERE t.job_id = :job AND t.day = :day AND t.row_no = ANY(:rows) ORDER BY t.row_no
        """),
        {"job": job.id, "day": job.day, "rows": list(numbers)},
    )
    return [_row(row) for row in rows]


# --- texts that were posted -----------------------------------------------------------------------------------------


def texts_of_job(
    connection: Connection, owner: str, job_id: UUID, row_no: int | None = None, *, kind: JobKind = JobKind.TEXTS
) -> list[tuple[Job, Row]]:
    """The texts of one request to `/classifications`, or the one with `row_no`, with their explanations.

    With `kind` a row of a file is read the same way. Raises `NotFoundError` for none.
    """
    rows = connection.execute(
        text(f"""
            SELECT {prefixed(JOB)}, {ROW}, {EXPLANATION} FROM jobs j JOIN texts t ON t.job_id = j.id AND t.day = j.day
            LEFT JOIN results r ON r.job_id = t.job_id AND r.day = t.day AND r.row_no = t.row_no {EXPLAINED}
            WHERE j.id = :job AND j.owner = :owner AND j.kind = :kind
              AND (CAST(:row AS integer) IS NULL OR t.row_no = :row)
            ORDER BY t.row_no
        """),
        {"job": job_id, "owner": owner, "kind": kind, "row": row_no},
    ).all()
    if not rows:
        raise NotFoundError("There is no such text.")
    return [pair_of(row) for row in rows]


def is_finished(connection: Connection, job_id: UUID) -> bool:
    """Whether the job has reached a terminal state (or is gone)."""
    state = connection.execute(text("SELECT state FROM jobs WHERE id = :job"), {"job": job_id}).scalar_one_or_none()
    return state is None or JobState(state) in TERMINAL_STATES


def prefixed(columns: str) -> str:
    """Columns of `j` under names that cannot be taken for those of a text."""
    return ", ".join(f"j.{name.strip()} AS j_{name.strip()}" for name in columns.split(","))


def pair_of(row: Any) -> tuple[Job, Row]:
    """A row of a query for a job (`prefixed`), a text (`ROW`) and its `EXPLANATION`; `p_` are things of the page."""
    values = dict(row._mapping)
    job = {name.removeprefix("j_"): value for name, value in values.items() if name.startswith("j_")}
    explained = {name.removeprefix("e_"): value for name, value in values.items() if name.startswith("e_")}
    rest = {name: value for name, value in values.items() if not name.startswith(("j_", "e_", "p_"))}
    found = replace(_row_of(rest), explanation=_explanation_of(explained))
    return Job(**{**job, "kind": JobKind(job["kind"]), "state": JobState(job["state"])}), found


def _explanation_of(values: dict[str, Any]) -> Explanation | None:
    if values["state"] is None:
        return None
    fields, starts, ends, weights = (values.pop(name) for name in ("fields", "starts", "ends", "weights"))
    pieces = of_topics = None
    if weights is not None:
        pieces = tuple(Piece(*place) for place in zip(fields, starts, ends, strict=True))
        size = len(pieces)
        of_topics = tuple(tuple(weights[first : first + size]) for first in range(0, len(weights), size or 1))
    return Explanation(**{**values, "state": ExplanationState(values["state"])}, pieces=pieces, weights=of_topics)
