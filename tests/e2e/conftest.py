"""Fixtures for tests on real processes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from jobs.migrate import upgrade
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.browser import CHROMIUM, Watch, open_browser
from tests.e2e.chaos import Proxy
from tests.e2e.nursery import Nursery
from tests.e2e.service import Service

expect.set_options(timeout=20_000)  # As long as everything else of a page is waited for.


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where processes begin with everything imported."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def service(settings: Settings, tmp_path: Path, nursery: Nursery) -> Iterator[Service]:
    """A service with a fresh database; nothing runs until the test starts it."""
    logs, temporary = tmp_path / "logs", tmp_path / "temporary"
    logs.mkdir()
    temporary.mkdir()
    # Those that are killed leave behind what they would have removed.
    made = Service(settings, logs, {"TMPDIR": str(temporary)}, launch=nursery.launch)
    yield made
    made.discard()


@pytest.fixture
def own_valkey(service: Service, open_folder: Path) -> Iterator[EmbeddedValkey]:
    """A Redis that the test may stop, kill and empty; the service uses it."""
    server = EmbeddedValkey(open_folder)
    server.start()
    service.settings = replace(service.settings, redis_url=server.url)
    yield server
    service.discard()
    server.stop()


@pytest.fixture
def proxy(service: Service, own_valkey: EmbeddedValkey) -> Iterator[Proxy]:
    """A network between the service and its Redis, which can be lost."""
    made = Proxy(Path(own_valkey.url.removeprefix("redis+socket://")))
    service.settings = replace(service.settings, redis_url=f"redis://127.0.0.1:{made.port}/0")
    yield made
    service.discard()
    made.close()


@pytest.fixture
def own_postgres(service: Service, open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres that the test may restart; the service uses it."""
    server = EmbeddedPostgres(open_folder)
    server.start()
    upgrade(server.url)
    service.settings = replace(service.settings, database_url=server.url)
    yield server
    service.discard()
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, started once for a file of tests."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing; with CI set that is a failure")
        pytest.skip(f"{CHROMIUM} is missing (apt install chromium)")
    with open_browser() as opened:
        yield opened


@pytest.fixture
def context(browser: Browser, service: Service) -> Iterator[BrowserContext]:
    """A visitor who was never here before. Locale and colours of the machine are those of no real one on purpose."""
    made = browser.new_context(base_url=service.url, locale="de-DE", viewport={"width": 1280, "height": 900})
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def watch(context: BrowserContext, service: Service, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """What the pages of the visitor ask for and complain of; a test that never asserts that it is clean has failed."""
    made = Watch(service.url).over(context)
    failed = request.session.testsfailed
    yield made
    # A test that has failed before it came to that says enough already.
    assert made.asserted or request.session.testsfailed > failed, "nobody asserted that the pages were clean"


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Page:
    """An empty page that is watched."""
    return context.new_page()
