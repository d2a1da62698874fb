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
from tests.integration.store_support import TOPICS


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
