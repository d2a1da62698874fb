"""Files on the page as a person sends, follows, reads, downloads and deletes them: real processes, a real browser."""

import os
import re
import signal
from csv import DictReader
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from playwright.sync_api import Page, expect

from tests.e2e.browser import Watch, choose, csv, send_file
from tests.e2e.service import V1, Service
from tests.fake_classifier import expected
from tests.support import wait_until
from tests.tiny_model import make_tiny_model


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
    expect(page.locator("#progress-words")).to_contain_text("осталось ")
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
    expect(first.locator("summary")).to_have_text(texts[0])
    expect(first.locator("dd")).to_have_text(["user1"])  # The text itself stands above already.

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
    for kind, extension, signature in (("Excel", "xlsx", b"PK"), ("Parquet", "parquet", b"PAR1")):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        assert saved.name == f"Ноябрьские посты.rubrika.{extension}"
        assert saved.read_bytes().startswith(signature)
    watch.assert_clean()


def test_options_of_a_download_are_those_that_are_ticked(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.start_all()
    send_file(page, csv("=1+1", "пост"))
    expect(page.locator("#state")).to_have_text("Готово")
    page.get_by_text("Параметры скачивания").click()

    def downloaded() -> bytes:
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV", exact=True).click()
        download.value.save_as(tmp_path / "results.csv")
        return (tmp_path / "results.csv").read_bytes()

    assert downloaded().startswith(b"\xef\xbb\xbfdoc_text,author,row,")
    assert b"\n'=1+1," in downloaded()
    page.get_by_label("CSV для русского Excel").check()
    assert downloaded().startswith(b"\xef\xbb\xbfdoc_text;author;row;")
    assert re.search(rb";0,\d+;", downloaded())
    page.get_by_label("CSV для русского Excel").uncheck()
    page.get_by_label("CSV с меткой BOM").uncheck()
    page.get_by_label("CSV без защиты от формул").check()
    assert downloaded().startswith(b"doc_text,author,row,")
    assert b"\n=1+1," in downloaded()
    # Without a filter or thresholds of one's own there is nothing to choose.
    expect(page.get_by_label("Только отобранные строки")).to_be_disabled()
    expect(page.get_by_label("С моими порогами")).to_be_disabled()
    page.get_by_role("slider", name="Порог: Реклама").fill("0.2")
    expect(page.get_by_label("С моими порогами")).to_be_enabled()
    page.wait_for_url("**thresholds=**")
    assert downloaded().count(b"ads") >= 3
    page.get_by_label("С моими порогами").uncheck()
    assert downloaded().count(b"ads") == 1
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


def test_a_file_that_is_stopped_after_all_of_it_was_sent_may_be_accepted_and_never_twice(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    choose(page, csv("пост"))
    expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
    expect(page.locator("#list .nothing")).to_be_visible()
    api = service.processes[0].pid
    os.killpg(api, signal.SIGSTOP)  # What is sent now arrives, and nobody reads it yet.
    try:
        page.get_by_role("button", name="Отправить").click()
        expect(page.locator("#sending-words")).to_contain_text("отправлен целиком")
        page.get_by_role("button", name="Прервать отправку").click()
        expect(page.locator(".notice-title")).to_have_text(
            "Файл уже был передан целиком и мог быть принят: проверьте список ниже."
        )
    finally:
        os.killpg(api, signal.SIGCONT)
    expect(page.locator("#list [data-job]")).to_have_count(1)
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    assert len(service.get(f"{V1}/jobs").json["items"]) == 1
    watch.assert_clean()


def test_the_way_back_from_a_job_leads_to_a_page_that_takes_the_next_file(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    choose(page, csv("пост"))
    # An answer without content leaves the page as it is, which a browser would keep for the way back.
    page.route(f"{service.url}/jobs/*", lambda route: route.fulfill(status=204))
    with page.expect_request(f"{service.url}/jobs/*"):
        page.get_by_role("button", name="Отправить").click()
    expect(page.locator("#sending")).to_be_visible()
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(page.locator("#sending")).to_be_hidden()
    expect(page.locator("#list [data-job]")).to_have_count(1)
    page.locator("#file").set_input_files({"name": "второй.csv", "mimeType": "text/csv", "buffer": csv("второй")})
    expect(page.locator("#chosen-name")).to_have_text("второй.csv")
    watch.assert_clean()


def test_a_running_file_is_stopped_and_deleted(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    send_file(page, csv(*(f"пост {number}" for number in range(1000))))
    expect(page.locator("#state")).to_have_text("Выполняется")
    half = page.get_by_text("Пока файл считается, у строк без результата темы в скачанном файле пусты.")
    expect(half).to_be_visible()
    page.get_by_role("button", name="Остановить").click()
    expect(page.locator("#state")).to_have_text("Остановлено", timeout=15_000)
    expect(half).to_be_hidden()
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


def test_the_page_of_a_job_is_told_of_its_progress_rather_than_asking(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    send_file(page, csv(*(f"пост {number}" for number in range(400))))
    expect(page.locator("#state")).to_have_text("Готово", timeout=30_000)
    expect(page.locator("[data-fact=succeeded] dd")).to_have_text("400")
    address = f"{service.url}{V1}{page.url.removeprefix(service.url)}"
    assert asked.count(f"{address}/events") == 1
    assert asked.count(address) == 1, "after the first answer nothing was asked for"
    watch.assert_clean()


def test_a_page_without_a_stream_asks_instead(service: Service, page: Page, watch: Watch) -> None:
    service.env["RUBRIKA_MAX_STREAMS"] = "0"
    service.start_all(FAKE_SECONDS="0.02")
    send_file(page, csv(*(f"пост {number}" for number in range(300))))
    expect(page.locator("#state")).to_have_text("Выполняется")
    expect(page.locator("#state")).to_have_text("Готово", timeout=30_000)
    assert page.locator("#notice").inner_text() == ""
    watch.assert_clean(503)


def test_a_page_that_nobody_looks_at_gives_its_stream_back(service: Service, page: Page, watch: Watch) -> None:
    service.start("api", RUBRIKA_MAX_STREAMS="1")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    with page.expect_response("**/events"):
        send_file(page, csv("пост"))
    events = f"{service.url}{V1}{page.url.removeprefix(service.url)}/events"

    def status() -> int:
        try:
            with urlopen(events, timeout=20) as answer:
                code: int = answer.status
                return code
        except HTTPError as error:
            with error:
                return error.code

    assert status() == 503
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    wait_until(lambda: status() == 200, what="the place to be free")
    watch.assert_clean(404)  # There are no topics before there is a worker.


def test_rows_that_failed_are_tried_again_as_a_file_of_their_own(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    send_file(page, csv("пост", ""))
    expect(page.locator("#state")).to_have_text("Готово, есть ошибки")
    expect(page.locator("[data-fact=failed] dd")).to_have_text("1")
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="Повторить строки с ошибкой")).to_be_hidden()

    send_file(page, csv("пост", "!fail раз", "", "!fail два"))
    expect(page.locator("[data-fact=failed] dd")).to_have_text("3")
    first = page.url
    page.get_by_role("button", name="Повторить строки с ошибкой").click()
    page.wait_for_url(lambda url: url != first and "/jobs/" in url)
    expect(page.locator("#state")).to_have_text("Не удалось")
    expect(page.locator("#table tbody tr")).to_have_count(2)
    expect(page.locator("tr[data-row='2']")).to_contain_text("!fail два")
    page.get_by_role("link", name="исходный файл").click()
    page.wait_for_url(first)
    watch.assert_clean()


def test_the_real_network_answers_a_text_and_five_thousand_posts(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.settings = replace(service.settings, model=make_tiny_model(tmp_path / "model"))
    service.start_all("worker", RUBRIKA_CHUNK_ROWS="256")
    page.goto("/")
    page.get_by_role("button", name="Матч").click()
    page.keyboard.press("Control+Enter")
    page.get_by_role("link", name="Постоянная ссылка").wait_for()
    [item] = service.get(f"{V1}/classifications").json["items"]
    shares = [f"{topic['probability'] * 100:.1f}".replace(".", ",") + "\xa0%" for topic in item["topics"]]
    assert len(shares) == 6
    expect(page.locator(".bar-share")).to_have_text(shares)
    expect(page.locator(".bar.assigned")).to_have_count(len(item["assigned"]))

    page.goto("/")
    page.get_by_label("Текст поста").fill("матч и скидка " * 100)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".notice-title")).to_have_text("Текст прочитан не целиком")

    texts = [f"пост номер {number} про футбол и скидки" for number in range(5000)]
    send_file(page, csv(*texts))
    expect(page.locator("#state")).to_have_text("Готово", timeout=120_000)
    expect(page).to_have_title("✓ Готово · посты.csv · Рубрика")
    expect(page.locator("tr[data-row='50'] .cell-topic")).to_have_count(6)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    download.value.save_as(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8-sig", newline="") as results:
        rows = list(DictReader(results))
    assert [row["doc_text"] for row in rows] == texts
    assert [row["author"] for row in rows] == [f"user{number}" for number in range(1, 5001)]
    assert all(0 <= float(row[topic["topic"]]) <= 1 for row in rows for topic in item["topics"])
    watch.assert_clean()
