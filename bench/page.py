"""How quickly pages come up and whether they freeze, as the browser itself measures it.

    python -m bench.page [--rows 1000000] [--loads 10] [--keep]

Each page is opened with nothing cached, as on a first visit: first contentful paint, largest contentful paint, layout
shift, bytes transferred. Then a file of a million rows, computed by a worker whose classifier costs nothing, is opened,
filtered, sorted, paged and moved through its thresholds. For each of these it is told

- after how long what was asked for is shown;
- the longest of the tasks that take the browser longer than 50 ms, which are what it calls long (0: none was);
- the layout shift, all of it summed up, and how much of that came within 500 ms of a key or a click. A browser excuses
  those shifts in its own score, as whoever opens something expects that it moves.

The last two go on until the page has come to rest, which is when half a second has gone by without a request. That time
is no part of what is told as shown.
"""

import argparse
import hashlib
import http.client
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, Request

from bench.files import fake_worker, upload, wait_finished
from bench.harness import Running, run, say, service, summary
from bench.keeping import keep, parsed, parser
from bench.throughput import call
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from ml import artifact
from ml.artifact import ModelInfo, Topic
from ml.classifier import Predictions
from ml.data import DEFAULT_NAMES
from tests.e2e.browser import open_browser
from tests.fake_classifier import FakeClassifier, FakePrepared

SETTLE_SECONDS = 0.5
LONGEST_SECONDS = 120.0
"""For so long a page may take to come to rest."""

WATCH = """
window.seen = { shift: 0, shiftAfterInput: 0, longest: 0, largest: 0, observers: [] };
const watch = (type, hear) => {
  const observer = new PerformanceObserver((list) => list.getEntries().forEach(hear));
  observer.observe({ type, buffered: true });
  seen.observers.push(() => observer.takeRecords().forEach(hear));
};
watch("layout-shift", (entry) => {
  seen.shift += entry.value;
  if (entry.hadRecentInput) seen.shiftAfterInput += entry.value;
});
watch("largest-contentful-paint", (entry) => { seen.largest = entry.startTime; });
watch("longtask", (entry) => { seen.longest = Math.max(seen.longest, entry.duration); });
"""
"""Put into every page before its own scripts."""

TAKE = """() => {
  seen.observers.forEach((hear) => hear());
  const { shift, shiftAfterInput, longest } = seen;
  Object.assign(seen, { shift: 0, shiftAfterInput: 0, longest: 0 });
  return { longest_task_ms: longest, layout_shift: shift, layout_shift_within_500_ms_of_input: shiftAfterInput };
}"""
"""What was seen since it was last asked for, with what the browser has not handed over yet."""

LOADED = """() => {
  const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  return {
    first_contentful_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    largest_contentful_paint_ms: seen.largest,
    transferred_kb: loaded.reduce((sum, entry) => sum + entry.transferSize, 0) / 1000,
  };
}"""
PAGES = {
    "text": ("/", ".bar"),
    "files": ("/files", "#list > *"),
    "history": ("/history", "#list > *"),
    "model": ("/model", "#service dd"),
    "api": ("/api", "#operations li"),
}
TOPICS = tuple(Topic(topic, russian, english, 0.5) for topic, (russian, english) in DEFAULT_NAMES.items())


class SixTopics(FakeClassifier):
    """Probabilities of six topics that follow from the text and cost nothing; most are small, as real ones are."""

    info = ModelInfo("fake-six", "1.0.0", "6" * 64, TOPICS, {"base": "none"})

    def compute(self, prepared: FakePrepared, between_batches: object = None) -> Predictions:  # noqa: ARG002
        digests = b"".join(hashlib.blake2s(post.doc_text.encode(), digest_size=6).digest() for post in prepared.posts)
        shares = np.frombuffer(digests, dtype=np.uint8).reshape(-1, len(TOPICS)) / np.float32(256)
        probabilities = ((shares + np.float32(1 / 512)) ** 4).astype(np.float32)
        logits = np.log(probabilities / (1 - probabilities))
        return Predictions(probabilities, prepared.truncated, {}, logits)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--loads", type=int, default=10, help="of each page")
    made.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parsed(made)
    if options.worker:
        work()
        return
    model = artifact.read(Settings.from_env().model).info
    result: dict[str, Any] = {}
    with open_browser() as browser:
        result["chromium"] = browser.version
        with service() as running:
            call(connect(running), "POST", "/api/v1/classifications", b'{"text": "\xd0\xbc\xd0\xb0\xd1\x82\xd1\x87"}',
                 {"Content-Type": "application/json", "Prefer": "wait=30"})  # fmt: skip
            result["first_visits"] = {
                name: first_visits(browser, running, address, what, options.loads)
                for name, (address, what) in PAGES.items()
            }
        with service(RUBRIKA_WORKERS="0") as running:
            result["large_job"] = {"rows": options.rows} | large_job(browser, running, options.rows)
            # Before the service ends: who does not wait for that loses nothing.
            keep("page", result, model, options)


def work() -> None:
    """Be a worker whose classifier costs nothing."""
    from worker.main import run_worker

    logging.basicConfig(level="WARNING", stream=sys.stderr)
    run_worker(Settings.from_env(), lambda _: SixTopics())  # type: ignore[arg-type,return-value]


def connect(running: Running) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(running.host, running.port, timeout=3600)


@contextmanager
def opened(browser: Browser, address: str) -> Iterator["Visit"]:
    """A page of a visitor who was never here before."""
    with browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(120_000)
        context.add_init_script(WATCH)
        yield Visit(context.new_page())


