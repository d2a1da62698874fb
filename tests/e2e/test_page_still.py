"""Nothing on the page of a job jumps by itself: not when it opens, nor when answers come to what a person has done."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser import Watch, csv, send_file
from tests.e2e.service import Service

MOST = 0.05
"""Cumulative layout shift that people do not notice much (web.dev/articles/cls calls 0.1 good)."""

SLOW_MS = 700
"""So long every answer takes: more than the half second after a key in which a browser excuses every jump."""

WATCH = """
window.jumps = [];
const called = (node) => !node ? "gone" : node.id || node.className || called(node.parentElement);
new PerformanceObserver((list) => list.getEntries().filter((one) => !one.hadRecentInput).forEach((one) => jumps.push({
    value: one.value,
    what: one.sources.map(({ node, previousRect: a, currentRect: b }) =>
        `${called(node)}: ${a.top}+${a.height} > ${b.top}+${b.height}`),
}))).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_of_a_job_stands_still(service: Service, page: Page, watch: Watch, width: int) -> None:
    service.start_all()
    texts = [f"пост номер {number}, {'о матче' if number % 3 else 'о скидках'}" for number in range(1, 131)]
    send_file(page, csv(*texts))
    expect(page.locator("[data-state=succeeded]")).to_be_visible(timeout=60_000)
    address = page.url
    page.set_viewport_size({"width": width, "height": 800})
    page.add_init_script(WATCH)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": SLOW_MS, "downloadThroughput": -1, "uploadThroughput": -1}
    jumped: list[str] = []

    def step(name: str, act: Callable[[], object], then: Callable[[], object] = lambda: None) -> None:
        act()
        page.wait_for_load_state("networkidle")
        then()
        jumps = page.evaluate("jumps.splice(0)")
        if sum(jump["value"] for jump in jumps) > MOST:
            jumped.append(f"{name}: {jumps}")

    def anew(name: str, act: Callable[[], object]) -> None:
        """Something that makes the table anew."""
        page.evaluate("document.querySelector('#table > *').dataset.before = '1'")
        step(name, act, page.locator("#table > :not([data-before])").wait_for)

    step("opens", lambda: page.goto(address), page.locator("#heat canvas").wait_for)
    expect(page.locator("#table tbody tr")).to_have_count(50)
    session.send("Network.emulateNetworkConditions", slow)
    page.locator("#filters summary").click()
    words, slider = page.locator("#filter-q"), page.locator("#threshold-sport")
    anew("words", lambda: words.fill("скидках"))
    anew("words that nobody wrote", lambda: words.fill("такого нет"))
    anew("some words again", lambda: words.fill("номер 77,"))
    anew("no filter", lambda: page.locator("#filter-reset").click())
    anew("a topic", lambda: page.locator("#filter-topic").select_option("sport"))
    anew("a range", lambda: page.locator("#filter-min").fill("0.9"))
    anew("a state without rows", lambda: page.locator("#filter-status").select_option("failed"))
    anew("no filter again", lambda: page.locator("#filter-reset").click())
    anew("an order from a list", lambda: page.locator("#order").select_option("-sport"))
    anew("the next page", lambda: page.locator("#later").click())
    anew("the last page", lambda: page.locator("#later").click())
    anew("the page before", lambda: page.locator("#earlier").click())
    anew("a threshold", lambda: slider.fill("0.8"))
    anew("the threshold of the model", lambda: page.locator("#reset-thresholds").click())
    anew("rows of a bin", lambda: page.locator("[data-topic=sport] .hit").nth(19).click())
    row = page.locator("#table tbody tr").first
    row.locator("summary").click()
    step("why", row.locator(".why-button").click, row.locator(".why.explained").wait_for)
    assert not jumped, "\n".join(jumped)
    watch.assert_clean()


BLANK = """() => {
    const pane = document.getElementById("rows").getBoundingClientRect().bottom;
    return pane - document.getElementById("table").getBoundingClientRect().bottom;
}"""
"""CSS pixels of the pane of rows under the last of them; what it keeps below everything in it belongs to that."""


@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("texts", [["раз", "два", "о матче"], ["!fail раз", "!fail два"]], ids=["good", "failed"])
def test_a_short_job_ends_where_its_rows_do_and_stands_still(
    service: Service, page: Page, watch: Watch, width: int, texts: list[str]
) -> None:
    service.start_all()
    page.set_viewport_size({"width": width, "height": 800})
    send_file(page, csv(*texts))
    expect(page.locator("#table tbody tr")).to_have_count(len(texts))
    expect(page.locator("[data-state=succeeded], [data-state=failed]")).to_be_visible(timeout=60_000)
    page.add_init_script(WATCH)
    page.reload()
    page.locator("#heat canvas" if texts[0] == "раз" else "#failures li").wait_for()
    expect(page.locator("#table tbody tr")).to_have_count(len(texts))
    page.wait_for_load_state("networkidle")
    assert page.evaluate(BLANK) < 40
    jumps = page.evaluate("jumps.splice(0)")
    assert sum(jump["value"] for jump in jumps) < MOST, jumps

    page.locator("#filters summary").click()
    height = "document.getElementById('rows').offsetHeight"
    before = page.evaluate(height)
    page.locator("#filter-q").fill("такого нет")
    expect(page.locator("#table .nothing")).to_be_visible()
    assert page.evaluate(height) == min(before, 800)
    page.locator("#filter-reset").click()
    expect(page.locator("#table tbody tr")).to_have_count(len(texts))
    assert page.evaluate(BLANK) < 40
    jumps = page.evaluate("jumps")
    assert sum(jump["value"] for jump in jumps) < MOST, jumps
    watch.assert_clean()


@pytest.mark.parametrize("language", ["ru", "en"])
def test_a_button_that_is_not_there_yet_takes_no_line_of_a_phone(
    service: Service, page: Page, watch: Watch, language: str
) -> None:
    service.start_all()
    job = service.wait_finished(service.upload(csv("раз", "о матче")))
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(f"/jobs/{job['id']}?lang={language}")
    page.locator("#cards .topic-card").first.wait_for()
    heading = page.locator(".cards-head h3").bounding_box()
    words = page.locator(".cards-head + .hint").bounding_box()
    assert heading is not None
    assert words is not None
    assert words["y"] - heading["y"] - heading["height"] < 16
    card, pane = page.locator(".topic-card").first.bounding_box(), page.locator("#cards").bounding_box()
    assert card is not None
    assert pane is not None
    assert card["width"] <= pane["width"]
    page.locator("#threshold-sport").fill("0.8")
    name = "Вернуть пороги модели" if language == "ru" else "Reset to the thresholds of the model"
    page.get_by_role("button", name=name).click()
    expect(page.locator("#reset-thresholds")).to_be_hidden()
    watch.assert_clean()
