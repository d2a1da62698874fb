"""Fixtures for tests of the REST interface over a real database and a real Redis."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from jobs.settings import Settings
from tests.integration.api_support import Worker


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
