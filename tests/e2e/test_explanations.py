"""Which words speak for a topic: through real processes that die, and on the page in a real browser with the model."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.e2e.browser import Watch
from tests.e2e.service import V1, Service
from tests.support import wait_until

LONG = " ".join(f"слово{number}" for number in range(40))
SPORT = "😀👍🏽 Наши забили победный гол в матче 🔥, болельщики ликуют"
SALE = "Скидка 30 % на всё, промокод и бесплатная доставка"

# --- processes that die ---------------------------------------------------------------------------------------------


def text_of(service: Service, item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service.get(f"{V1}/classifications/{item['id']}").json
    return found


def wait_done(service: Service, item: dict[str, Any]) -> dict[str, Any]:
    wait_until(lambda: text_of(service, item)["status"] == "succeeded", 60, what="the explanation", every=0.1)
    return text_of(service, item)


def test_a_worker_killed_while_it_explains_costs_time_and_nothing_else(service: Service) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    items = service.classify({"items": [{"text": f"{LONG} {n}", "explain": True} for n in range(3)]}).json["items"]

    def explained_now() -> dict[str, Any] | None:
        addresses = {item["id"]: f"{V1}/classifications/{item['id']}/explanation" for item in items}
        return next((item for item in items if service.get(addresses[item["id"]]).json["status"] == "running"), None)

    for _ in range(2):
        item = wait_until(explained_now, 30, what="an explanation to begin")
        assert item is not None
        service.kill(service.processes[-1])
        before = text_of(service, item)
        assert (before["status"], len(before["topics"])) == ("running", 2), "its topics are there meanwhile"
        service.start("fake", FAKE_SECONDS="0.02")
        done = wait_done(service, item)
        assert done["topics"] == before["topics"]
        assert len(done["explanation"]["sport"]) == 41
    assert [wait_done(service, item)["explanation_error"] for item in items] == [None] * 3


def test_a_text_that_kills_every_worker_that_explains_it_keeps_its_topics(service: Service) -> None:
    service.start("api")
    service.start("sweeper")
    worker = service.start("fake")
    service.wait_ready()
    deadly, harmless = service.classify(
        {"items": [{"text": "!brittle слово", "explain": True}, {"text": SPORT, "explain": True}]}
    ).json["items"]
    for _ in range(3):
        wait_until(lambda: worker.poll() is not None, 60, what="the worker to die")  # noqa: B023
        worker = service.start("fake")
    found = wait_done(service, deadly)
    assert (len(found["topics"]), found["explanation_error"]["code"]) == (2, "explainer_lost")
    assert wait_done(service, harmless)["explanation"]["sport"]
    assert worker.poll() is None


# --- the page -------------------------------------------------------------------------------------------------------


def send(page: Page, text: str) -> None:
    page.locator("#doc_text").fill(text)
    page.keyboard.press("Control+Enter")
    page.locator("#result:not(.pending) #permalink").wait_for()


def ask_why(page: Page, name: str = "Почему?") -> None:
    """Ask, and wait for the words, which takes the model its time on a busy machine."""
    page.get_by_role("button", name=name).click()
    page.locator(".why.explained").wait_for(timeout=60_000)


def words(page: Page, kind: str) -> list[str]:
    return page.locator(f".why-text mark.{kind}").all_inner_texts()


def label(page: Page, topic: str) -> Locator:
    return page.locator(f"label[for=why-{topic}]")


def test_the_words_are_shown_on_demand_by_hover_keyboard_and_for_the_next_text_as_well(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all("worker")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/explanation" in request.url else None)
    page.goto("/")
    send(page, SPORT)
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
    why = page.get_by_role("button", name="Почему?")
    expect(why).to_have_attribute("aria-expanded", "false")
    assert asked == [], "nobody asked for an explanation"
    ask_why(page)

    # No emoji shifts the marks: the text is whole, and what is marked are its words.
    expect(page.locator(".why-text")).to_have_text(SPORT)
    expect(page.get_by_role("radio", name="Спорт")).to_be_checked()
    sport = words(page, "for")
    assert "гол" in sport
    assert set(sport + words(page, "against")) <= set(re.findall(r"\w+|[^\w\s,]+", SPORT))
    lines = page.locator(".why-line.for")
    expect(lines).to_contain_text("За тема «Спорт»:")
    strongest = lines.locator("li").first.inner_text()
    assert re.fullmatch(r"\S+ \+\d,\d", strongest)
    deepest = page.locator(".why-text mark.for.s3").all_inner_texts()
    assert strongest.split()[0] in deepest

    # By hover, and back when the mouse goes away.
    label(page, "politics").hover()
    expect(page.locator(".why-said")).to_contain_text("«Политика»")
    assert words(page, "for") != sport
    page.locator("h1").hover()
    expect(page.locator(".why-said")).to_contain_text("«Спорт»")
    # By the keyboard.
    page.get_by_role("radio", name="Спорт").focus()
    page.keyboard.press("ArrowRight")
    second = page.get_by_role("radio").nth(1)
    expect(second).to_be_checked()
    expect(second).to_be_focused()
    expect(page.locator(".why-said")).not_to_contain_text("«Спорт»")

    # The next text gets its words without being asked for, and its topics do not wait for them.
    send(page, SALE)
    expect(page.locator(".verdict")).to_have_text("Тема: Реклама")
    expect(page.locator(".why.explained .why-text")).to_have_text(SALE, timeout=60_000)
    expect(page.get_by_role("radio", name="Реклама")).to_be_checked()
    why.click()
    expect(page.locator(".why-text")).to_have_count(0)
    count = len(asked)
    send(page, SPORT)
    expect(why).to_have_attribute("aria-expanded", "false")
    assert len(asked) == count
    watch.assert_clean()


def test_a_permanent_page_explains_the_text_where_it_stands_in_all_its_fields(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all("worker")
    fields = {
        "doc_text": "Всем привет",
        "image2text": "РАСПРОДАЖА 🎁 −30 % по промокоду",
        "speech2text": "приходите за покупками",
    }
    plain = service.classify(fields, 30).json
    page.goto(f"/texts/{plain['id']}?lang=en")
    texts = page.locator("#post .post-text")
    expect(texts).to_have_text(list(fields.values()))
    ask_why(page, "Why?")
    expect(page.locator(".why-text .post-text")).to_have_text(list(fields.values()))
    expect(page.locator("#post .post-text:visible")).to_have_count(3)
    expect(page.locator(".why-text h2")).to_have_text(["Post text", "Picture text", "Video speech"])
    assert "промокоду" in page.locator(".why-text [data-field=image2text] mark.for").all_inner_texts()
    page.get_by_role("button", name="Why?").click()
    expect(page.locator("#post .post-text:visible")).to_have_count(3)
    expect(page.locator(".why-text")).to_have_count(0)

    # One that was explained is shown so at once, also to who never asked.
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.locator(".why.explained .why-text .post-text")).to_have_count(3)
    watch.assert_clean()


def test_a_text_that_is_longer_than_the_model_reads_says_where_reading_ends(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all("worker")
    page.goto("/")
    send(page, f"{SPORT} " * 60)
    ask_why(page)
    expect(page.locator(".why-text .unread")).to_have_count(1)
    read = page.locator(".why-text .post-text").inner_text().split("Дальше модель не читала:")[0]
    assert SPORT in read
    assert len(read) < len(SPORT) * 50
    watch.assert_clean()


def test_why_there_is_no_explanation_is_said_in_words(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    send(page, "!fragile слово")
    page.get_by_role("button", name="Почему?").click()
    expect(page.locator(".why-place .notice")).to_contain_text("Модель не справилась с частями этого текста.")
    expect(page.locator(".bar")).to_have_count(2)
    # The worker goes: what is asked for waits, and the page says what for.
    worker = service.processes[-1]
    worker.terminate()
    worker.wait(20)
    wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
    page.get_by_role("button", name="Повторить").click()
    expect(page.locator(".why-place .notice-title")).to_have_text(
        "Сейчас не работает ни один обработчик", timeout=60_000
    )
    service.start("fake")
    expect(page.locator(".why-place .notice")).to_contain_text(
        "Модель не справилась с частями этого текста.", timeout=60_000
    )
    watch.assert_clean(503)


def contrast(mark: Locator) -> float:
    """Of the text of a mark on its background (WCAG 2.2)."""
    script = """mark => {
        const light = colour => {
            const [r, g, b] = colour.match(/\\d+/g).slice(0, 3).map(Number).map(v => v / 255)
                .map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const style = getComputedStyle(mark);
        const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    }"""
    found: float = mark.evaluate(script)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_told_apart_without_colours_readable_and_reached_by_a_finger(
    service: Service, browser: Browser, scheme: Any
) -> None:
    service.start_all("worker")
    with browser.new_context(
        base_url=service.url, viewport={"width": 320, "height": 640}, color_scheme=scheme, has_touch=True
    ) as context:
        context.set_default_timeout(20_000)
        watch = Watch(service.url).over(context)
        page = context.new_page()
        page.goto("/")
        send(page, f"{SPORT}. {SALE}. {'оченьдлинноеслово' * 5}")
        page.get_by_role("button", name="Почему?").tap()
        page.locator(".why.explained").wait_for(timeout=60_000)
        label(page, "ads").tap()
        expect(page.get_by_role("radio", name="Реклама")).to_be_checked()
        expect(page.locator(".why-said")).to_contain_text("«Реклама»")
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        styles = {}
        for kind in ("for", "against"):
            marks = page.locator(f".why mark.{kind}").all()
            assert marks
            assert min(contrast(mark) for mark in marks) >= 4.5
            styles[kind] = {mark.evaluate("mark => getComputedStyle(mark).textDecorationStyle") for mark in marks}
        assert styles == {"for": {"solid"}, "against": {"wavy"}}
        watch.assert_clean()


def test_a_result_is_judged_and_copied(service: Service, context: BrowserContext, page: Page, watch: Watch) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    service.start_all("worker")
    page.goto("/")
    send(page, SPORT)
    [item] = service.get(f"{V1}/classifications").json["items"]

    page.get_by_role("button", name="Скопировать JSON").click()
    expect(page.locator(".copy-said")).to_have_text("Скопировано")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == item

    page.get_by_role("button", name="Да, верно").click()
    expect(page.locator(".judge-said")).to_have_text("Записано, верная тема: Спорт.")
    assert text_of(service, item)["feedback"] == ["sport"]
    page.get_by_role("button", name="Изменить").click()
    expect(page.get_by_role("checkbox", name="Спорт")).to_be_checked()
    expect(page.get_by_role("checkbox", name="Спорт")).to_be_focused()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Сохранить").click()
    expect(page.locator(".judge-said")).to_have_text("Записано: ни одной из тем.")
    assert text_of(service, item)["feedback"] == []

    page.get_by_role("link", name="Постоянная ссылка").click()
    expect(page.locator(".judge-said")).to_have_text("Записано: ни одной из тем.")
    page.get_by_role("button", name="Изменить").click()
    page.get_by_role("checkbox", name="Юмор").check()
    page.get_by_role("checkbox", name="Реклама").check()
    page.get_by_role("button", name="Сохранить").click()
    expect(page.locator(".judge-said")).to_contain_text("верные темы")
    assert sorted(text_of(service, item)["feedback"]) == ["ads", "humour"]
    watch.assert_clean()
