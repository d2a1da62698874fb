"""The page as a person uses it: real processes, a real browser, and a watch for anything that it should not do."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.browser import CHROMIUM, Watch, open_browser
from tests.e2e.service import V1, Service
from tests.fake_classifier import expected
from tests.support import wait_until

SPORT = next(text for text in map("Матч номер {}".format, range(100)) if expected(text) > 0.5)
NOTHING = next(text for text in map("Туман номер {}".format, range(100)) if expected(text) < 0.5)
MARKUP = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> & <b>жирно</b>"

PAGES = ["/", "/files", "/history", "/history?show=files", "/model", "/nowhere"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing; with CI set that is a failure")
        pytest.skip(f"{CHROMIUM} is missing (apt install chromium)")
    with open_browser() as opened:
        yield opened


@pytest.fixture
def context(browser: Browser, service: Service) -> Iterator[BrowserContext]:
    """A visitor who was never here before. Locale and colours of the machine are those of no real one on purpose."""
    made = browser.new_context(base_url=service.url, locale="de-DE", viewport={"width": 1280, "height": 900})
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture
def watch(context: BrowserContext, service: Service) -> Watch:
    return Watch(service.url).over(context)


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Page:
    return context.new_page()


def csv(*texts: str) -> bytes:
    quoted = ('"' + text.replace('"', '""') + '"' for text in texts)
    return ("doc_text,author\n" + "".join(f"{text},user{number}\n" for number, text in enumerate(quoted, 1))).encode()


def choose(page: Page, data: bytes, name: str = "посты.csv") -> None:
    """Choose a file on the page of files, without sending it."""
    page.goto("/files")
    page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})


def send_file(page: Page, data: bytes, name: str = "посты.csv") -> None:
    """Send a file as a person does, up to the page of its job."""
    choose(page, data, name)
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")


def test_one_text_from_typing_to_its_permanent_page(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    expect(page.locator(".bar")).to_have_count(2)
    expect(page.get_by_label("Текст поста")).to_be_focused()

    page.keyboard.type(SPORT)
    expect(page.locator("#count")).to_have_text("3 слова")
    page.keyboard.press("Control+Enter")

    bar = page.locator(".bar[data-topic=sport]")
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
    expect(page.get_by_role("status").first).to_have_text("Тема: Спорт")
    share = f"{expected(SPORT) * 100:.1f}".replace(".", ",") + "\xa0%"
    expect(bar.locator(".bar-share")).to_have_text(share)
    expect(bar.locator(".bar-note")).to_have_text("присвоенапорог 50,0\xa0%")
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
    expect(page.locator("summary")).to_have_text(MARKUP)
    assert page.evaluate("window.hacked") is None
    watch.assert_clean()


def test_a_file_from_choosing_to_its_download(service: Service, page: Page, watch: Watch, tmp_path: Path) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    texts = [f"пост номер {number}" for number in range(1, 181)]
    texts[4] = ""
    choose(page, csv(*texts))
    expect(page.locator("#chosen-name")).to_have_text("посты.csv")
    page.get_by_label("Название").fill("Ноябрьские посты")
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")

    bar = page.get_by_role("progressbar")
    wait_until(lambda: 0 < int(bar.get_attribute("aria-valuenow") or 0) < 100, 20, what="progress on the page")
    expect(page.locator("#state")).to_have_text("Выполняется")
    expect(page.locator("#progress-words")).to_contain_text("осталось около")
    assert page.title().endswith("Ноябрьские посты · Рубрика")

    expect(page.locator("#state")).to_have_text("Готово, есть ошибки")
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(page.locator("#progress-words")).to_have_text("Готово 100\xa0%: 180 из 180")
    expect(page.locator("[data-fact=succeeded] dd")).to_have_text("179")
    expect(page.locator("[data-fact=failed] dd")).to_have_text("1")
    expect(page).to_have_title("✓ Готово, есть ошибки · Ноябрьские посты · Рубрика")

    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(50)
    expect(page.locator("tr[data-status=succeeded]")).to_have_count(49)
    expect(page.locator("tr[data-row='5']")).to_contain_text("Текста нет: все поля пусты")
    first = page.locator("tr[data-row='1']")
    expect(first.locator(".cell-topic[data-topic=sport] .share")).to_have_text(
        f"{expected(texts[0]) * 100:.1f}".replace(".", ",") + "\xa0%"
    )
    first.locator("summary").click()
    expect(first.locator("dd")).to_have_text([texts[0], "user1"])

    for last in (100, 150, 180):
        page.get_by_role("button", name="Вперёд").click()
        expect(page.locator("#pager-words")).to_have_text(f"строки {last - 49 if last < 180 else 151}–{last}")
    expect(page.get_by_role("button", name="Вперёд")).to_be_disabled()
    page.get_by_role("button", name="Назад").click()
    expect(page.locator("#pager-words")).to_have_text("строки 101–150")

    for extension in ("CSV", "NDJSON", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=extension, exact=True).click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        assert saved.name == f"Ноябрьские посты.rubrika.{extension.lower()}"
        assert saved.read_text(encoding="utf-8-sig").count("пост номер") == 179
    watch.assert_clean()


def test_a_file_that_is_dropped_on_the_page_is_taken(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/files")
    transfer = page.evaluate_handle(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File(["doc_text\\nпост\\n"], "брошенный.csv", { type: "text/csv" }));
            return transfer;
        }"""
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class("drop over")
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    expect(page).to_have_title("✓ Готово · брошенный.csv · Рубрика")
    watch.assert_clean()


