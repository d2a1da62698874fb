"""Pictures of every page in every state: `python -m tests.e2e.screenshots FOLDER`, or `make screenshots`.

Starts a service of its own and takes each picture four times: on a desktop and on a phone, light and dark, in Russian
and in English. The shipped model computes what is to be seen, or, where there is none, the fake one of the tests.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect

from jobs.migrate import upgrade
from jobs.settings import PROJECT_ROOT, SHIPPED_MODEL, Settings
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.browser import open_browser
from tests.e2e.service import V1, Service
from tests.support import free_port, wait_until
from web.examples import EXAMPLES

NO_TOPIC = "Утром над рекой стоял туман, к полудню разошёлся."
LONG_TEXT = "Вторая часть рассказа о том, как мы добирались до дачи и что из этого вышло. " * 60


@dataclass(frozen=True)
class Look:
    """A screen, its colours and a language."""

    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"]
    language: str


LOOKS = (
    Look("desktop-light-ru", 1280, 800, "light", "ru"),
    Look("desktop-dark-en", 1280, 800, "dark", "en"),
    Look("phone-light-en", 360, 740, "light", "en"),
    Look("phone-dark-ru", 360, 740, "dark", "ru"),
)


class Photographer:
    """Walks through the pages with one look and keeps a picture of each state."""

    def __init__(self, service: Service, page: Page, look: Look, folder: Path) -> None:
        self._service = service
        self._page = page
        self._look = look
        self._folder = folder

    def take_all(self) -> None:
        """Every state, in an order that needs each change of the service once."""
        self.nothing_yet()
        self.texts()
        self.files()
        self.the_rest()
        self.troubles()

    def nothing_yet(self) -> None:
        for name, address in (("files", "/files"), ("history", "/history"), ("history-files", "/history?show=files")):
            self._open(address, "main .nothing, main .notice")
            self._take(f"{name}-empty")

    def texts(self) -> None:
        page = self._page
        self._open("/", ".bar")
        self._take("text-empty")
        for example in EXAMPLES:
            page.locator(f"[data-example={example.key}]").click()
            self._classify()
            self._take(f"text-{example.key}")
        page.locator("#clear").click()
        for name, text in (("none", NO_TOPIC), ("truncated", LONG_TEXT)):
            page.locator("#doc_text").fill(text)
            self._classify()
            self._take(f"text-{name}")
        page.locator("#doc_text").fill("ы" * 100_001)
        page.locator("#send").click()
        page.locator(".alert-danger").wait_for()
        self._take("text-refused")
        page.locator("#doc_text").fill("")
        page.locator("#send").click()
        page.locator(".alert-warning").wait_for()
        self._take("text-nothing-typed")
        page.locator(f"[data-example={EXAMPLES[1].key}]").click()
        self._classify()
        page.locator("#why").click()
        page.locator(".why-text").wait_for(timeout=60_000)
        self._take("text-why")
        page.locator(".why-topic label").last.click()
        page.locator(".judge button").last.click()
        self._take("text-why-another-topic")
        page.locator("#permalink").click()
        page.locator(".why-text").first.wait_for()
        self._take("result-why")
        page.locator("#why").click()
        self._take("result")
        page.locator(".nav-link").first.click()
        page.locator("#clear").click()

    def files(self) -> None:
        page = self._page
        self._choose(posts(20_000), "посты за ноябрь.csv")
        page.locator("#preview-rows tbody tr").first.wait_for()
        self._take("files-chosen")
        session = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 600_000}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", slow)
        page.locator("#send").click()
        bar = page.locator("#upload-bar")
        wait_until(lambda: int(bar.get_attribute("aria-valuenow") or 0) > 10, 20, what="the upload to begin")
        self._take("files-sending", moving=True)
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        page.wait_for_url("**/jobs/*", timeout=60_000)
        page.locator("[data-status=succeeded]").first.wait_for()
        self._take("job-running", moving=True)
        page.locator("#cancel").click()
        expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=30_000)
        self._take("job-stopped")
        page.locator("#delete").click()
        self._take("job-delete-question", whole=False)
        page.keyboard.press("Escape")

        self._choose(posts(20) + b'"",\n', "с ошибкой.csv")
        page.locator("#send").click()
        expect(page.locator("[data-state=partially_succeeded]")).to_be_visible(timeout=30_000)
        page.locator("#heat canvas").wait_for()
        page.locator("#table summary").first.click()
        self._take("job-done")
        page.locator("#download-options summary").click()
        page.locator("#filters summary").click()
        page.locator("#filter-q").fill("скидки")
        page.locator(".topic-card input").first.fill("0.9")
        page.locator("#reset-thresholds").wait_for()
        page.wait_for_load_state("networkidle")
        self._take("job-chosen-rows")
        page.locator("#filter-q").fill("такого слова нет")
        page.locator("#table .nothing").wait_for()
        self._take("job-no-such-rows")
        self._choose("номер,а\n1,пост\n".encode(), "без имени столбца.csv")
        page.locator("#preview-notice .alert-warning").wait_for()
        self._take("files-which-column")
        self._choose(b"\x00\x01\x02\x03", "не таблица.csv")
        page.locator("#send").click()
        page.locator(".alert-danger").wait_for()
        self._take("files-refused")

    def the_rest(self) -> None:
        for name, address, what in (
            ("files", "/files", "[data-job]"),
            ("history", "/history", "[data-text]"),
            ("history-files", "/history?show=files", "[data-job]"),
            ("model", "/model", "#service dd"),
            ("result-missing", "/texts/nothing", ".notice"),
            ("job-missing", "/jobs/nothing", ".notice"),
            ("not-found", "/nowhere", "h1"),
        ):
            self._open(address, what)
            self._take(name)

    def troubles(self) -> None:
        """What the page says when parts of the service are gone; they are there again afterwards."""
        page, service = self._page, self._service
        worker = service.processes.pop()
        worker.terminate()
        worker.wait(30)
        wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
        self._open("/", ".bar")
        page.locator("#doc_text").fill(NO_TOPIC)
        page.locator("#send").click()
        page.locator(".alert-warning").wait_for(timeout=30_000)
        self._take("text-no-worker")
        page.route(f"**{V1}/**", lambda route: route.abort())
        self._open("/", ".alert-danger")
        self._take("text-server-gone")
        page.unroute_all()
        service.start(worker_command())
        service.wait_ready()

    def _open(self, address: str, what: str) -> None:
        """Open a page and wait until there is `what`."""
        joint = "&" if "?" in address else "?"
        self._page.goto(f"{address}{joint}lang={self._look.language}")
        self._page.locator(what).first.wait_for()

    def _classify(self) -> None:
        with self._page.expect_response(f"**{V1}/classifications"):
            self._page.locator("#send").click()
        self._page.locator("#result:not(.pending) #permalink").wait_for()

    def _choose(self, data: bytes, name: str) -> None:
        self._open("/files", "#list > *")
        self._page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})

    def _take(self, name: str, *, whole: bool = True, moving: bool = False) -> None:
        # Bars grow for a quarter of a second; a picture waits until nothing moves, unless something always does.
        still = "document.getAnimations().every(animation => animation.playState !== 'running')"
        wait_until(lambda: moving or self._page.evaluate(still), what="the page to stand still")
        self._page.screenshot(path=self._folder / f"{name}.{self._look.name}.png", full_page=whole)


def posts(count: int) -> bytes:
    """A file of posts with a column of its own."""
    texts = [example.doc_text for example in EXAMPLES] + [NO_TOPIC]
    return ("doc_text,автор\n" + "".join(f'"{texts[n % len(texts)]}",@user{n}\n' for n in range(count))).encode()


def worker_command() -> str:
    """The shipped model, or the fake one where nobody has trained one yet."""
    return "worker" if SHIPPED_MODEL.exists() else "fake"


@contextmanager
def running_service() -> Iterator[Service]:
    """A service with servers of its own, gone without a trace afterwards."""
    with tempfile.TemporaryDirectory(prefix="rubrika-screenshots-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL may run as another user, who must get to its own folder in it.
        postgres, valkey = EmbeddedPostgres(folder / "servers"), EmbeddedValkey(folder / "servers")
        postgres.start()
        valkey.start()
        upgrade(postgres.url)
        settings = Settings.from_env(
            {
                "DATABASE_URL": postgres.url,
                "REDIS_URL": valkey.url,
                "RUBRIKA_PORT": str(free_port()),
                "RUBRIKA_DATA_DIR": str(folder / "data"),
            }
        )
        (folder / "logs").mkdir()
        service = Service(settings, folder / "logs", env={"FAKE_SECONDS": "0.005"})
        try:
            service.start_all(worker_command())
            yield service
        finally:
            service.stop()
            valkey.stop()
            postgres.stop()


def photograph(service: Service, browser: Browser, look: Look, folder: Path) -> None:
    """All pictures of one look, on a service on which nothing has happened yet."""
    with browser.new_context(
        base_url=service.url,
        viewport={"width": look.width, "height": look.height},
        color_scheme=look.scheme,
        locale=look.language,
    ) as context:
        Photographer(service, context.new_page(), look, folder).take_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = PROJECT_ROOT / "build" / "screenshots"
    parser.add_argument("folder", type=Path, nargs="?", default=default, help="where the pictures go (%(default)s)")
    parser.add_argument("--only", choices=[look.name for look in LOOKS], help="take the pictures of this look alone")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with open_browser() as browser:
        for look in LOOKS:
            if arguments.only in {None, look.name}:
                with running_service() as service:
                    photograph(service, browser, look, arguments.folder)


if __name__ == "__main__":
    main()
