"""Every page in every state for everybody: by axe in both languages and colours, narrow, enlarged, by keyboard."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import Watch, barriers, csv, send_file
from tests.e2e.service import V1, Service
from tests.e2e.walk import PROBLEMS, Walk, stands_still
from tests.support import wait_until
from tests.tiny_model import make_tiny_model


@dataclass(frozen=True)
class Visitor:
    """A screen in CSS pixels, and its colours."""

    width: int
    scheme: Literal["light", "dark"]


# Whoever comes first sees a page as it was loaded, the other as it is after the window has changed.
VISITORS = {
    "ru": (Visitor(1280, "light"), Visitor(320, "dark")),
    "en": (Visitor(320, "light"), Visitor(1280, "dark")),
}

SETTLED = """async () => {
    const frame = () => new Promise(requestAnimationFrame);
    await frame();
    await frame();
    document.getAnimations().filter((one) => one instanceof CSSTransition).forEach((one) => one.finish());
}"""
"""Waits until a change of the window has been laid out and told to the scripts; colours go over to others at once."""


@pytest.mark.parametrize("language", VISITORS)
def test_no_page_in_any_state_shuts_anybody_out(
    service: Service, browser: Browser, tmp_path: Path, language: str
) -> None:
    service.env["FAKE_SECONDS"] = "0.02"
    service.settings = replace(service.settings, model=make_tiny_model(tmp_path / "model"))
    here, other = VISITORS[language]
    with browser.new_context(
        base_url=service.url, viewport={"width": here.width, "height": 800}, color_scheme=here.scheme
    ) as context:
        context.set_default_timeout(30_000)
        watch = Watch(service.url).over(context)
        page = context.new_page()
        found: list[str] = []
        seen: list[str] = []

        def become(visitor: Visitor) -> None:
            page.emulate_media(color_scheme=visitor.scheme)
            page.set_viewport_size({"width": visitor.width, "height": 800})
            page.evaluate(SETTLED)

        def look_as(visitor: Visitor, name: str, moving: bool) -> None:
            wait_until(lambda: moving or stands_still(page)(), what="the page to stand still")
            assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [
                visitor.width,
                visitor.scheme == "dark",
            ]
            wrong = barriers(page)
            if page.evaluate("document.documentElement.scrollWidth") > visitor.width:
                wrong.append("it scrolls sideways")
            if not page.evaluate("document.querySelector('main').innerText.trim()"):
                wrong.append("it is blank")
            found.extend(f"{name}, {visitor}: {one}" for one in wrong)

        def look(name: str, *, whole: bool = True, moving: bool = False) -> None:
            """As both; the walk goes on as the other, so that each step of it is taken on either screen."""
            nonlocal here, other
            seen.append(name)
            look_as(here, name, moving)
            here, other = other, here
            become(here)
            look_as(here, name, moving)

        Walk(service, page, language, "fake", look).all_states(rows=2_000)
        assert not found, "\n".join(found)
        assert len(seen) == len(set(seen)) > 40
        # Connections were broken and statuses given on purpose; everything else is a mistake.
        watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
        watch.assert_clean(404, 415, 422, *(status for status, _ in PROBLEMS.values()))


def some_pages(service: Service) -> list[str]:
    """The addresses of all kinds of pages, filled, with words that do not break by themselves."""
    service.start_all()
    assert service.classify({"text": "оченьдлинноеслово" * 20}, wait=20).status == 200
    long = csv("оченьдлинноеслово" * 20, "", *(f"пост {number}" for number in range(60)))
    job = service.wait_finished(service.upload(long, filename="f" * 150 + ".csv"))
    [text] = service.get(f"{V1}/classifications").json["items"]
    lists = ["/", "/files", "/history", "/history?show=files", "/model", "/api", "/nowhere"]
    return [*lists, f"/texts/{text['id']}", f"/jobs/{job['id']}"]


def test_pages_enlarged_to_twice_their_size_scroll_only_down(service: Service, browser: Browser) -> None:
    addresses = some_pages(service)
    # A page that is enlarged to 200 % has half as many CSS pixels.
    for enlarged, width in (("page", 640), ("letters", 1280)):
        with browser.new_context(
            base_url=service.url, viewport={"width": width, "height": 450}, device_scale_factor=1280 / width
        ) as context:
            watch = Watch(service.url).over(context)
            page = context.new_page()
            if enlarged == "letters":
                session = context.new_cdp_session(page)
                session.send("Page.enable")
                session.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
            for address in addresses:
                page.goto(address)
                page.wait_for_load_state("networkidle")
                if enlarged == "letters":
                    assert page.evaluate("getComputedStyle(document.documentElement).fontSize") == "32px"
                assert page.evaluate("document.documentElement.scrollWidth") == width, (enlarged, address)
                outside = page.evaluate(
                    """() => [...document.querySelectorAll("main button, main a, main input, main select")]
                        .filter((one) => one.checkVisibility() && !one.closest(".table-scroll, .visually-hidden"))
                        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
                        .map((one) => one.outerHTML)"""
                )
                assert outside == [], (enlarged, address)
            watch.assert_clean(404)


FOCUSED = """() => {
    const one = document.activeElement;
    const box = one.getBoundingClientRect();
    const label = one.matches("input[type=file]") ? one.nextElementSibling : one;
    const style = getComputedStyle(label);
    const before = window.before;
    window.before = one;
    const follows = before && before.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING;
    return {
        what: one.outerHTML.slice(0, 120),
        page: one === document.body,
        // The parts of a field for a date have the focus in turn, and the browser marks the part.
        marked: before === one || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
        after: !before || before === one || Boolean(follows),
    };
}"""


def test_the_tab_key_goes_through_each_page_in_order_and_is_always_seen(
    service: Service, page: Page, watch: Watch
) -> None:
    for address in some_pages(service):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.evaluate("document.activeElement.blur()")
        page.evaluate("window.before = undefined")
        reached = 0
        for _ in range(150):
            page.keyboard.press("Tab")
            focused = page.evaluate(FOCUSED)
            if focused["page"]:
                break
            reached += 1
            if reached > 1 and "skip-link" in focused["what"]:
                break
            assert focused["marked"], (address, focused)
            assert focused["inside"], (address, focused)
            assert focused["after"], (address, focused)
        assert reached >= 8, address
    watch.assert_clean(404)


def test_progress_is_told_to_those_who_only_hear_the_page(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02", RUBRIKA_CHUNK_ROWS="20")
    page.add_init_script(
        """window.told = [];
        new MutationObserver(() => {
            const words = document.getElementById("status")?.textContent;
            if (words && words !== told.at(-1)) told.push(words);
        }).observe(document, { childList: true, subtree: true, characterData: true });"""
    )
    send_file(page, csv(*(f"пост {number}" for number in range(400))))
    bar = page.get_by_role("progressbar", name="Готовность")
    expect(bar).to_have_attribute("aria-valuenow", "100", timeout=60_000)
    expect(page.locator("#status")).to_have_text("Состояние: Готово")
    told = page.evaluate("told")
    assert "Состояние: Выполняется" in told
    steps = [words for words in told if words.startswith("Готово ")]
    assert 1 <= len(steps) <= 3, told
    watch.assert_clean()


def test_a_first_visit_is_light_and_nothing_jumps(service: Service, browser: Browser) -> None:
    for address in some_pages(service):
        with browser.new_context(base_url=service.url, viewport={"width": 1280, "height": 900}) as context:
            page = context.new_page()
            page.add_init_script(
                """window.shift = 0;
                new PerformanceObserver((list) => list.getEntries().forEach((one) => {
                    shift += one.hadRecentInput ? 0 : one.value;
                })).observe({ type: "layout-shift", buffered: true });"""
            )
            page.goto(address)
            page.wait_for_load_state("networkidle")
            transferred = page.evaluate(
                """() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
                    .reduce((sum, one) => sum + one.transferSize, 0)"""
            )
            assert 10_000 < transferred < 350_000, address
            assert page.evaluate("shift") < 0.05, address
