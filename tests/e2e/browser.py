"""A headless Chromium for tests and screenshots, and a watch over everything that a page does in it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

# Root may use no sandbox, and a browser under test talks to nobody but the service.
ARGUMENTS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The machine's own Chromium; nothing is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Watch:
    """What the pages of a context asked for, and what they complained of."""

    origin: str
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    asserted: bool = False

    def over(self, context: BrowserContext) -> "Watch":
        """Begin to watch a context whose pages are not open yet."""
        context.on("request", self._note_request)
        context.on("console", lambda message: self._complain(message.type, message.text))
        context.on("weberror", lambda error: self._complain("error", str(error.error)))
        return self

    def assert_clean(self, *statuses: int) -> None:
        """No request to another origin, and no complaint: of errors of the script, of the content security policy,
        of anything that could not be loaded, except for answers with one of `statuses`."""
        self.asserted = True
        allowed = re.compile(rf"Failed to load resource: .* status of ({'|'.join(map(str, statuses)) or '-'}) ")
        assert self.outside == []
        assert [text for text in self.complaints if not allowed.search(text)] == []

    def _note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob"} and f"{address.scheme}://{address.netloc}" != self.origin:
            self.outside.append(request.url)

    def _complain(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


def csv(*texts: str) -> bytes:
    """A file of posts with a column of its own, `author`."""
    quoted = ('"' + text.replace('"', '""') + '"' for text in texts)
    return ("doc_text,author\n" + "".join(f"{text},user{number}\n" for number, text in enumerate(quoted, 1))).encode()


def choose(page: Page, data: bytes, name: str = "посты.csv") -> None:
    """Choose a file on the page of files, without sending it."""
    page.goto("/files")
    page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})


def send_file(page: Page, data: bytes, name: str = "посты.csv") -> None:
    """Send a file as a person does, up to the page of its job."""
    choose(page, data, name)
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")


WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""The rules of axe that pages are held to: WCAG 2.2 AA, and what its authors call good practice."""


def barriers(page: Page) -> list[str]:
    """What stands in the way of people with disabilities on the page as it is now, as axe-core finds it: nothing."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(
        "tags => axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] })", list(WCAG)
    )
    return [
        f"{one['id']}: {one['help']}: {node['target']} {node['html'][:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
