"""What an owner has had classified: the files and the posted texts, newest first, searched and filtered.

Ids sort by time, so a list goes on behind the id on which the page before ended, whatever is added meanwhile.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from jobs.filtering import RowStatus, all_words
from jobs.reading import (
    EXPLAINED,
    EXPLANATION,
    JOB,
    PAGE_BYTES,
    ROW,
    SEARCH_SECONDS,
    job_of,
    pair_of,
    prefixed,
    with_rate,
)
from jobs.records import Job, Row
from jobs.states import JobState

FIRST_WINDOW = 200
"""Requests of the first window of a search: a few milliseconds when each of them holds one text."""

CLOCKS_APART = timedelta(minutes=5)
"""An id carries the time of the clock that made it, `created_at` that of Postgres; so far they may be apart."""

WEIGHT_BYTES = 64
"""What a page has for each weight of an explanation: a field, two places and a number."""

BEHIND_ALL = 999_999_999
"""More than the rows of any request."""

Place = tuple[UUID, int]
"""A request and a row of it: what comes next stands behind that row, or in an older request."""


@dataclass(frozen=True)
class Wanted:
    """Which entries of a history are asked for; what is not given is not asked.

    `since` is included, `until` is not. `words` must all stand in the texts or in `custom_id` (of a file: in its name),
    wherever and in whatever case, with «е» and «ё» as one letter.
    """

    words: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    status: RowStatus | None = None
    """Of a text."""
    states: tuple[JobState, ...] = ()
    """Of a file; one of these."""

    @property
    def is_search(self) -> bool:
        """Whether a page may have to pass over many texts before it has enough."""
        return bool(self.words) or self.status is not None

    def of_jobs(self) -> tuple[str, dict[str, Any]]:
        """The times as a condition on `jobs`, by the index of its ids, and the values that it refers to."""
        found, values = [], dict[str, Any]()
        if self.since is not None:
            found.append("id >= %(since_id)s AND created_at >= %(since)s")
            values |= {"since": self.since, "since_id": str(_first_id(self.since - CLOCKS_APART))}
        if self.until is not None:
            found.append("id < %(until_id)s AND created_at < %(until)s")
            values |= {"until": self.until, "until_id": str(_first_id(self.until + CLOCKS_APART))}
        return " AND ".join(found) or "true", values

    def of_texts(self) -> tuple[str, dict[str, Any]]:
        """What is asked of texts (`t`) and their results (`r`), and the values."""
        found, values = [], dict[str, Any]()
        if self.status is RowStatus.QUEUED:
            found.append("r.job_id IS NULL")
        elif self.status is not None:
            found.append(f"r.error_code IS {'NOT NULL' if self.status is RowStatus.FAILED else 'NULL'}")
            found.append("r.job_id IS NOT NULL")
        if self.words:
            condition, values = all_words(self.words)
            found.append(condition)
        return " AND ".join(found) or "true", values


EVERYTHING = Wanted()


def list_files(
    connection: Connection,
    owner: str,
    *,
    before: UUID | None,
    limit: int,
    wanted: Wanted = EVERYTHING,
) -> list[Job]:
    """Files, newest first, older than `before`. There are few enough of them to search their names in one go."""
    times, values = wanted.of_jobs()
    named = "true"
    if wanted.words:
        named, more = all_words(wanted.words, "coalesce(filename, '')")
        values |= more
    rows = connection.exec_driver_sql(
        f"""
            SELECT {JOB} FROM jobs WHERE owner = %(owner)s AND kind = 'file'
              AND (%(before)s::uuid IS NULL OR id < %(before)s) AND (%(all)s OR state = ANY(%(states)s))
              AND {times} AND {named}
            ORDER BY id DESC LIMIT %(limit)s
        """,
        values
        | {
            "owner": owner,
            "before": None if before is None else str(before),
            "limit": limit,
            "states": [str(state) for state in wanted.states],
            "all": not wanted.states,
        },
    ).all()
    return [with_rate(connection, job_of(row)) for row in rows]


def list_texts(
    connection: Connection,
    owner: str,
    *,
    before: Place | None,
    limit: int,
    wanted: Wanted = EVERYTHING,
    seconds: float = SEARCH_SECONDS,
) -> tuple[list[tuple[Job, Row]], Place | None]:
    """Up to `limit` posted texts, newest request first and in the order of the request, and where to go on; fewer
    when they are `PAGE_BYTES` long together.

    A search looks at the requests in windows, each as large as the time that is left allows, so that one which finds
    nothing holds nobody for long: after about `seconds` it ends with what it has. The second value is None when there
    is nothing behind.
    """
    found: list[tuple[Job, Row]] = []
    room = PAGE_BYTES
    deadline = time.monotonic() + seconds
    # Without a search every request fills the page by a text at least, so a single window has them all.
    size = FIRST_WINDOW if wanted.is_search else limit + 2
    while True:
        began = time.monotonic()
        last = _last_of_window(connection, owner, before, size, wanted)
        rows, room = _texts_of_window(connection, owner, before, last, limit + 1 - len(found), room, wanted)
        found += rows
        if len(found) > limit or room <= 0:
            found = found[:limit]
            job, row = found[-1]
            return found, (job.id, row.row_no)
        if last is None:
            return found, None
        before = (last, BEHIND_ALL)
        left = deadline - time.monotonic()
        if left <= seconds / 5:
            return found, before
        size = max(2, int(min(8 * size, 0.7 * left * size / max(time.monotonic() - began, 1e-6))))


def _last_of_window(connection: Connection, owner: str, before: Place | None, size: int, wanted: Wanted) -> UUID | None:
    """The oldest request of the next `size`; None when there are fewer, so that nothing is behind them."""
    times, values = wanted.of_jobs()
    last: UUID | None = connection.exec_driver_sql(
        f"""
            SELECT id FROM jobs WHERE owner = %(owner)s AND kind = 'texts'
              AND (%(job)s::uuid IS NULL OR id <= %(job)s) AND {times}
            ORDER BY id DESC OFFSET %(size)s LIMIT 1
        """,
        values | {"owner": owner, "job": None if before is None else str(before[0]), "size": size - 1},
    ).scalar_one_or_none()
    return last


def _texts_of_window(
    connection: Connection,
    owner: str,
    before: Place | None,
    last: UUID | None,
    limit: int,
    room: int,
    wanted: Wanted,
) -> tuple[list[tuple[Job, Row]], int]:
    """Up to `limit` texts, up to the one that brings them to `room` bytes, and how much room is left then."""
    times, values = wanted.of_jobs()
    asked, more = wanted.of_texts()
    # The lengths of texts are known to Postgres without reading them, so only those of the page are.
    rows = connection.exec_driver_sql(
        f"""
            SELECT * FROM (
                SELECT *, sum(p_bytes) OVER (ORDER BY j_id DESC, row_no ROWS UNBOUNDED PRECEDING) AS p_upto FROM (
                    SELECT {prefixed(JOB)}, {ROW}, {EXPLANATION},
                           octet_length(doc_text) + octet_length(image2text) + octet_length(speech2text)
                               + %(weight)s * coalesce(cardinality(e.weights), 0) AS p_bytes
                    FROM (SELECT * FROM jobs WHERE owner = %(owner)s AND kind = 'texts'
                            AND (%(job)s::uuid IS NULL OR id <= %(job)s) AND (%(last)s::uuid IS NULL OR id >= %(last)s)
                            AND {times}) j
                    JOIN texts t ON t.job_id = j.id AND t.day = j.day
                    LEFT JOIN results r ON r.job_id = t.job_id AND r.day = t.day AND r.row_no = t.row_no {EXPLAINED}
                    WHERE (%(job)s::uuid IS NULL OR j.id < %(job)s OR t.row_no > %(row)s) AND {asked}
                    ORDER BY j.id DESC, t.row_no LIMIT %(limit)s) AS wanted
                ) AS measured
            WHERE p_upto - p_bytes < %(room)s ORDER BY j_id DESC, row_no
        """,
        values
        | more
        | {
            "owner": owner,
            "job": None if before is None else str(before[0]),
            "row": 0 if before is None else before[1],
            "last": None if last is None else str(last),
            "limit": limit,
            "room": room,
            "weight": WEIGHT_BYTES,
        },
    ).all()
    return [pair_of(row) for row in rows], room - int(rows[-1].p_upto) if rows else room


def _first_id(moment: datetime) -> UUID:
    """The smallest id of that millisecond (see `jobs.records.new_id`)."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)
