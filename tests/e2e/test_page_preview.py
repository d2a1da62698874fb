"""What the page of files shows of a file before it is sent, and what a person can change about how it is read."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, choose, csv
from tests.e2e.service import V1, Service
from tests.e2e.walk import answering
from tests.sheets import sheet_xml, xlsx
from tests.support import wait_until


def test_a_file_is_shown_as_it_will_be_read_and_nothing_of_it_is_stored(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    data = "Заголовок;Пост;Дата\nраз;матч <b>сегодня</b>;2026-01-01\nдва;;2026-01-02\n".encode("windows-1251")
    choose(page, data)
    facts = page.locator("#preview-facts li")
    expect(facts).to_have_text(["Формат: CSV", "кодировка: windows-1251", "разделитель: точка с запятой"])
    expect(page.locator("#preview-guessed")).to_contain_text("угадан по названию: Пост")
    expect(page.get_by_label("Текст поста", exact=True)).to_have_value("Пост")
    rows = page.locator("#preview-rows tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first.locator("td")).to_have_text(["1", "матч <b>сегодня</b>", "раз", "2026-01-01"])
    expect(rows.last).to_contain_text("Текста нет: все поля пусты")
    expect(page.locator(".preview-bad")).to_contain_text("1 строка из показанных не подойдёт")
    assert service.get(f"{V1}/jobs").json["items"] == []

    page.get_by_label("Текст поста", exact=True).select_option("Заголовок")
    expect(page.locator("#preview-rows th").nth(1)).to_have_text("Текст поста")
    expect(rows.last.locator("td").nth(1)).to_have_text("два")
    expect(page.locator(".preview-bad")).to_have_count(0)
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    [job] = service.get(f"{V1}/jobs").json["items"]
    assert job["layout"]["mapping"] == {"doc_text": "Заголовок"}
    assert [row["Заголовок"] for row in service.rows(service.wait_finished(job))] == ["раз", "два"]
    watch.assert_clean()


def test_a_person_is_asked_for_the_column_that_no_name_tells(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    choose(page, "номер,а,б\n1,первый,второй\n".encode())
    expect(page.locator(".notice-title")).to_have_text("В каком столбце текст поста?")
    page.get_by_label("Текст поста", exact=True).select_option("б")
    expect(page.locator("#preview-rows tbody td")).to_have_text(["1", "второй", "1", "первый"])
    page.get_by_label("Текст с картинки").select_option("а")
    expect(page.locator("#preview-rows tbody td")).to_have_text(["1", "второй", "первый", "1"])
    page.get_by_label("Текст поста", exact=True).select_option("а")
    expect(page.get_by_label("Текст с картинки")).to_have_value("")
    expect(page.locator("#preview-rows tbody td")).to_have_text(["1", "первый", "1", "второй"])
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    expect(page.locator("#state")).to_have_text("Готово")
    watch.assert_clean(422)


def test_encoding_delimiter_and_strictness_can_be_said(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    choose(page, 'text,n\n"матч, да",1\n,2\n'.encode("koi8-r"))
    expect(page.locator("#preview-notice")).to_contain_text("Кодировку файла понять не удалось.")
    expect(page.locator("#preview-notice")).to_contain_text("Выберите ниже, как читать файл, или выберите другой.")
    expect(page.locator("#preview-notice").get_by_role("button")).to_have_text(["Выбрать другой файл"])
    page.get_by_label("Кодировка").select_option("koi8-r")
    cells = page.locator("#preview-rows tbody tr").first.locator("td")
    expect(cells).to_have_text(["1", "матч, да", "1"])
    page.get_by_label("Разделитель").select_option("semicolon")
    expect(page.locator(".notice-title")).to_have_text("В каком столбце текст поста?")
    page.get_by_label("Разделитель").select_option("comma")
    expect(cells).to_have_text(["1", "матч, да", "1"])
    page.get_by_label("Не принимать файл").check()
    expect(page.locator("#preview-notice .notice-title")).to_have_text("Данные не приняты")
    expect(page.locator("#preview-notice")).to_contain_text("Текста нет: все поля пусты")
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator("#notice .notice-title")).to_have_text("Данные не приняты")
    page.get_by_label("Не принимать файл").uncheck()
    expect(page.locator("#preview-notice")).to_be_empty()
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    [job] = service.get(f"{V1}/jobs").json["items"]
    assert (job["layout"]["encoding"], job["layout"]["delimiter"]) == ("koi8-r", ",")
    watch.assert_clean(422)


def test_a_sheet_of_a_workbook_is_chosen(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    sheets = {"Первый": ["с первого"], "Второй": ["со второго"]}
    data = xlsx({name: sheet_xml({1: ["text"], 2: cells}) for name, cells in sheets.items()})
    choose(page, data, name="книга.xlsx")
    expect(page.locator("#preview-facts li")).to_have_text(["Формат: XLSX", "лист: Первый"])
    page.get_by_text("Прочитано неправильно?").click()
    expect(page.get_by_label("Кодировка")).to_be_hidden()
    page.get_by_label("Лист").select_option("Второй")
    expect(page.locator("#preview-rows tbody td").nth(1)).to_have_text("со второго")
    page.get_by_role("button", name="Отправить").click()
    page.wait_for_url("**/jobs/*")
    assert service.get(f"{V1}/jobs").json["items"][0]["layout"]["sheet"] == "Второй"
    watch.assert_clean()


def test_only_the_beginning_of_a_large_file_is_sent_to_look_at_it(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.add_init_script(
        """const append = FormData.prototype.append;
        FormData.prototype.append = function (name, value, ...more) {
          window.sent = value.size ?? window.sent;
          return append.call(this, name, value, ...more);
        };"""
    )
    choose(page, csv(*["длинный пост " * 100] * 2000))
    expect(page.locator("#preview-rows tbody tr")).to_have_count(20)
    assert 1_000_000 < page.evaluate("window.sent") <= 1 << 20
    for encoding in ("utf-16-le", "utf-16-be"):
        mark = b"\xff\xfe" if encoding == "utf-16-le" else b"\xfe\xff"
        text = "text,n\n" + f"{'пост ' * 50},1\n" * 3000
        choose(page, mark + text.encode(encoding))
        expect(page.locator("#preview-facts")).to_contain_text("utf-16")
        expect(page.locator("#preview-rows tbody tr")).to_have_count(20)
    assert service.get(f"{V1}/jobs").json["items"] == []
    watch.assert_clean()


def test_what_is_no_table_of_posts_is_refused_in_words_that_help(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    for data, name, words in (
        (b"%PDF-1.7 ...", "посты.pdf", "Это документ (PDF, Word или RTF), а не таблица."),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "фото.png", "Это картинка, звук или видео."),
        (b"", "пусто.csv", "Файл пуст."),
        (b"text\n", "без строк.csv", "нет ни одной строки"),
    ):
        choose(page, data, name=name)
        expect(page.locator("#preview-notice")).to_contain_text(words)
        expect(page.locator("#preview-notice")).to_contain_text(
            "Исправьте файл и выберите его снова или выберите другой."
        )
        expect(page.locator("#preview-notice").get_by_role("button")).to_have_text(["Выбрать другой файл"])
        expect(page.locator("#preview")).to_be_hidden()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Выбрать другой файл").press("Enter")
    expect(page.locator("#preview-notice")).to_be_empty()
    chooser.value.set_files({"name": "хорошие.csv", "mimeType": "text/csv", "buffer": csv("пост")})
    expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
    expect(page.locator("#chosen-name")).to_have_text("хорошие.csv")
    watch.assert_clean(415, 422)


def test_a_look_at_a_file_is_tried_again_only_where_that_can_help(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    retry = page.locator("#preview-notice").get_by_role("button", name="Повторить")
    lost: tuple[Callable[[Route], None], ...] = (
        lambda route: route.abort(),
        answering(429, {"code": "too_many_requests"}),
        answering(503, {"code": "unavailable"}),
    )
    for failure in lost:
        page.route(f"**{V1}/jobs/preview", failure)
        choose(page, csv("пост"))
        expect(retry).to_be_visible()
        page.unroute_all()
        retry.click()
        expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
        expect(page.locator("#preview-notice")).to_be_empty()
    for status in (400, 401, 403, 413, 415, 422):
        page.route(f"**{V1}/jobs/preview", answering(status, {"code": "no", "detail": "Why."}))
        choose(page, csv("пост"))
        expect(page.locator("#preview-notice .notice-title")).to_be_visible()
        expect(retry).to_have_count(0)
        page.unroute_all()
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean(400, 401, 403, 413, 415, 422, 429, 503)


def test_a_look_at_a_file_takes_as_long_as_the_line_is_slow(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    held: list[Route] = []
    page.route(f"**{V1}/jobs/preview", lambda route: held.append(route))
    page.clock.install()
    choose(page, csv("пост"))
    wait_until(lambda: page.locator("#chosen").is_visible() and held, what="the page to ask")
    page.clock.fast_forward(600_000)
    held[0].continue_()
    expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
    watch.assert_clean()


def test_a_file_that_went_away_after_it_was_chosen_is_to_be_chosen_again(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.start_all()
    posts = tmp_path / "посты.csv"
    for rows in (20, 2000):  # Of the larger one the page reads the beginning itself.
        posts.write_bytes(csv(*["длинный пост " * 100] * rows))
        page.goto("/files")
        page.locator("#file").set_input_files(posts)
        expect(page.locator("#preview-rows tbody tr")).to_have_count(20)
        posts.unlink()
        page.get_by_label("Текст поста", exact=True).select_option("author")
        expect(page.locator("#preview-notice .notice-title")).to_have_text("Файл изменился или недоступен")
        expect(page.locator("#preview-notice").get_by_role("button")).to_have_text(["Выбрать другой файл"])
        page.get_by_role("button", name="Отправить").click()
        expect(page.locator("#notice .notice")).to_have_text("Файл изменился или недоступенВыберите его снова.")
    assert service.get(f"{V1}/jobs").json["items"] == []
    watch.complaints = [text for text in watch.complaints if "ERR_" not in text]
    watch.assert_clean()


def test_a_file_that_met_no_server_is_sent_by_itself_when_there_is_one(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    choose(page, csv("пост"))
    page.get_by_label("Название").fill("Терпение")
    expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
    os.killpg(service.processes[0].pid, signal.SIGKILL)
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator(".notice-title")).to_have_text("Сервер не отвечает")
    expect(page.get_by_label("Название")).to_have_value("Терпение")
    service.start("api")
    page.wait_for_url("**/jobs/*", timeout=60_000)
    expect(page.locator("h1")).to_have_text("Терпение")
    assert len(service.get(f"{V1}/jobs").json["items"]) == 1
    watch.complaints = [text for text in watch.complaints if "ERR_" not in text]
    watch.assert_clean()