class Visit:
    """A page, and what it asks the service for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._under_way: set[Request] = set()
        self._last = 0.0
        page.on("request", self._on_begin)
        page.on("requestfinished", self._on_end)
        page.on("requestfailed", self._on_end)

    def _on_begin(self, request: Request) -> None:
        if request.resource_type != "eventsource":  # It is open for as long as the page is.
            self._under_way.add(request)
            self._last = time.monotonic()

    def _on_end(self, request: Request) -> None:
        if request in self._under_way:
            self._under_way.remove(request)
            self._last = time.monotonic()

    def settle(self) -> None:
        """Wait until half a second has gone by without a request."""
        begun = self._last = time.monotonic()
        while self._under_way or time.monotonic() - self._last < SETTLE_SECONDS:
            if time.monotonic() - begun > LONGEST_SECONDS:
                raise SystemExit(f"The page does not come to rest: {[one.url for one in self._under_way]}")
            self.page.wait_for_timeout(50)

    def measure(self, act: Callable[[], object]) -> dict[str, float]:
        """Do something, which ends when what came of it is shown, and tell of it when the page has come to rest."""
        begun = time.perf_counter()
        act()
        seconds = time.perf_counter() - begun
        self.settle()
        found: dict[str, float] = self.page.evaluate(TAKE)
        return {"shown_ms": 1000 * seconds} | found


def base_url(running: Running) -> str:
    return f"http://{running.host}:{running.port}"


def first_visits(browser: Browser, running: Running, address: str, what: str, loads: int) -> dict[str, Any]:
    """Figures of so many first visits to one page, each until it has come to rest."""
    found: list[dict[str, float]] = []
    for _ in range(loads):
        with opened(browser, base_url(running)) as visit:
            visit.page.goto(address)
            visit.page.locator(what).first.wait_for()
            visit.settle()
            found.append(visit.page.evaluate(LOADED) | visit.page.evaluate(TAKE))
    say(f"{address} {found[-1]}")
    return {name: rounded([one[name] for one in found]) for name in found[0]}


# --- a job of many rows ---------------------------------------------------------------------------------------------


def large_job(browser: Browser, running: Running, rows: int) -> dict[str, Any]:
    """What a person does with a large finished job, with the time until it is shown and the longest task of each."""
    connection = connect(running)
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-page-") as folder:
        file = Path(folder) / "posts.csv"
        with file.open("w", encoding="utf-8") as stream:
            stream.write("doc_text,author\n")
            stream.writelines(
                f"Пост номер {row}: {'матч вчера' if row % 7 else 'скидки сегодня'} и ещё немного слов для длины,"
                f"user{row % 1000}\n"
                for row in range(1, rows + 1)
            )
        job = upload(connection, file)
    with fake_worker(running, EmbeddedPostgres(running.data_dir), "bench.page", "--worker") as worker:
        wait_finished(connection, job, worker)
    found: dict[str, Any] = {}
    with opened(browser, base_url(running)) as visit:
        for name, act in steps(visit.page, job["id"], rows):
            found[name] = {
                what: round(value) if what.endswith("_ms") else round(value, 4)
                for what, value in visit.measure(act).items()
            }
            say(f"{name} {found[name]}")
    return found


def steps(page: Page, job_id: str, rows: int) -> Sequence[tuple[str, Callable[[], object]]]:
    """What is done, in this order; each ends when the page shows what came of it."""

    def opens() -> None:
        page.goto(f"/jobs/{job_id}?lang=en")
        page.locator("#table tbody tr").nth(49).wait_for()
        page.locator("#cards .topic-card").nth(5).wait_for()
        page.locator("#heat canvas").wait_for()

    def table_changes(act: Callable[[], object]) -> Callable[[], object]:
        def done() -> None:
            # A mark on the table of before tells when another has come.
            page.evaluate("() => { document.querySelector('#table > *').dataset.before = '1'; }")
            act()
            page.locator("#table > :not([data-before])").wait_for()

        return done

    def slides() -> None:
        slider = page.locator(".topic-card input[type=range]").first
        slider.focus()
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("() => !document.querySelector('#pairs').classList.contains('stale')")

    later = table_changes(lambda: page.locator("#later").click())
    words = page.locator("#filter-q")
    return [
        ("opens", opens),
        *[(f"page {number}", later) for number in (2, 3, 4)],
        ("opens a text", lambda: page.locator("#table summary").first.click()),
        ("moves a threshold by 20 steps", table_changes(slides)),
        ("unfolds the filters", lambda: page.locator("#filters summary").click()),
        ("filters by topic", table_changes(lambda: page.locator("#filter-topic").select_option(index=1))),
        ("filters by a range", table_changes(lambda: page.locator("#filter-min").fill("0.97"))),
        ("filters by words", table_changes(lambda: words.fill("скидки"))),
        ("resets the filters", table_changes(lambda: page.locator("#filter-reset").click())),
        ("sorts by a topic", table_changes(lambda: page.locator(".order-head").first.click())),
        ("next page of the order", later),
        ("searches for a rare word in the order", table_changes(lambda: words.fill(f"номер {rows // 2}:"))),
    ]  # fmt: skip


def rounded(values: list[float]) -> dict[str, float]:
    return {name: round(value, 4 if max(values) < 1 else 1) for name, value in summary(values).items()}


if __name__ == "__main__":
    run(main)
