"""What a request may use: the settings, Postgres, the bell, and the models that workers have registered."""

import time
from dataclasses import dataclass, field
from typing import cast

from flask import current_app
from sqlalchemy import Engine

from api.cookies import SessionCookie, secret_of
from api.deadlines import Deadlines
from api.metrics import Metrics
from api.places import Places
from api.streams import Streams
from jobs import fleet
from jobs.bell import Bell
from jobs.database import transaction
from jobs.errors import NotFoundError
from jobs.glances import Glances
from jobs.limiting import Limiter
from jobs.records import Model
from jobs.settings import Settings
from jobs.traces import Traces, make_traces
from jobs.waiting import Waiting

OWNER = "local"
"""The one owner of everything while keys are off."""


class Models:
    """The registered models, read again when they are older than `fresh_seconds` or one is not among them."""

    def __init__(self, engine: Engine, fresh_seconds: float = 2.0) -> None:
        self._engine = engine
        self._fresh_seconds = fresh_seconds
        self._read_at = float("-inf")
        self._models: list[Model] = []

    def all(self) -> list[Model]:
        """All registered models, the active one first."""
        if time.monotonic() - self._read_at > self._fresh_seconds:
            with transaction(self._engine) as connection:
                self._models = fleet.models(connection)
            self._read_at = time.monotonic()
        return self._models

    def active(self) -> Model:
        """The model that new texts are given to. Raises `NotFoundError` before any worker has registered one."""
        for model in self.all():
            if model.active:
                return model
        raise NotFoundError("No worker has loaded a model yet.")

    def by_id(self, model_id: int | None) -> Model | None:
        """The model of this id; None for none."""
        if model_id is None:
            return None
        for _ in range(2):
            for model in self.all():
                if model.id == model_id:
                    return model
            self._read_at = float("-inf")
        raise NotFoundError("There is no such model.")


@dataclass(frozen=True)
class Context:
    """One per process, made by the app factory."""

    settings: Settings
    engine: Engine
    bell: Bell
    models: Models = field(init=False)
    streams: Streams = field(init=False)
    places: Places = field(init=False)
    deadlines: Deadlines = field(init=False, default_factory=Deadlines)
    cookie: SessionCookie | None = field(init=False)
    """How browsers are known again; none while keys are off."""
    limiter: Limiter = field(init=False)
    waiting: Waiting = field(init=False)
    metrics: Metrics = field(init=False, default_factory=Metrics)
    glances: Glances = field(init=False)
    traces: Traces = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", Models(self.engine))
        object.__setattr__(self, "glances", Glances(self.engine))
        object.__setattr__(self, "traces", make_traces(self.settings, "api"))
        # Half of the threads at most, so that readers of streams never keep everybody else out.
        half = self.settings.api_threads // 2
        streams = Streams(min(self.settings.max_streams, half), self.metrics.streams)
        object.__setattr__(self, "streams", streams)
        # And no key can have more than half of them, whatever it does with them.
        object.__setattr__(self, "places", Places(max(1, min(self.settings.max_held_requests, half))))
        cookie = SessionCookie(secret_of(self.settings)) if self.settings.auth == "keys" else None
        object.__setattr__(self, "cookie", cookie)
        limiter = Limiter(self.settings.redis_url, processes=self.settings.api_processes)
        object.__setattr__(self, "limiter", limiter)
        object.__setattr__(self, "waiting", Waiting(self.engine, self.settings.max_waiting_rows))

    def close(self) -> None:
        """Give all connections back."""
        self.bell.close()
        self.limiter.close()
        self.engine.dispose()


def context() -> Context:
    """The context of the app that serves this request."""
    return cast(Context, current_app.extensions["rubrika"])
