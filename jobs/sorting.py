"""Rows of a job by the probability of a topic, a page at a time: one pass over its results for each page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from jobs.filtering import RowFilter, RowStatus, probability_of, real
from jobs.reading import JOINED, SEARCH_SECONDS, of_a_page, rows_by_number
from jobs.records import Job, Model, Row

TEXTS_OF_A_PASS = 20_000
"""Where words decide, a pass takes so many rows, and their texts are read as far as the time allows."""

WINDOW = 500
"""Texts that are read between two looks at the clock."""


@dataclass(frozen=True)
class Order:
    """By which topic, and from which end."""

    topic: str
    descending: bool


@dataclass(frozen=True)
class Place:
    """A row in the order, and how many rows come up to it."""

    probability: float
    row_no: int
    seen: int


def sorted_rows(
    connection: Connection,
    job: Job,
    order: Order,
    wanted: RowFilter,
    models: Sequence[Model],
    thresholds: Mapping[str, float],
    *,
    after: Place | None,
    limit: int,
) -> tuple[list[Row], Place | None, int]:
    """Up to `limit` of the wanted rows behind `after`, the place to go on from (none: that was all), and rows seen.

    Rows without a probability of the topic are in no order, so they are left out. Equal rows stand in file order.
    A page by words, or of long rows, may be short while there is a place to go on from, as in `reading.search_rows`.
    """
    seen = after.seen if after else 0
    if wanted.status not in {None, RowStatus.SUCCEEDED}:
        return [], None, seen
    condition, values = wanted.conditions(models, thresholds)
    by_words = wanted.reads_texts
    began = time.monotonic()
    block = TEXTS_OF_A_PASS if by_words else limit
    candidates = _pass(connection, job, order, "true" if by_words else condition, models, after, block + 1)
    more = len(candidates) > block
    del candidates[block:]
    numbers = [row_no for row_no, _ in candidates]
    looked = len(candidates)
    if by_words:
        # A pass over a large file takes longer than a search may; then at least as long is spent on what it found.
        deadline = time.monotonic() + max(SEARCH_SECONDS, time.monotonic() - began)
        numbers, looked = _with_words(connection, job, numbers, condition, values, limit, deadline)
        more = more or looked < len(candidates)
    fitting = of_a_page(connection, job, numbers)
    if fitting and len(fitting) < len(numbers):
        numbers, more = fitting, True
        looked = 1 + next(at for at, (row_no, _) in enumerate(candidates) if row_no == fitting[-1])
    rows = {row.row_no: row for row in rows_by_number(connection, job, numbers)}
    place = Place(candidates[looked - 1][1], candidates[looked - 1][0], seen + looked) if more else None
    return [rows[number] for number in numbers], place, seen + looked


def _pass(
    connection: Connection,
    job: Job,
    order: Order,
    condition: str,
    models: Sequence[Model],
    after: Place | None,
    limit: int,
) -> list[tuple[int, float]]:
    """The next rows in the order with their probabilities."""
    probability = probability_of(order.topic, models)
    behind = "true"
    if after is not None:
        last = real(after.probability)
        sign = "<" if order.descending else ">"
        behind = f"(p {sign} {last} OR (p = {last} AND row_no > %(row)s))"
    found = connection.exec_driver_sql(
        f"""
            SELECT row_no, p FROM (
                SELECT r.row_no, {probability} AS p FROM results r
                WHERE r.job_id = %(job)s AND r.day = %(day)s AND {condition}
            ) AS known
            WHERE p IS NOT NULL AND {behind}
            ORDER BY p {"DESC" if order.descending else "ASC"}, row_no LIMIT %(limit)s
        """,
        {"job": job.id, "day": job.day, "row": after.row_no if after else 0, "limit": limit},
    )
    return [(row.row_no, row.p) for row in found]


def _with_words(
    connection: Connection,
    job: Job,
    numbers: Sequence[int],
    condition: str,
    values: Mapping[str, Any],
    limit: int,
    deadline: float,
) -> tuple[list[int], int]:
    """Those of `numbers` that meet the condition on texts, and how many were looked at before there were enough."""
    query = f"""
        SELECT t.row_no FROM {JOINED}
        WHERE t.job_id = %(job)s AND t.day = %(day)s AND t.row_no = ANY(%(rows)s) AND {condition}
    """
    found: list[int] = []
    for start in range(0, len(numbers), WINDOW):
        window = list(numbers[start : start + WINDOW])
        matching = connection.exec_driver_sql(query, {**values, "job": job.id, "day": job.day, "rows": window})
        fitting = set(matching.scalars())
        for looked, number in enumerate(window, start + 1):
            if number in fitting:
                found.append(number)
                if len(found) == limit:
                    return found, looked
        if time.monotonic() >= deadline:
            return found, start + len(window)
    return found, len(numbers)
