"""What `bench.page` sees in a browser: every shift until the page is at rest, and apart those that a click excuses."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser

from bench.page import opened

SLOW_MS = 700
"""So long an answer takes: more than the half second after a click in which a browser excuses every shift."""

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><button>more</button>
<div></div><p style="height: 300px">a text</p>
<script>
const space = document.querySelector("div");
document.querySelector("button").onclick = async () => {
  space.style.height = "100px";
  await fetch("/late");
  space.style.height = "200px";
};
</script>"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_shifts_of_a_click_and_those_of_a_late_answer_are_both_seen(browser: Browser, address: str) -> None:
    with opened(browser, address) as visit:
        page = visit.page
        opening = visit.measure(lambda: page.goto("/"))
        assert opening["layout_shift"] == 0
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        slow = {"offline": False, "latency": SLOW_MS, "downloadThroughput": -1, "uploadThroughput": -1}
        session.send("Network.emulateNetworkConditions", slow)
        clicked = visit.measure(lambda: page.locator("button").click())
        assert clicked["layout_shift"] > clicked["layout_shift_within_500_ms_of_input"] > 0
        afterwards = visit.measure(lambda: None)
        assert afterwards["layout_shift"] == afterwards["longest_task_ms"] == 0
