"""Pictures of every page in every state: `python -m tests.e2e.screenshots FOLDER`, or `make screenshots`.

Starts a service of its own for each look: a desktop and phones, light and dark, Russian and English, and a page that is
enlarged to twice its size. The shipped model computes what is to be seen, or, where there is none, the fake one of the
tests.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser

from jobs.migrate import upgrade
from jobs.settings import PROJECT_ROOT, SHIPPED_MODEL, Settings
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.e2e.browser import open_browser
from tests.e2e.service import Service
from tests.e2e.walk import Walk, stands_still
from tests.support import free_port, wait_until
from tests.tiny_model import make_tiny_model


@dataclass(frozen=True)
class Look:
    """A screen in CSS pixels, its colours, a language, and how many pixels of the picture are one of CSS."""

    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"]
    language: str
    scale: float = 1


LOOKS = (
    Look("desktop-light-ru", 1280, 800, "light", "ru"),
    Look("desktop-dark-en", 1280, 800, "dark", "en"),
    Look("phone-light-en", 320, 640, "light", "en"),
    Look("phone-dark-ru", 390, 844, "dark", "ru"),
    Look("enlarged-light-ru", 640, 400, "light", "ru", scale=2),
)


def worker_command() -> str:
    """The shipped model, or the fake one where nobody has trained one yet."""
    return "worker" if SHIPPED_MODEL.exists() else "fake"


@contextmanager
def running_service() -> Iterator[Service]:
    """A service that nobody has started, with servers of its own, gone without a trace afterwards."""
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
                "RUBRIKA_MODEL": str(SHIPPED_MODEL if SHIPPED_MODEL.exists() else make_tiny_model(folder / "model")),
            }
        )
        (folder / "logs").mkdir()
        service = Service(settings, folder / "logs", env={"FAKE_SECONDS": "0.005"})
        try:
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
        device_scale_factor=look.scale,
        color_scheme=look.scheme,
        locale=look.language,
    ) as context:
        page = context.new_page()

        def take(name: str, *, whole: bool = True, moving: bool = False) -> None:
            wait_until(lambda: moving or stands_still(page)(), what="the page to stand still")
            page.screenshot(path=folder / f"{name}.{look.name}.png", full_page=whole)

        Walk(service, page, look.language, worker_command(), take).all_states()


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
