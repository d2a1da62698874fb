"""Which words speak for the topics of a row of a file: asked for in the table of its job."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import Watch, barriers, csv, send_file
from tests.e2e.service import V1, Service
from tests.support import wait_until

SPORT = "😀 Наши забили победный гол в матче 🔥, болельщики ликуют"
SALE = "Скидка 30 % на всё, промокод и бесплатная доставка"
BRITTLE = "!fragile слово"


def row(page: Page, number: int) -> Locator:
    return page.locator(f"tr[data-row='{number}']")


def open_row(page: Page, number: int) -> Locator:
    """Open a row by the keyboard; its button."""
    summary = row(page, number).locator("summary")
    expect(summary).to_be_visible()
    summary.focus()
    page.keyboard.press("Enter")
    return row(page, number).get_by_role("button", name=f"Почему? Строка {number}")


def finished(page: Page, *texts: str) -> None:
    """Send a file and wait until its rows stand on the page of the job."""
    send_file(page, csv(*texts))
    expect(page.locator("[data-status=succeeded]")).to_have_count(len(texts), timeout=60_000)


def test_words_of_rows_are_marked_in_their_place_by_topic_and_by_keyboard(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all("worker")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/explanation" in request.url else None)
    finished(page, SPORT, SALE, "Пост без темы")
    button = open_row(page, 1)
    expect(button).to_have_attribute("aria-expanded", "false")
    assert asked == [], "opening a row asks for nothing"
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    first = row(page, 1).locator(".why")
    expect(first).to_have_class(re.compile("explained"), timeout=60_000)
    expect(first.locator(".why-text")).to_have_text(SPORT)
    expect(first.get_by_role("radio", name="Спорт")).to_be_checked()
    assert "гол" in first.locator("mark.for").all_inner_texts()
    expect(first.locator(".why-line.for")).to_contain_text("За тема «Спорт»:")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(first.get_by_role("radio").nth(1)).to_be_checked()
    expect(first.locator(".why-said")).not_to_contain_text("«Спорт»")

    # A second row has topics of its own to choose from, and the first keeps its choice.
    open_row(page, 2).click()
    second = row(page, 2).locator(".why")
    expect(second).to_have_class(re.compile("explained"), timeout=60_000)
    expect(second.get_by_role("radio", name="Реклама")).to_be_checked()
    expect(first.get_by_role("radio").nth(1)).to_be_checked()
    assert barriers(page) == []

    # Thresholds move, and a row that keeps its topics keeps what is open in it and the focus.
    chosen = first.get_by_role("radio").nth(1)
    chosen.focus()
    count = len(asked)
    with page.expect_response("**/results?**thresholds=**"):
        page.locator("#threshold-politics").evaluate(
            "one => { one.value = '0.99'; one.dispatchEvent(new Event('input', { bubbles: true })); }"
        )
    expect(page.locator("#pairs")).not_to_have_class(re.compile("stale"))
    expect(chosen).to_be_focused()
    expect(chosen).to_be_checked()
    # One that loses its topic shows it, and nobody is asked again.
    page.locator("#threshold-ads").fill("1")
    expect(row(page, 2).locator("td.assigned")).to_have_count(0)
    expect(second.locator("label .icon")).to_have_count(0)
    expect(second.locator(".why-text")).to_have_text(SALE)
    assert len(asked) == count

    button.click()
    expect(row(page, 1).locator(".why")).to_have_count(0)
    expect(row(page, 1).locator("details")).to_contain_text("user1")
    watch.assert_clean()


def test_what_is_open_in_a_row_stays_while_other_rows_come_in(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    last = 900
    send_file(page, csv("особый", *(f"пост {number}" for number in range(2, last)), "тоже особый"))
    expect(row(page, 1)).to_have_attribute("data-status", "succeeded", timeout=30_000)
    page.goto(f"{page.url}?q=особый")
    expect(page.locator("#table tbody tr")).to_have_count(2)
    open_row(page, 1).press("Enter")
    row(page, 1).locator(".why.explained").wait_for(timeout=60_000)
    expect(row(page, last)).not_to_have_attribute("data-status", "succeeded")
    radio = row(page, 1).get_by_role("radio").first
    radio.focus()
    kept = row(page, 1).locator(".why").element_handle()
    expect(row(page, last)).to_have_attribute("data-status", "succeeded", timeout=60_000)
    assert kept is not None
    assert kept.evaluate("one => one.isConnected"), "the table was made anew, and this part of it was not"
    expect(radio).to_be_focused()
    watch.assert_clean()


def test_why_a_row_has_no_explanation_is_said_in_words(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    finished(page, BRITTLE, "обычный пост")
    open_row(page, 1).click()
    place = row(page, 1).locator(".why-place")
    expect(place.locator(".notice")).to_contain_text("Модель не справилась с частями этого текста.")
    expect(row(page, 1).locator("dl").first).to_be_attached()
    # The worker goes: what is asked for waits, and the page says what for.
    worker = service.processes[-1]
    worker.terminate()
    worker.wait(20)
    wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
    open_row(page, 2).click()
    waiting = row(page, 2).locator(".why-place")
    expect(waiting).to_contain_text("Выясняем, какие слова повлияли…")
    expect(waiting.locator(".notice-title")).to_have_text("Сейчас не работает ни один обработчик", timeout=60_000)
    assert barriers(page) == []
    service.start("fake")
    row(page, 2).locator(".why.explained").wait_for(timeout=60_000)
    expect(waiting.locator(".notice")).to_have_count(0)
    # Somebody deletes the file meanwhile.
    job_id = page.url.rpartition("/")[2].partition("?")[0]
    assert service.call("DELETE", f"{V1}/jobs/{job_id}").status == 204
    row(page, 1).get_by_role("button", name="Повторить").click()
    expect(place.locator(".notice-title")).to_have_text("Не найдено")
    watch.assert_clean(404, 503)
