"""The page as a person uses it: real processes, a real browser, and a watch for anything that it should not do."""

import os
import signal

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.browser import Watch, choose, csv, send_file
from tests.e2e.service import V1, Service
from tests.fake_classifier import expected
from tests.support import wait_until

SPORT = next(text for text in map("Матч номер {}".format, range(100)) if expected(text) > 0.5)
NOTHING = next(text for text in map("Туман номер {}".format, range(100)) if expected(text) < 0.5)
MARKUP = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> & <b>жирно</b>"

PAGES = ["/", "/files", "/history", "/history?show=files", "/model", "/api", "/nowhere"]


def test_one_text_from_typing_to_its_permanent_page(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    expect(page.locator(".bar")).to_have_count(2)
    expect(page.get_by_label("Текст поста")).to_be_focused()

    page.keyboard.type(SPORT)
    expect(page.locator("#count")).to_have_text("3 слова")
    with page.expect_response(f"**{V1}/classifications") as answer:
        page.keyboard.press("Control+Enter")
    assert answer.value.status == 200, "the answer to the first request should hold the result"

    bar = page.locator(".bar[data-topic=sport]")
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
    expect(page.get_by_role("status").first).to_have_text("Тема: Спорт")
    share = f"{expected(SPORT) * 100:.1f}".replace(".", ",") + "\xa0%"
    expect(bar.locator(".bar-share")).to_have_text(share)
    expect(bar.locator(".bar-note")).to_have_text("присвоенапорог 50,0\xa0%")
    expect(page.locator(".bar-name use")).to_have_attribute("href", "#icon-check-lg")
    expect(page.locator(".bar[data-topic=ads] .bar-note")).to_have_text("порог 50,0\xa0%")
    wait_until(lambda: abs(bar_width(page) - expected(SPORT)) < 0.01, what="the bar to be as long as it should")
    expect(page.get_by_label("Текст поста")).to_have_value(SPORT)

    page.get_by_role("link", name="Постоянная ссылка").click()
    page.wait_for_url("**/texts/*")
    expect(page.locator(".post-text")).to_have_text(SPORT)
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
    expect(page.locator(".bar[data-topic=sport] .bar-share")).to_have_text(share)
    watch.assert_clean()


def bar_width(page: Page) -> float:
    script = "fill => fill.offsetWidth / fill.parentElement.offsetWidth"
    width: float = page.locator(".bar[data-topic=sport] .bar-fill").evaluate(script)
    return width


def test_a_text_of_no_topic_is_said_to_be_so_and_all_three_fields_are_sent(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.goto("/")
    page.get_by_label("Текст поста").fill(NOTHING)
    expect(page.get_by_label("Текст с картинки", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Текст с картинки").click()
    page.keyboard.type("буквы на картинке")
    page.get_by_role("button", name="Речь из видео").click()
    page.keyboard.type("слова из видео")
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".verdict")).to_have_text("Ни одной из тем")

    [item] = service.get(f"{V1}/classifications").json["items"]
    assert [item[name] for name in ("doc_text", "image2text", "speech2text")] == [
        NOTHING,
        "буквы на картинке",
        "слова из видео",
    ]

    page.get_by_role("button", name="Убрать: Речь из видео").click()
    page.get_by_role("button", name="Определить темы").click()
    wait_until(lambda: len(service.get(f"{V1}/classifications").json["items"]) == 2, what="the second text")
    assert service.get(f"{V1}/classifications").json["items"][0]["speech2text"] == ""

    page.get_by_role("button", name="Распродажа").click()
    expect(page.get_by_label("Текст с картинки", exact=True)).to_have_value(
        "РАСПРОДАЖА −30 % куртки пуховики промокод ЗИМА30"
    )
    page.get_by_role("button", name="Очистить").click()
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Нечего классифицировать")
    watch.assert_clean()


def test_markup_in_a_text_is_shown_as_text(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    page.get_by_label("Текст поста").fill(MARKUP)
    page.get_by_role("button", name="Определить темы").click()
    page.get_by_role("link", name="Постоянная ссылка").click()
    expect(page.locator(".post-text")).to_have_text(MARKUP)

    page.goto("/history")
    expect(page.locator("[data-text] a")).to_have_text(MARKUP)

    send_file(page, csv(MARKUP), name="<b onclick=alert(1)>файл.csv")
    expect(page.locator("h1")).to_have_text("<b onclick=alert(1)>файл.csv")
    expect(page.locator("#table summary")).to_have_text(MARKUP)
    assert page.evaluate("window.hacked") is None
    watch.assert_clean()


def test_history_lists_texts_and_files_page_by_page(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    posts = [{"text": text} for text in [NOTHING, SPORT] * 30]
    assert service.classify({"items": posts}, wait=20).status == 200
    for number in range(3):
        service.wait_finished(service.upload(csv("пост"), filename=f"file{number}.csv"))

    page.goto("/history")
    rows = page.locator("[data-text]")
    expect(rows).to_have_count(50)
    listed = service.get(f"{V1}/classifications").json["items"]
    words = ["Спорт" if item["doc_text"] == SPORT else "ни одной" for item in listed]
    expect(page.locator(".cell-topics")).to_have_text(words)
    page.get_by_role("button", name="Показать ещё").click()
    expect(rows).to_have_count(60)
    expect(page.get_by_role("button", name="Показать ещё")).to_have_count(0)

    page.get_by_role("link", name="Файлы").last.click()
    expect(page.locator("[data-job] .cell-main")).to_have_text(["file2.csv", "file1.csv", "file0.csv"])
    page.get_by_role("link", name="file1.csv").click()
    expect(page).to_have_title("✓ Готово · file1.csv · Рубрика")
    watch.assert_clean()


def test_english_is_chosen_once_and_what_was_typed_stays(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    page.get_by_label("Текст поста").fill(SPORT)
    page.get_by_role("link", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_label("Post text")).to_have_value(SPORT)
    expect(page.locator("#count")).to_have_text("3 words")
    page.get_by_role("button", name="Find topics").click()
    expect(page.locator(".verdict")).to_have_text("Topic: Sport")
    expect(page.locator(".bar[data-topic=sport] .bar-share")).to_have_text(f"{expected(SPORT) * 100:.1f}%")

    page.get_by_role("link", name="Model").click()
    expect(page.locator("h1")).to_have_text("Model")
    expect(page.locator("#facts")).to_contain_text("fake")
    expect(page.locator("#service")).to_contain_text("Workers running")
    page.get_by_role("link", name="Русский").click()
    expect(page.locator("h1")).to_have_text("Модель")
    watch.assert_clean()


def test_without_a_worker_the_page_says_so_and_goes_on_by_itself(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    # One that is told to end before it listens is only missed when its lease is over.
    assert service.classify({"text": NOTHING}, wait=20).status == 200
    worker = service.processes[-1]
    worker.terminate()
    worker.wait(20)
    wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
    page.goto("/")
    page.get_by_label("Текст поста").fill(SPORT)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Сейчас не работает ни один обработчик", timeout=60_000)
    service.start("fake")
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт", timeout=60_000)
    expect(page.locator(".notice")).to_have_count(0)
    watch.assert_clean(503)


def test_what_the_server_refuses_or_cannot_answer_is_explained_and_nothing_typed_is_lost(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(RUBRIKA_MAX_TEXT_CHARS="1000")
    page.goto("/")
    field = page.get_by_label("Текст поста")
    field.fill("ы" * 1001)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Данные не приняты")
    expect(page.locator(".notice")).to_contain_text("Текст длиннее разрешённого")
    expect(field).to_have_value("ы" * 1001)

    field.fill(SPORT)
    os.killpg(service.processes[0].pid, signal.SIGKILL)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Сервер не отвечает")
    expect(field).to_have_value(SPORT)
    service.start("api", RUBRIKA_MAX_TEXT_CHARS="1000")
    # Nobody presses anything: the text is sent again as soon as there is a server.
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт", timeout=60_000)
    assert len(service.get(f"{V1}/classifications").json["items"]) == 1

    choose(page, b"", name="пустой.csv")
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator(".notice-title")).to_have_text("Данные не приняты")
    expect(page.locator("#chosen-name")).to_have_text("пустой.csv")
    watch.complaints = [text for text in watch.complaints if "ERR_" not in text]
    watch.assert_clean(422)


def test_every_page_fits_a_narrow_screen_in_both_languages_and_colours(service: Service, browser: Browser) -> None:
    service.start_all()
    service.classify({"text": "оченьдлинноеслово" * 20}, wait=20)
    job = service.wait_finished(service.upload(csv("оченьдлинноеслово" * 20, ""), filename="f" * 150 + ".csv"))
    [text] = service.get(f"{V1}/classifications").json["items"]
    with browser.new_context(
        base_url=service.url, viewport={"width": 320, "height": 640}, color_scheme="light"
    ) as context:
        watch = Watch(service.url).over(context)
        page = context.new_page()
        loaded, changed = "light", "dark"
        for address in [*PAGES, f"/texts/{text['id']}", f"/jobs/{job['id']}"]:
            for language in ("ru", "en"):
                page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
                page.wait_for_load_state("networkidle")
                for scheme in (loaded, changed):
                    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                    expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
                    assert page.evaluate("document.documentElement.scrollWidth") == 320, (address, language, scheme)
            # With the colours that are on now the next page is loaded.
            loaded, changed = changed, loaded
        watch.assert_clean(404)


def test_the_keyboard_reaches_everything(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    send_file(page, csv("пост " * 60, "другой пост"))
    expect(page).to_have_title("✓ Готово · посты.csv · Рубрика")
    expect(page.locator("tr[data-status=succeeded]")).to_have_count(2)
    page.keyboard.press("Tab")
    expect(page.locator(".skip-link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("#cards .topic-card")).to_have_count(2)
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.trim()"))
    assert reached[:8] == ["Все файлы", "CSV", "NDJSON", "JSON", "Excel", "Parquet", "Удалить", "Параметры скачивания"]
    assert {"Отобрать строки", page.locator("#table summary").first.inner_text()} <= set(reached[8:])
    watch.assert_clean()


def test_the_watch_notices_what_a_page_must_not_do(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.inline = 1";
            document.head.append(script);
            const picture = new Image();
            picture.src = "http://127.0.0.1:9/picture.png";
        }"""
    )
    wait_until(lambda: len(watch.complaints) >= 2, what="two complaints of the content security policy")
    assert page.evaluate("window.inline") is None
    assert all("Content Security Policy" in text for text in watch.complaints)
    with pytest.raises(AssertionError):
        watch.assert_clean()


NUMBERS = """async () => {
    const module = document.querySelector("script[type=module]").src;
    const { percentPair, progressPercent } = await import(module.replace(/[^/]+$/, "format.js"));
    const pairs = [[0.4997, 0.5], [0.50004, 0.5], [0.0003, 0.0004], [0.9, 0.5], [0.5, 0.5]];
    const progress = [[29, 100], [57, 100], [99999, 100000], [100000, 100000], [0, 0]];
    return [pairs.map((pair) => percentPair(...pair)), progress.map((rows) => progressPercent(...rows))];
}"""


def test_numbers_are_not_rounded_to_what_is_not_so(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    text = service.classify({"text": SPORT}, wait=20).json

    def nearly(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["topics"][0] |= {"topic": "sport", "probability": 0.4997, "threshold": 0.5, "assigned": False}
        route.fulfill(response=answer, json=body)

    page.route(f"**{V1}/classifications/{text['id']}", nearly)
    page.goto(f"/texts/{text['id']}")
    expect(page.locator(".bar[data-topic=sport] .bar-share")).to_have_text("49,97\xa0%")
    expect(page.locator(".bar[data-topic=sport] .bar-note")).to_have_text("порог 50,00\xa0%")

    pairs, progress = page.evaluate(NUMBERS)
    assert [[text.removesuffix("\xa0%") for text in pair] for pair in pairs] == [
        ["49,97", "50,00"],
        ["50,004", "50,000"],
        ["0,03", "0,04"],
        ["90,0", "50,0"],
        ["50,0", "50,0"],
    ]
    assert [text.removesuffix("\xa0%") for text in progress] == ["29", "57", "99", "100", "0"]
    watch.assert_clean()
