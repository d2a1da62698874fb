"""How quickly pages come up and whether they freeze, as the browser itself measures it.

    python -m bench.page [--rows 1000000] [--loads 10]

Each page is opened with nothing cached, as on a first visit: first contentful paint, largest contentful paint, layout
shift (all of it, summed up), bytes transferred. Then a file of a million rows, computed by a worker whose classifier
costs nothing, is opened, filtered, sorted, paged and moved through its thresholds; tasks of the page that take the
browser longer than 50 ms are what it calls long, and the longest of them is told for each of these (0: none was).
What is told as shown includes the half second without a request by which a page is known to have come to rest.
"""

import argparse
import hashlib
import http.client
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page

from bench.files import fake_worker, upload, wait_finished
from bench.harness import Running, keep, service, summary
from bench.throughput import call
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from ml.artifact import ModelInfo, Topic
from ml.classifier import Predictions
from ml.data import DEFAULT_NAMES
from tests.e2e.browser import open_browser
from tests.fake_classifier import FakeClassifier, FakePrepared

WATCH = """
window.seen = { shift: 0, long: [], largest: 0 };
const watch = (type, hear) => {
  new PerformanceObserver((list) => list.getEntries().forEach(hear)).observe({ type, buffered: true });
};
watch("layout-shift", (entry) => { if (!entry.hadRecentInput) seen.shift += entry.value; });
watch("largest-contentful-paint", (entry) => { seen.largest = entry.startTime; });
watch("longtask", (entry) => seen.long.push(entry.duration));
"""
LOADED = """() => {
  const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  return {
    first_contentful_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    largest_contentful_paint_ms: seen.largest,
    layout_shift: seen.shift,
    transferred_kb: loaded.reduce((sum, entry) => sum + entry.transferSize, 0) / 1000,
    longest_task_ms: Math.max(0, ...seen.long),
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--loads", type=int, default=10, help="of each page")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    result: dict[str, Any] = {"load_average_of_a_minute": round(os.getloadavg()[0], 2)}
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
    keep("page", result)


def work() -> None:
    """Be a worker whose classifier costs nothing."""
    from worker.main import run_worker

    logging.basicConfig(level="WARNING", stream=sys.stderr)
    run_worker(Settings.from_env(), lambda _: SixTopics())  # type: ignore[arg-type,return-value]


def connect(running: Running) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(running.host, running.port, timeout=3600)


def opened(browser: Browser, running: Running) -> Iterator[Page]:
    """A page of a visitor who was never here before."""
    with browser.new_context(
        base_url=f"http://{running.host}:{running.port}", viewport={"width": 1280, "height": 900}
    ) as context:
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.add_init_script(WATCH)
        yield page


def first_visits(browser: Browser, running: Running, address: str, what: str, loads: int) -> dict[str, Any]:
    """Figures of so many first visits to one page, each until it has settled."""
    found: list[dict[str, float]] = []
    for _ in range(loads):
        for page in opened(browser, running):
            page.goto(address)
            page.locator(what).first.wait_for()
            page.wait_for_load_state("networkidle")
            found.append(page.evaluate(LOADED))
    print(address, found[-1], flush=True)
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
    for page in opened(browser, running):
        for name, act in steps(page, job["id"], rows):
            page.evaluate("() => { if (window.seen) { seen.long.length = 0; seen.shift = 0; } }")
            started = time.perf_counter()
            act()
            page.wait_for_load_state("networkidle")
            seconds = time.perf_counter() - started
            found[name] = {
                "shown_ms": round(1000 * seconds),
                "longest_task_ms": round(page.evaluate("() => Math.max(0, ...seen.long)")),
                "layout_shift": round(page.evaluate("() => seen.shift"), 4),
            }
            print(name, found[name], flush=True)
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
    main()
