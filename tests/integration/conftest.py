"""Fixtures for tests of the store and of the REST interface over a real database and a real Redis."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from api.app import create_app
from jobs import fleet
from jobs.database import make_engine, run
from jobs.settings import Settings
from tests.integration.api_support import Worker
from tests.integration.explain_support import Recorder, register
from tests.integration.keys_support import Keyed, new_key
from tests.integration.store_support import TOPICS
from worker.drain import Drain
from worker.heart import Heart


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = make_engine(database, pool_size=8, application="tests")
    yield made
    made.dispose()


@pytest.fixture
def model(engine: Engine) -> int:
    return run(
        engine,
        lambda c: fleet.register_model(c, name="m", version="1", sha256="0" * 64, topics=TOPICS, card={"base": "none"}),
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Any]:
    made = create_app(settings)
    yield made
    context = made.extensions["rubrika"]
    context.bell.close()
    context.engine.dispose()


@pytest.fixture
def client(app: Any) -> FlaskClient:
    client: FlaskClient = app.test_client()
    return client


@pytest.fixture
def anna(app: Any, engine: Engine) -> Keyed:
    return Keyed(app.test_client(), new_key(engine, "anna"))


@pytest.fixture
def boris(app: Any, engine: Engine) -> Keyed:
    return Keyed(app.test_client(), new_key(engine, "boris"))


@pytest.fixture
def worker(app: Any, settings: Settings) -> Iterator[Worker]:
    made = Worker(settings, app.extensions["rubrika"])
    yield made
    made.close()


@pytest.fixture
def busy_worker(worker: Worker) -> Iterator[Worker]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.close()
    thread.join(10)


@pytest.fixture
def classifier() -> Recorder:
    return Recorder()


@pytest.fixture
def heart(engine: Engine, classifier: Recorder) -> Iterator[Heart]:
    made = Heart(engine, worker="test", model_id=register(engine, classifier), device="fake", lease_seconds=10)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def drain(app: Any, settings: Settings, engine: Engine, classifier: Recorder, heart: Heart) -> Iterator[Drain]:
    bell = app.extensions["rubrika"].bell
    made = Drain(settings, engine, bell, classifier, heart.model_id, heart)  # type: ignore[arg-type]
    yield made
    made.close()


@pytest.fixture
def busy_drain(drain: Drain) -> Iterator[Drain]:
    """A drain that goes on for as long as the test does."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.wait(0.01):
            drain.run()

    thread = threading.Thread(target=work)
    thread.start()
    yield drain
    stopping.set()
    thread.join(20)
