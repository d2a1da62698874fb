"""The queries of the fleet: which models there are, which one is active, and which workers are alive."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from jobs.errors import NotFoundError
from jobs.records import Model, Topic

log = logging.getLogger(__name__)

WORKER_ALIVE_SECONDS = 15


@dataclass(frozen=True)
class ActiveFolder:
    """The model that new texts are given to, and where it lies (none: not known)."""

    sha256: str
    folder: str | None


@dataclass(frozen=True)
class WorkerState:
    """A worker that has given a sign of life lately. One on `trial` computes only what names its model."""

    name: str
    model_id: int
    device: str
    trial: bool


def register_model(
    connection: Connection,
    *,
    name: str,
    version: str,
    sha256: str,
    topics: Sequence[Topic],
    card: Mapping[str, Any],
    folder: str | None = None,
    activate: bool = True,
) -> int:
    """Note a model that can be loaded, and make it the active one if `activate`; return its id.

    The same weights (by SHA-256 of the model folder) keep their id; thresholds and card are what the folder says now.
    Others load the active model from its folder, so only who activates it says where that is.
    """
    _lock_models(connection)
    named = text("SELECT EXISTS (SELECT FROM models WHERE (name, version) = (:name, :version) AND sha256 <> :sha256)")
    if connection.execute(named, {"name": name, "version": version, "sha256": sha256}).scalar_one():
        log.warning(
            "%s@%s was the name of another model before: give each a version of its own, so that people can tell "
            "their results apart",
            name,
            version,
        )
    if activate:
        others = text("UPDATE models SET active = false WHERE active AND sha256 <> :sha256")
        connection.execute(others, {"sha256": sha256})
    model_id: int = connection.execute(
        text("""
            INSERT INTO models (name, version, sha256, topics, topic_ids, thresholds, card, folder, active)
            VALUES (:name, :version, :sha256, CAST(:topics AS jsonb), :ids, :thresholds, CAST(:card AS jsonb), :folder,
                    :activate)
            ON CONFLICT (sha256) DO UPDATE SET name = excluded.name, version = excluded.version,
                topics = excluded.topics, thresholds = excluded.thresholds, card = excluded.card,
                folder = CASE WHEN models.active AND NOT excluded.active THEN coalesce(models.folder, excluded.folder)
                              ELSE coalesce(excluded.folder, models.folder) END,
                active = models.active OR excluded.active
            RETURNING id
        """),
        {
            "name": name,
            "version": version,
            "sha256": sha256,
            "topics": json.dumps([vars(topic) for topic in topics], ensure_ascii=False, allow_nan=False),
            "ids": [topic.id for topic in topics],
            "thresholds": [topic.threshold for topic in topics],
            "card": json.dumps(card, ensure_ascii=False, allow_nan=False),
            "folder": folder,
            "activate": activate,
        },
    ).scalar_one()
    return model_id


def models(connection: Connection) -> list[Model]:
    """All registered models, the active one first, then the newest."""
    rows = connection.execute(
        text("""
            SELECT id, name, version, sha256, topics, card, active, registered_at, folder FROM models
            ORDER BY active DESC, registered_at DESC, id DESC
        """),
    )
    return [Model(**{**row._mapping, "topics": tuple(Topic(**topic) for topic in row.topics)}) for row in rows]


def active_model(connection: Connection) -> Model:
    """The model that new texts are given to. Raises `NotFoundError` before the first worker has registered one."""
    for model in models(connection):
        if model.active:
            return model
    raise NotFoundError("No worker has loaded a model yet.")


def active_folder(connection: Connection) -> ActiveFolder | None:
    """The active model by its digest and its folder; None before the first worker has registered one."""
    row = connection.execute(text("SELECT sha256, folder FROM models WHERE active")).one_or_none()
    return None if row is None else ActiveFolder(row.sha256, row.folder)


def is_still_active(connection: Connection, sha256: str | None) -> bool:
    """Whether this model (None: none at all) is the active one, and stays that until the transaction ends."""
    _lock_models(connection)
    active = active_folder(connection)
    return (None if active is None else active.sha256) == sha256


def _lock_models(connection: Connection) -> None:
    """One at a time registers and activates; reading goes on."""
    connection.execute(text("LOCK TABLE models IN SHARE ROW EXCLUSIVE MODE"))


def worker_seen(connection: Connection, name: str, model_id: int, device: str, *, trial: bool = False) -> None:
    """A worker's sign of life."""
    connection.execute(
        text("""
            INSERT INTO workers (name, model_id, device, trial) VALUES (:name, :model, :device, :trial)
            ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp(), model_id = excluded.model_id
        """),
        {"name": name, "model": model_id, "device": device, "trial": trial},
    )


def worker_left(connection: Connection, name: str) -> None:
    """A worker has ended in order: from now on it is not among those that are alive.

    Its entry stays until it is forgotten (`sweeping.forget_workers`), because it says when its model was last here.
    """
    connection.execute(
        text("UPDATE workers SET seen_at = least(seen_at, now() - make_interval(secs => :alive)) WHERE name = :name"),
        {"name": name, "alive": WORKER_ALIVE_SECONDS},
    )


def workers_alive(connection: Connection) -> int:
    """How many workers that compute new texts, and hear bells, have given a sign of life lately."""
    count: int = connection.execute(
        text("SELECT count(*) FROM workers WHERE NOT trial AND seen_at > now() - make_interval(secs => :seconds)"),
        {"seconds": WORKER_ALIVE_SECONDS},
    ).scalar_one()
    return count


def workers(connection: Connection) -> list[WorkerState]:
    """The workers that have given a sign of life lately, also those on trial, by name."""
    rows = connection.execute(
        text("""
            SELECT name, model_id, device, trial FROM workers
            WHERE seen_at > now() - make_interval(secs => :seconds) ORDER BY name
        """),
        {"seconds": WORKER_ALIVE_SECONDS},
    )
    return [WorkerState(row.name, row.model_id, row.device, row.trial) for row in rows]


def models_alive(connection: Connection) -> dict[int, int]:
    """How many live workers run each model, by its id; also those on trial, who compute what names it."""
    rows = connection.execute(
        text("""
            SELECT model_id, count(*) AS workers FROM workers
            WHERE seen_at > now() - make_interval(secs => :seconds) GROUP BY 1
        """),
        {"seconds": WORKER_ALIVE_SECONDS},
    )
    return {row.model_id: row.workers for row in rows}


def oldest_waiting_seconds(connection: Connection) -> float | None:
    """How long the chunk that has waited longest has waited; None when nothing waits."""
    seconds: float | None = connection.execute(
        text("SELECT extract(epoch FROM now() - min(queued_at))::float FROM chunks WHERE state = 'queued'"),
    ).scalar_one()
    return seconds


@dataclass(frozen=True)
class Load:
    """How many texts wait, and how many are being computed."""

    waiting: int
    running: int


def load(connection: Connection) -> Load:
    """What is in the queue and in work now, texts and rows of files together."""
    row = connection.execute(
        text("""
            SELECT coalesce(sum(row_count) FILTER (WHERE state = 'queued'), 0) AS waiting,
                   coalesce(sum(row_count) FILTER (WHERE state = 'running'), 0) AS running
            FROM chunks WHERE state IN ('queued', 'running')
        """),
    ).one()
    return Load(row.waiting, row.running)
