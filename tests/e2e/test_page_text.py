"""The first page when its text changes: a result is never taken, nor judged, for that of another text."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, barriers
from tests.e2e.service import V1, Service
from tests.e2e.test_page import NOTHING, SPORT
from tests.e2e.test_page_access import SETTLED
from tests.support import wait_until

STALE = re.compile(r"\bstale\b")
QUESTION = "Всё верно?"


def classify(page: Page, text: str) -> None:
    """As a person does it, until the result is there to be judged."""
    page.get_by_label("Текст поста").fill(text)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.get_by_text(QUESTION)).to_be_visible()


def test_an_example_or_an_empty_form_leaves_nothing_of_the_text_before(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.goto("/")
    for name in ("Матч", "Очистить"):
        classify(page, SPORT)
        page.get_by_role("button", name=name).click()
        expect(page.get_by_text(QUESTION)).to_have_count(0)
        expect(page.locator("#result .verdict.empty")).to_be_visible()
        expect(page.locator("#result .bar-share")).to_have_text(["–", "–"])
        expect(page.locator("#status")).to_be_empty()

    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Нечего классифицировать")
    page.get_by_role("button", name="Матч").click()
    expect(page.locator("#notice")).to_be_empty()
    watch.assert_clean()


def test_an_example_or_an_empty_form_ends_what_is_under_way(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    held: list[Route] = []
    page.route(f"**{V1}/classifications", lambda route: held.append(route))
    for name in ("Матч", "Очистить"):
        page.get_by_label("Текст поста").fill(SPORT)
        page.get_by_role("button", name="Определить темы").click()
        expect(page.locator("#form")).to_have_attribute("aria-busy", "true")
        with page.expect_event("requestfailed"):
            page.get_by_role("button", name=name).click()
        expect(page.locator("#form")).not_to_have_attribute("aria-busy", re.compile("."))
        expect(page.locator("#status")).to_be_empty()
        expect(page.locator("#notice")).to_be_empty()
        expect(page.locator("#result")).not_to_have_class(re.compile("pending"))
    assert len(held) == 2
    page.unroute_all()
    classify(page, NOTHING)
    expect(page.locator(".verdict")).to_have_text("Ни одной из тем")
    watch.assert_clean()


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_a_result_whose_text_changes_is_said_to_be_of_the_one_before_and_cannot_be_judged(
    service: Service, page: Page, watch: Watch, width: int
) -> None:
    service.start_all()
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/")
    classify(page, SPORT)
    result, field = page.locator("#result"), page.get_by_label("Текст поста")
    words = result.get_by_text("Текст изменён: это результат прежнего.")
    expect(words).to_be_hidden()
    places = (
        "document.getElementById('result').innerHTML && [...document.querySelectorAll('#result *')]"
        ".map((one) => JSON.stringify(one.getBoundingClientRect()))"
    )
    page.evaluate("scrollTo(0, 0)")
    before = page.evaluate(places)

    field.press("End")
    page.keyboard.type("!")
    expect(result).to_have_class(STALE)
    expect(words).to_be_visible()
    expect(page.get_by_text(QUESTION)).to_be_hidden()
    expect(page.get_by_role("status").first).to_have_text("Текст изменён: это результат прежнего.")
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(places) == before
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        page.evaluate(SETTLED)
        assert barriers(page) == []

    page.keyboard.press("Backspace")
    expect(result).not_to_have_class(STALE)
    expect(words).to_be_hidden()
    expect(page.get_by_text(QUESTION)).to_be_visible()
    expect(page.get_by_role("status").first).to_have_text("Тема: Спорт")

    # What is added without a word in it is nothing that the model would read.
    page.get_by_role("button", name="Текст с картинки").click()
    expect(result).not_to_have_class(STALE)
    page.keyboard.type("буквы")
    expect(result).to_have_class(STALE)
    page.get_by_role("button", name="Убрать: Текст с картинки").click()
    expect(result).not_to_have_class(STALE)
    watch.assert_clean()


def test_a_result_that_comes_after_its_text_has_changed_is_not_judged_for_the_new_one(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.goto("/")
    classify(page, SPORT)
    held: list[Route] = []
    page.route(f"**{V1}/classifications", lambda route: held.append(route))
    field, words = page.get_by_label("Текст поста"), page.locator(".stale-words")
    field.fill(NOTHING)
    page.keyboard.press("Control+Enter")
    wait_until(lambda: page.title() != "" and len(held) == 1, what="the page to send it")
    expect(words).to_be_visible()
    expect(page.locator("#status")).to_have_text("Определяем темы…")
    field.fill(SPORT)
    expect(words).to_be_hidden()
    expect(page.locator("#status")).to_have_text("Определяем темы…")
    held[0].continue_()
    expect(page.locator(".verdict")).to_have_text("Ни одной из тем")
    expect(words).to_be_visible()
    expect(page.get_by_text(QUESTION)).to_be_hidden()
    expect(page.get_by_role("status").first).to_have_text("Текст изменён: это результат прежнего.")

    page.unroute_all()
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
    page.get_by_role("button", name="Да, верно").click()
    expect(page.locator(".judge-said")).to_be_visible()
    items = service.get(f"{V1}/classifications").json["items"]
    assert [(item["doc_text"], item["feedback"]) for item in items] == [
        (SPORT, ["sport"]),
        (NOTHING, None),
        (SPORT, None),
    ]
    watch.assert_clean()


def test_a_text_that_takes_the_place_of_another_keeps_its_key_when_its_answer_is_lost(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.goto("/")
    keys: list[str] = []

    def lose_the_first(route: Route) -> None:
        if route.request.post_data_json["doc_text"] == NOTHING:
            return  # It is under way until the page ends it.
        keys.append(route.request.headers["idempotency-key"])
        route.abort() if len(keys) == 1 else route.continue_()

    page.route(f"**{V1}/classifications", lose_the_first)
    page.get_by_label("Текст поста").fill(NOTHING)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#form")).to_have_attribute("aria-busy", "true")
    page.get_by_label("Текст поста").fill(SPORT)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт", timeout=60_000)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean()