def test_an_upload_shows_its_progress_and_can_be_stopped(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    choose(page, csv(*["длинный пост " * 100] * 2000))
    session = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 400_000}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", slow)
    page.get_by_role("button", name="Отправить").click()
    bar = page.get_by_role("progressbar")
    wait_until(lambda: 1 < int(bar.get_attribute("aria-valuenow") or 0) < 90, 20, what="progress of the upload")
    expect(page.locator("#sending-words")).to_contain_text("из 4,")
    page.get_by_role("button", name="Прервать отправку").click()
    expect(page.locator(".notice-title")).to_have_text("Отправка прервана, на сервере ничего не сохранено.")
    assert service.get(f"{V1}/jobs").json["items"] == []

    session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    watch.assert_clean()


def test_a_running_file_is_stopped_and_deleted(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    send_file(page, csv(*(f"пост {number}" for number in range(1000))))
    expect(page.locator("#state")).to_have_text("Выполняется")
    page.get_by_role("button", name="Остановить").click()
    expect(page.locator("#state")).to_have_text("Остановлено", timeout=15_000)
    expect(page.get_by_role("button", name="Остановить")).to_be_hidden()
    address = page.url

    page.get_by_role("button", name="Удалить").click()
    expect(page.get_by_role("dialog")).to_contain_text("Отменить это нельзя.")
    expect(page.get_by_role("button", name="Оставить")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Удалить").click()
    page.get_by_role("dialog").get_by_role("button", name="Удалить").click()
    page.wait_for_url("**/files")
    expect(page.locator("#list")).to_have_text("Файлов пока нет. Здесь будет виден ход работы над каждым.")

    page.goto(address)
    expect(page.locator(".notice-title")).to_have_text("Такого файла нет")
    watch.assert_clean(404)


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
    worker = service.processes[-1]
    worker.terminate()
    worker.wait(20)
    wait_until(lambda: service.get("/readyz").status == 503, 30, what="the missing worker to be noticed")
    page.goto("/")
    page.get_by_label("Текст поста").fill(SPORT)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Сейчас не работает ни один обработчик")
    service.start("fake")
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")
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
    service.wait_ready()
    page.get_by_role("button", name="Повторить").click()
    expect(page.locator(".verdict")).to_have_text("Тема: Спорт")

    choose(page, b"", name="пустой.csv")
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator(".notice-title")).to_have_text("Данные не приняты")
    expect(page.locator("#chosen-name")).to_have_text("пустой.csv")
    watch.complaints = [text for text in watch.complaints if "ERR_" not in text]
    watch.assert_clean(422)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_narrow_screen_in_both_languages(
    service: Service, browser: Browser, scheme: str, tmp_path: Path
) -> None:
    service.start_all()
    service.classify({"text": "оченьдлинноеслово" * 20}, wait=20)
    job = service.wait_finished(service.upload(csv("оченьдлинноеслово" * 20, ""), filename="f" * 150 + ".csv"))
    [text] = service.get(f"{V1}/classifications").json["items"]
    with browser.new_context(
        base_url=service.url,
        viewport={"width": 320, "height": 640},
        color_scheme="dark" if scheme == "dark" else "light",
    ) as context:
        watch = Watch(service.url).over(context)
        page = context.new_page()
        for address in [*PAGES, f"/texts/{text['id']}", f"/jobs/{job['id']}"]:
            for language in ("ru", "en"):
                page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
                page.wait_for_load_state("networkidle")
                assert page.evaluate("document.documentElement.scrollWidth") == 320, (address, language)
                expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
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
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText.trim()"))
    assert reached[:5] == ["Все файлы", "CSV", "NDJSON", "JSON", "Удалить"]
    assert page.locator("summary").first.inner_text() in reached[5:]
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
