"""Fixtures for tests on real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests.e2e.service import Service


@pytest.fixture
def service(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A service with a fresh database; nothing runs until the test starts it."""
    logs = tmp_path / "logs"
    logs.mkdir()
    made = Service(settings, logs)
    yield made
    made.stop()
