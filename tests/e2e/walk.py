"""A walk through every page in every state that a person may meet, for whoever wants to look at each of them."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import csv
from tests.e2e.service import V1, Service
from tests.support import wait_until
from web.examples import EXAMPLES

NO_TOPIC = "Фотосинтез происходит в хлоропластах: энергия света превращает воду и углекислый газ в глюкозу и кислород"
LONG_TEXT = "Вторая часть рассказа о том, как мы добирались до дачи и что из этого вышло. " * 60

SESSION_ENDED = """async () => {
    const module = document.querySelector("script[type=module]").src;
    const { signInAgain } = await import(module.replace(/[^/]+$/, "sign_in.js"));
    signInAgain();
}"""
"""Shows what a page shows to somebody whose session has ended, also where nobody has to sign in."""

UNFOLD = """() => {
    const folded = "main details:not(#operations details), #operations li:nth-child(2) details";
    document.querySelectorAll(folded).forEach((one) => { one.open = true; });
}"""
"""Opens what is folded on a page; of the many addresses of the interface a few, which are all alike."""

PROBLEMS: Mapping[str, tuple[int, dict[str, Any]]] = {
    "key-missing": (401, {"code": "unauthorized", "detail": "This service asks for a key."}),
    "not-allowed": (403, {"code": "forbidden", "detail": "This key may only read."}),
    "too-large": (413, {"code": "request_entity_too_large", "detail": "The body is larger than 2147483648 bytes."}),
    "too-many": (429, {"code": "too_many_requests", "detail": "60 requests a minute are allowed."}),
    "no-database": (503, {"code": "unavailable", "detail": "The database cannot be reached at the moment."}),
}
"""Answers that the service gives rarely, by the name of the state."""


class Looker(Protocol):
    """What is done at each state: `whole` page or only what the window shows; `moving` if it never stands still."""

    def __call__(self, name: str, *, whole: bool = True, moving: bool = False) -> None: ...


class Walk:
    """One visitor's walk, in one language, on a service that has not been started; `worker` is the kind of its worker.

    In the end two models are known: the fake one, and the one that the settings of the service name.
    """

    def __init__(self, service: Service, page: Page, language: str, worker: str, look: Looker) -> None:
        self._service = service
        self._page = page
        self._language = language
        self._worker = worker
        self._look = look

    def all_states(self, *, rows: int = 20_000) -> None:
        """Every state, in an order that needs each change of the service once. `rows` are those of the large file."""
        for part in (
            self.never_a_model,
            self.nothing_yet,
            self.texts,
            lambda: self.files(rows),
            self.finished,
            self.the_rest,
            self.refused,
        ):
            part()
        self.no_worker()
        self.another_model()
        self.server_gone()

    def never_a_model(self) -> None:
        """What the pages say before there ever was a worker, who brings the model; there is one afterwards."""
        service = self._service
        service.start("api")
        service.start("sweeper")
        wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
        wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
        self.open("/", ".alert-warning")
        self._look("text-never-a-model")
        self.open("/model", "#service-notice .alert-warning")
        self._look("model-never-a-model")
        service.start(self._worker)
        service.wait_ready()

    def nothing_yet(self) -> None:
        for name, address in (("files", "/files"), ("history", "/history"), ("history-files", "/history?show=files")):
            self.open(address, "main .nothing, main .notice")
            self._look(f"{name}-empty")

    def texts(self) -> None:
        page = self._page
        self.open("/", ".bar")
        self._look("text-empty")
        for example in EXAMPLES:
            page.locator(f"[data-example={example.key}]").click()
            self._classify()
            self._look(f"text-{example.key}")
        page.locator("#clear").click()
        for name, text in (("none", NO_TOPIC), ("truncated", LONG_TEXT)):
            page.locator("#doc_text").fill(text)
            self._classify()
            self._look(f"text-{name}")
        page.locator("#doc_text").fill(NO_TOPIC)
        self._look("text-changed")
        page.locator("#doc_text").fill("ы" * 100_001)
        page.locator("#send").click()
        page.locator(".alert-danger").wait_for()
        self._look("text-refused")
        page.locator("#doc_text").fill("")
        page.locator("#send").click()
        page.locator(".alert-warning").wait_for()
        self._look("text-nothing-typed")
        page.locator(f"[data-example={EXAMPLES[1].key}]").click()
        self._classify()
        page.locator("#why").click()
        page.locator(".why.explained").wait_for(timeout=60_000)
        self._look("text-why")
        page.locator(".why-topic label").last.click()
        page.locator(".judge button").last.click()
        self._look("text-why-another-topic")
        page.locator("#permalink").click()
        page.locator(".why.explained").wait_for()
        self._look("result-why")
        page.locator("#why").click()
        self._look("result")
        page.locator(".nav-link").first.click()
        page.locator("#clear").click()

    def files(self, rows: int) -> None:
        page = self._page
        self.choose(posts(rows), "посты за ноябрь.csv")
        page.locator("#preview-rows tbody tr").first.wait_for()
        self._look("files-chosen")
        session = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 30 * rows}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", slow)
        page.locator("#send").click()
        bar = page.locator("#upload-bar")
        wait_until(lambda: int(bar.get_attribute("aria-valuenow") or 0) > 10, 20, what="the upload to begin")
        self._look("files-sending", moving=True)
        page.locator("#cancel").click()
        page.locator("#notice .alert-info").wait_for()
        self._look("files-cancelled")
        session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
        page.locator("#send").click()
        page.wait_for_url("**/jobs/*", timeout=60_000)
        page.locator("[data-status=succeeded]").first.wait_for()
        self._look("job-running", moving=True)
        page.locator("#cancel").click()
        expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=30_000)
        self._look("job-stopped")
        page.locator("#delete").click()
        self._look("job-delete-question", whole=False)
        page.keyboard.press("Escape")

    def finished(self) -> None:
        page = self._page
        self.choose(posts(20) + b'"",\n', "с ошибкой.csv")
        page.locator("#send").click()
        expect(page.locator("[data-state=partially_succeeded]")).to_be_visible(timeout=30_000)
        page.locator("#heat canvas").wait_for()
        page.locator("#table summary").first.click()
        self._look("job-done")
        page.locator("#why-1").click()
        page.locator(".why.explained").wait_for(timeout=60_000)
        self._look("job-why")
        page.locator("#order").select_option(index=1)
        page.locator("th[aria-sort]").wait_for(state="attached")
        page.locator("#download-options summary").click()
        page.locator("#filters summary").click()
        page.locator("#filter-q").fill("скидка")
        page.locator(".topic-card input").first.fill("0.9")
        page.locator("#reset-thresholds").wait_for()
        page.wait_for_url("**q=**")
        expect(page.locator("#table tbody tr")).to_have_count(4)
        page.locator("#pairs:not(.stale)").wait_for()
        self._look("job-chosen-rows")
        page.locator("#filter-q").fill("такого слова нет")
        page.locator("#table .nothing").wait_for()
        self._look("job-no-such-rows")

    def the_rest(self) -> None:
        for name, address, what in (
            ("files", "/files", "[data-job]"),
            ("history", "/history", "[data-text]"),
            ("history-none-found", "/history?q=такого+слова+нет", "#list .notice"),
            ("history-files", "/history?show=files", "[data-job]"),
            ("login", "/login", "form"),
            ("model", "/model", "#service dd"),
            ("api", "/api", "#operations li"),
            ("result-missing", "/texts/nothing", ".notice"),
            ("job-missing", "/jobs/nothing", ".notice"),
            ("not-found", "/nowhere", "h1"),
        ):
            self.open(address, what)
            self._page.evaluate(UNFOLD)
            self._look(name)

    def refused(self) -> None:
        page = self._page
        self.open("/login", "form")
        page.route(f"**{V1}/session", answering(*PROBLEMS["key-missing"]))
        page.locator("#sign-in-key").fill("rbk_wrong")
        page.locator("form button").click()
        page.locator(".sign-in-error:not(:empty)").wait_for()
        self._look("login-wrong-key")
        page.unroute_all()
        self.open("/history", "[data-text]")
        page.evaluate(SESSION_ENDED)
        page.locator("dialog[open]").wait_for()
        self._look("history-session-ended", whole=False)
        self.choose("номер,а\n1,пост\n".encode(), "без имени столбца.csv")
        page.locator("#preview-notice .alert-warning").wait_for()
        self._look("files-which-column")
        self.choose(b"\x00\x01\x02\x03", "не таблица.csv")
        page.locator("#preview-notice .alert-danger").wait_for()
        self._look("files-chosen-refused")
        page.locator("#send").click()
        page.locator("#notice .alert-danger").wait_for()
        self._look("files-refused")
        for name, (status, problem) in PROBLEMS.items():
            page.route(f"**{V1}/**", answering(status, problem))
            if name != "too-large":
                self.open("/history", ".alert-danger")
                self._look(f"history-{name}")
            self.choose(posts(5), "посты.csv")
            page.locator("#send").click()
            page.locator("#notice .alert-danger").wait_for()
            self._look(f"files-{name}")
            # A page that tries again would reach the service now, and leave for the job while the next is opened.
            page.goto("about:blank")
            page.unroute_all()

    def no_worker(self) -> None:
        """What the page says while nothing computes."""
        page, service = self._page, self._service
        worker = service.processes.pop()
        worker.terminate()
        worker.wait(30)
        wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
        self.open("/", ".bar")
        page.locator("#doc_text").fill(NO_TOPIC)
        page.locator("#send").click()
        page.locator(".alert-warning").wait_for(timeout=30_000)
        self._look("text-no-worker")
        self.choose(posts(5), "ждёт.csv")
        page.locator("#send").click()
        page.locator("#worker-notice .alert-warning").wait_for(timeout=30_000)
        self._look("job-no-worker")
        self.choose(posts(6), "за ним.csv")
        page.locator("#send").click()
        page.locator("[data-fact=position]").wait_for()
        page.locator("#worker-notice .alert-warning").wait_for(timeout=30_000)
        self._look("job-queued")
        [done] = self._service.get(f"{V1}/jobs?status=partially_succeeded").json["items"]
        self.open(f"/jobs/{done['id']}", "#heat canvas")
        page.locator("#table summary").nth(1).click()
        page.locator("#why-2").click()
        page.locator(".why-waiting .alert-warning").wait_for(timeout=30_000)
        self._look("job-why-no-worker")
        self.open("/model", "#service-notice .alert-warning")
        page.locator("#jobs [data-job]").first.wait_for()
        self._look("model-no-worker")

    def another_model(self) -> None:
        """The fake fails where it is told to; then its file is computed again by another model."""
        page, service = self._page, self._service
        service.start("fake")
        service.wait_ready()
        self.choose(csv("!fail раз", "!fail два", ""), "всё с ошибкой.csv")
        page.locator("#send").click()
        expect(page.locator("[data-state=failed]")).to_be_visible(timeout=30_000)
        page.locator("#retry").wait_for()
        page.locator("#table tbody tr").first.wait_for()
        self._look("job-failed")
        before = page.url
        page.locator("#retry").click()
        page.wait_for_url(lambda url: url != before and "/jobs/" in url)
        page.locator("[data-fact=retry_of]").wait_for()
        page.locator("#table tbody tr").first.wait_for()
        self._look("job-retried")

        job = service.wait_finished(service.upload(posts(7), "posts.csv"))
        service.start("worker")
        # The page asks for the models once, and the API keeps what it has read of them for two seconds.
        wait_until(lambda: len(service.get(f"{V1}/models").json["items"]) > 1, 90, what="the other model")
        self.open(f"/jobs/{job['id']}", "#rerun summary")
        page.locator("#rerun summary").click()
        self._look("job-rerun")
        page.locator("#rerun-form button").click()
        page.wait_for_url(lambda url: job["id"] not in url and "/jobs/" in url)
        expect(page.locator("[data-state=succeeded]")).to_be_visible(timeout=60_000)
        page.locator("#compare-body tbody").wait_for()
        page.locator("#heat canvas").wait_for()
        self._look("job-compared")

    def server_gone(self) -> None:
        """What each page says when nothing answers."""
        page = self._page
        job = self._service.get(f"{V1}/jobs").json["items"][0]["id"]
        for name, address in (
            ("text", "/"), ("files", "/files"), ("history", "/history"), ("model", "/model"), ("api", "/api"),
            ("job", f"/jobs/{job}"), ("result", "/texts/nothing"),
        ):  # fmt: skip
            for path in (f"{V1}/", "/readyz", "/openapi.json"):
                page.route(f"**{path}**", lambda route: route.abort())
            self.open(address, ".alert-danger")
            self._look(f"{name}-server-gone")
            page.unroute_all()

    def open(self, address: str, what: str) -> None:
        """Open a page and wait until there is `what`."""
        joint = "&" if "?" in address else "?"
        self._page.goto(f"{address}{joint}lang={self._language}")
        self._page.locator(what).first.wait_for()

    def choose(self, data: bytes, name: str) -> None:
        """Choose a file on the page of files."""
        self.open("/files", "#list > *, #list-notice > *")
        self._page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})

    def _classify(self) -> None:
        with self._page.expect_response(f"**{V1}/classifications"):
            self._page.locator("#send").click()
        self._page.locator("#result:not(.pending) #permalink").wait_for()


def answering(
    status: int, problem: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Callable[[Route], None]:
    """Answers a request with a problem."""
    document = {"type": f"urn:rubrika:problem:{problem['code']}", "title": "No", "status": status, **problem}

    def answer(route: Route) -> None:
        given = {"Content-Type": "application/problem+json", **(headers or {})}
        route.fulfill(status=status, headers=given, body=json.dumps(document))

    return answer


def posts(count: int) -> bytes:
    """A file of posts with a column of its own; no two are alike, or they would be computed at once."""
    texts = [example.doc_text for example in EXAMPLES] + [NO_TOPIC]
    return ("doc_text,автор\n" + "".join(f'"{texts[n % len(texts)]} {n}",@user{n}\n' for n in range(count))).encode()


def stands_still(page: Page) -> Callable[[], bool]:
    """Whether nothing moves: bars grow for a quarter of a second."""
    return lambda: bool(page.evaluate("document.getAnimations().every(one => one.playState !== 'running')"))
