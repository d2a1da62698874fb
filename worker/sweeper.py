"""The sweeper process: every few seconds, what was left lying comes back to work, and unheard bells are rung again.

It is a loop of its own rather than a periodic Celery task, because it is the guarantee for everything that Redis and
the workers may lose, and so must depend on neither. Any number of sweepers may run: one at a time does the work.
"""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import date
from functools import partial

from sqlalchemy import Connection, Engine

from jobs import answers, fleet, partitions, sweeping
from jobs.bell import Bell
from jobs.database import make_engine, run
from jobs.errors import UnavailableError
from jobs.records import Sweep
from jobs.settings import Settings

log = logging.getLogger(__name__)

DAYS_SECONDS = 600.0
"""How often partitions are made and dropped, and workers that are gone are forgotten."""

AGAIN_SECONDS = 60.0
"""After so long a day that could not be dropped, because a long upload or export holds the tables, is tried again. Each
try makes everybody wait until it gives up, a second later. The jobs of the day are gone by then, and stay gone."""

TRIM_SECONDS = 60.0
"""How often the cache of answers is looked at. While it has too many, some are removed with each sweep."""


def run_sweeper(settings: Settings, stopping: threading.Event) -> None:
    """Sweep until `stopping` is set. Nothing that Postgres or Redis do ends it."""
    engine = make_engine(settings.database_url, pool_size=1, application="rubrika sweeper", idle_seconds=10)
    bell = Bell(settings)
    days_due = trim_due = 0.0
    log.info("sweeper is ready")
    try:
        while not stopping.is_set():
            try:
                sweep_once(engine, bell)
                if time.monotonic() >= trim_due and not trim_answers(engine, settings.cache_rows):
                    trim_due = time.monotonic() + TRIM_SECONDS
                if time.monotonic() >= days_due:
                    days_due = time.monotonic() + AGAIN_SECONDS
                    for _ in keep_house(engine, settings.retention_days):
                        if stopping.is_set():
                            break
                        sweep_once(engine, bell)
                    days_due = time.monotonic() + DAYS_SECONDS
            except UnavailableError as error:
                log.warning("no sweep: %s", error)
            except Exception:
                # The next sweep may pass; a sweeper that ends would leave dead workers' texts lying.
                log.exception("a sweep failed")
            stopping.wait(settings.sweep_seconds)
    finally:
        bell.close()
        engine.dispose()


def sweep_once(engine: Engine, bell: Bell) -> Sweep | None:
    """One sweep, and the bells that follow from it; None when another sweeper was at it."""
    swept = run(engine, sweeping.sweep)
    if swept is None:
        return None
    if swept.requeued or swept.split or swept.given_up:
        log.warning("leases expired: %d requeued, %d split, %d given up", swept.requeued, swept.split, swept.given_up)
    bell.wake(list(swept.settled))
    if swept.waiting and bell.unheard() == 0:
        bell.ring(min(swept.waiting, max(1, run(engine, fleet.workers_alive))))
    return swept


def trim_answers(engine: Engine, max_rows: int) -> int:
    """Remove some of the answers that the cache has too many of; how many, 0 when it has none."""
    return run(engine, partial(answers.trim, max_rows=max_rows))


def keep_house(engine: Engine, retention_days: int) -> Iterator[None]:
    """Make the partitions of the days ahead, drop those whose time is over, forget workers that are gone.

    A day may have a million jobs. They are deleted some at a time, and after each time this yields, so that sweeps go
    on meanwhile. Where another sweeper is at it, it is left to that one. Raises a lock error when the tables of a day
    are in use: only dropping them has to be tried again.
    """

    def look(connection: Connection) -> list[date]:
        sweeping.forget_workers(connection)
        return sweeping.keep_days(connection, retention_days)

    for day in run(engine, look):
        while deleted := run(engine, partial(partitions.delete_jobs, day=day)):
            yield
        if deleted is None or not run(engine, partial(partitions.drop_day, day=day), attempts=1):
            return
        log.info("dropped the texts and results of %s", day)
        yield
