"""A job as a whole on its page: charts, thresholds that move, filters, downloads of what was chosen."""

import re
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, barriers, csv, send_file
from tests.e2e.service import V1, Service
from tests.e2e.walk import answering
from tests.fake_classifier import expected
from tests.support import wait_until
from tests.tiny_model import make_tiny_model

TEXTS = [f"пост номер {number}" for number in range(1, 121)]
SHARES = [expected(text) for text in TEXTS]


def above(threshold: float) -> list[str]:
    return [text for text, share in zip(TEXTS, SHARES, strict=True) if share >= threshold]


def texts_of(page: Page) -> list[str]:
    return page.locator("#table tbody summary").all_inner_texts()


def open_finished(service: Service, page: Page, *texts: str) -> str:
    """Send a file, wait until its charts are there; the address of its results."""
    service.start_all()
    send_file(page, csv(*(texts or TEXTS)))
    expect(page.locator("#cards .topic-card")).to_have_count(2)
    expect(page.locator("#summary-words")).to_have_text(re.compile("^Из "))
    page.wait_for_load_state("networkidle")  # The rows as the end of the job has left them are drawn.
    job_id = page.url.rpartition("/")[2]
    return f"{V1}/jobs/{job_id}"


def test_charts_show_the_job_as_a_whole(service: Service, page: Page, watch: Watch) -> None:
    address = open_finished(service, page, *TEXTS, "", "!fail")
    summary = service.get(f"{address}/summary").json
    sport, ads = summary["topics"]
    assert sport["assigned"] == len(above(0.5))

    expect(page.locator("#shares li .share-count")).to_have_text(
        [re.compile(rf"^{sport['assigned']} \("), "0 (0,0\xa0%)", re.compile(rf"^{summary['none_assigned']} \(")]
    )
    expect(page.locator("#summary-words")).to_have_text("Из 120 строк")
    expect(page.locator("#truncated")).to_be_hidden()
    expect(page.locator("#pairs button")).to_have_text([str(sport["assigned"]), "0", "0"])
    card = page.locator(".topic-card[data-topic=sport]")
    titles = [title.text_content() or "" for title in card.locator("title").element_handles()]
    assert [int(title.rpartition(" ")[2]) for title in titles] == sport["histogram"]
    assert ads["histogram"][5] == 120
    expect(card.locator("svg.histogram rect.above")).to_have_count(10)
    expect(page.locator("#failures li")).to_have_text(
        ["1 Текста нет: все поля пусты№ 121", "1 Модель не справилась с этим текстом№ 122"]
    )
    page.get_by_role("button", name="Показать эти строки").click()
    expect(page.locator("#table tbody tr")).to_have_count(2)
    expect(page.locator("tr[data-status=failed]")).to_have_count(2)
    expect(page.get_by_role("button", name="Повторить строки с ошибкой")).to_be_visible()

    card.locator(".hit").nth(19).click()
    expect(page.locator("#table tbody summary")).to_have_text(above(0.95))
    expect(page.get_by_label("от", exact=True)).to_have_value("0.95")
    page.locator("#pairs button").first.click()
    expect(page.locator("#table tbody summary")).to_have_text(above(0.5)[:50])
    expect(page.get_by_label("Спорт", exact=True)).to_be_checked()
    watch.assert_clean()


def test_many_rows_are_a_picture_that_the_keyboard_reads(service: Service, page: Page, watch: Watch) -> None:
    open_finished(service, page)
    expect(page.locator("#heat-words")).to_contain_text("Первые 120 строк файла")
    canvas = page.locator("#heat canvas")
    wait_until(
        lambda: (
            canvas.evaluate(
                "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, 1).data.buffer)).size"
            )
            > 20
        ),
        what="many shades in the line of the first topic",
    )
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    shares = sorted([(SHARES[1], "Спорт"), (0.25, "Реклама")])
    words = f"Строка 2: {shares[-1][1]} {shares[-1][0] * 100:.1f}".replace(".", ",")
    expect(page.locator("#heat-row")).to_have_text(f"{words}\xa0% · {TEXTS[1]}")
    page.keyboard.press("End")
    expect(page.locator("#heat-row")).to_contain_text(f"Строка 120: {'Спорт' if SHARES[-1] > 0.25 else 'Реклама'}")
    watch.assert_clean()


def test_a_threshold_that_moves_takes_counts_rows_and_downloads_with_it(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    open_finished(service, page)
    card = page.locator(".topic-card[data-topic=sport]")
    expect(card.locator(".share-count")).to_have_text(str(len(above(0.5))))
    slider = page.get_by_role("slider", name="Порог: Спорт")
    slider.fill("0.8")
    expect(card.locator("output")).to_have_text("80,0\xa0%")
    expect(card.locator(".share-count")).to_have_text(str(len(above(0.8))))
    expect(page.locator("#shares li").first.locator(".share-count")).to_contain_text(f"{len(above(0.8))} (")
    expect(page.locator("#pairs button").first).to_have_text(str(len(above(0.8))))
    first_page = [text for text in TEXTS[:50] if text in above(0.8)]
    expect(page.locator("#table td.assigned[data-topic=sport]")).to_have_count(len(first_page))
    expect(page).to_have_url(re.compile("thresholds=sport%3A0.8"))

    page.reload()
    expect(page.locator("#table td.assigned[data-topic=sport]")).to_have_count(len(first_page))
    with page.expect_download() as download:
        page.get_by_role("link", name="NDJSON").click()
    download.value.save_as(tmp_path / "rows.ndjson")
    assert (tmp_path / "rows.ndjson").read_text().count('["sport"]') == len(above(0.8))

    page.get_by_role("link", name="English").click()
    expect(page.locator("#table td.assigned[data-topic=sport]")).to_have_count(len(first_page))
    page.get_by_role("link", name="Русский").click()
    page.get_by_role("button", name="Вернуть пороги модели").click()
    expect(card.locator(".share-count")).to_have_text(str(len(above(0.5))))
    expect(page.get_by_role("button", name="Вернуть пороги модели")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("thresholds"))
    watch.assert_clean()


def test_rows_are_chosen_by_words_probability_and_topics(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    open_finished(service, page)
    page.get_by_text("Отобрать строки").click()
    page.get_by_label("Слова в тексте").fill("НОМЕР 11")
    wanted = [text for text in TEXTS if "11" in text]
    expect(page.locator("#table tbody summary")).to_have_text(wanted)
    expect(page.locator("#heat-words")).to_contain_text("отобранн")

    page.get_by_label("Вероятность темы").select_option("Спорт")
    page.get_by_label("от", exact=True).fill("0.5")
    wanted = [text for text in wanted if expected(text) >= 0.5]
    expect(page.locator("#table tbody summary")).to_have_text(wanted)
    page.get_by_label("до", exact=True).fill("0.7")
    wanted = [text for text in wanted if expected(text) <= 0.7]
    assert len(wanted) == 2
    expect(page.locator("#table tbody summary")).to_have_text(wanted)
    page.reload()
    expect(page.locator("#table tbody summary")).to_have_text(wanted)
    expect(page.get_by_label("Слова в тексте")).to_have_value("НОМЕР 11")

    page.get_by_text("Параметры скачивания").click()
    page.get_by_label("Только отобранные строки").check()
    page.get_by_label("CSV с меткой BOM").uncheck()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    download.value.save_as(tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_bytes()
    assert lines.startswith(b"doc_text,")
    assert lines.count(b"\n") == 1 + len(wanted)

    page.get_by_role("button", name="Сбросить отбор").click()
    expect(page.locator("#table tbody tr")).to_have_count(50)
    page.get_by_label("ни одной темы").check()
    nothing = [text for text in TEXTS if expected(text) < 0.5]
    expect(page.locator("#table tbody summary")).to_have_text(nothing[:50])
    page.get_by_label("Спорт", exact=True).check()
    expect(page.get_by_label("ни одной темы")).not_to_be_checked()
    expect(page.locator("#table tbody summary")).to_have_text(above(0.5)[:50])
    page.get_by_role("button", name="Вперёд").click()
    wait_until(lambda: texts_of(page) == above(0.5)[50:], what="the second page of the chosen rows")
    page.get_by_label("Реклама", exact=True).check()
    expect(page.locator("#table")).to_have_text("Таких строк нет.")
    watch.assert_clean()


def test_a_job_too_long_for_a_sheet_says_so_instead_of_offering_it(service: Service, page: Page, watch: Watch) -> None:
    address = open_finished(service, page)

    def longer(route: Route) -> None:
        answer = route.fetch()
        job = answer.json()
        job["rows"]["total"] = 1_048_576
        route.fulfill(response=answer, json=job)

    page.route(f"**{address}", longer)
    page.reload()
    note = page.get_by_text("Лист Excel вмещает 1\xa0048\xa0575 строк")
    expect(note).to_be_visible()
    excel = page.locator("#downloads [data-format=xlsx]")
    expect(excel).not_to_have_attribute("href", re.compile("."))
    expect(page.get_by_role("link", name="CSV")).to_have_attribute("href", f"{address}/results.csv")

    # What is chosen may fit: then the sheet is offered again.
    page.get_by_text("Отобрать строки").click()
    page.get_by_label("Слова в тексте").fill("НОМЕР 11")
    page.get_by_text("Параметры скачивания").click()
    page.get_by_label("Только отобранные строки").check()
    expect(excel).to_have_attribute("href", re.compile(r"results\.xlsx\?"))
    expect(note).to_be_hidden()
    watch.assert_clean()


def test_charts_grow_while_a_job_is_under_way(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    send_file(page, csv(*(f"пост {number}" for number in range(500))))
    expect(page.locator("#summary-words")).to_contain_text("Пока из ", timeout=30_000)
    expect(page.locator("#summary-words")).to_have_text("Из 500 строк", timeout=60_000)
    watch.assert_clean()


def test_history_is_searched_filtered_and_downloaded(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.start_all()
    posts = [{"text": f"пост {number} {'матч' if number % 2 else 'туман'}"} for number in range(6)]
    assert service.classify({"items": [*posts, {"text": "!fail матч"}]}, wait=20).status == 200
    for name in ("january.csv", "february.csv"):
        service.wait_finished(service.upload(csv("пост"), filename=name))

    page.goto("/history")
    expect(page.locator("[data-text]")).to_have_count(7)
    page.get_by_label("Слова в тексте").fill("МАТЧ")
    expect(page.locator("[data-text] a")).to_have_text(["пост 1 матч", "пост 3 матч", "пост 5 матч", "!fail матч"])
    page.get_by_label("Состояние").select_option("не удалось")
    expect(page.locator("[data-text] a")).to_have_text(["!fail матч"])
    page.reload()
    expect(page.locator("[data-text] a")).to_have_text(["!fail матч"])
    page.get_by_label("Состояние").select_option("готово")
    expect(page.locator("[data-text]")).to_have_count(3)
    for kind in ("CSV", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind, exact=True).click()
        download.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_text().count("матч") == 3
    page.get_by_label("По этот день").fill("2001-01-01")
    expect(page.locator(".notice-title")).to_have_text("Ничего не нашлось")
    page.get_by_role("button", name="Сбросить отбор").click()
    expect(page.locator("[data-text]")).to_have_count(7)

    page.get_by_role("link", name="Файлы").last.click()
    page.get_by_label("Слова в названии").fill("janu")
    expect(page.locator("[data-job] .cell-main")).to_have_text(["january.csv"])
    page.get_by_label("Состояние").select_option("есть ошибки")
    expect(page.locator(".notice-title")).to_have_text("Ничего не нашлось")
    watch.assert_clean()


def test_of_how_many_rows_the_beginning_alone_was_read_is_said(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.settings = replace(service.settings, model=make_tiny_model(tmp_path / "model"))
    service.start_all("worker")
    job = service.wait_finished(service.upload(csv("пост", "второй", "очень длинный пост " * 500)))
    said = page.locator("#truncated")
    page.goto(f"/jobs/{job['id']}")
    expect(said).to_contain_text("Прочитано не целиком: 1 (33,3\xa0%). Модель читает начало текста")

    def many(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "computed": 24_000, "truncated": 1_200})

    page.route("**/summary?**", many)
    for language, words in (("ru", "1\xa0200 (5,0\xa0%)"), ("en", "Not read to the end: 1,200 (5.0%).")):
        page.goto(f"/jobs/{job['id']}?lang={language}")
        expect(said).to_contain_text(words)
    watch.assert_clean()


def test_a_job_is_computed_again_by_another_model_and_compared(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.settings = replace(service.settings, model=make_tiny_model(tmp_path / "model"))
    open_finished(service, page)
    expect(page.locator("#rerun")).to_be_hidden()
    service.start("worker")
    wait_until(lambda: len(service.get(f"{V1}/models").json["items"]) == 2, 60, what="the second model")
    first = page.url
    page.reload()
    page.get_by_text("Пересчитать другой моделью").click()
    other = page.locator("#rerun-model option:checked").inner_text()
    asked = service.get(f"{V1}/models/{other}").json["sha256"]
    assert page.get_by_label("Модель", exact=True).input_value() == asked
    page.get_by_role("button", name="Пересчитать").click()
    page.wait_for_url(lambda url: url != first and "/jobs/" in url)
    expect(page.locator("#state")).to_have_text("Готово", timeout=60_000)
    expect(page.locator("[data-fact=model] dd")).to_have_text(other)
    expect(page.locator("#compare-body p").first).to_contain_text(f"fake@1.0.0 и {other}: сравнено строк — 120")
    expect(page.locator("#compare-body th[scope=row]")).to_have_count(2)
    expect(page.locator("#cards .topic-card")).to_have_count(6)
    # Topics that only one of the models has go by their names as well, not by their ids.
    said = page.locator("#compare-body .changed-rows div").all_inner_texts()
    named = {name for words in said for name in re.split(r", | и | → ", words)}
    assert named <= {"ни одной", "Спорт", "Юмор", "Реклама", "Соцсети", "Политика", "Личная жизнь"}
    assert named & {"Юмор", "Соцсети", "Политика", "Личная жизнь"}
    assert barriers(page) == []
    watch.assert_clean()


def test_rows_have_the_topics_of_the_model_that_computed_them_whichever_is_active_now(
    service: Service, page: Page, watch: Watch
) -> None:
    open_finished(service, page)
    other = {"id": "weather", "name": "Погода", "name_en": "Weather", "threshold": 0.5}
    page.route(f"**{V1}/topics", lambda route: route.fulfill(json={"model": "other@1.0.0", "items": [other]}))
    page.reload()
    expect(page.locator("#table .order-head")).to_have_text(["Спорт", "Реклама"])
    expect(page.locator("#table [data-label=Реклама]")).to_have_count(50)
    watch.assert_clean()


def test_a_rerun_is_asked_for_again_under_the_key_of_the_one_whose_answer_was_lost(
    service: Service, page: Page, watch: Watch
) -> None:
    open_finished(service, page)
    asked: list[Route] = []

    def one_more(route: Route) -> None:
        answer = route.fetch()
        [model] = answer.json()["items"]
        route.fulfill(response=answer, json={"items": [model, {**model, "version": "2.0.0", "sha256": "2" * 64}]})

    page.route(f"**{V1}/models", one_more)
    page.route("**/rerun", lambda route: asked.append(route))
    page.reload()
    page.get_by_text("Пересчитать другой моделью").click()
    button, notice = page.get_by_role("button", name="Пересчитать"), page.locator("#rerun-notice")

    def press(times: int) -> Route:
        button.click()
        expect(notice).to_have_text("Копируем строки…")
        wait_until(lambda: button.is_disabled() and len(asked) == times, what="the page to ask")
        return asked[-1]

    press(1).abort()
    expect(notice.locator(".notice-title")).to_have_text("Сервер не отвечает")
    answering(409, {"code": "key_in_flight", "detail": "It is still being worked on."})(press(2))
    expect(notice.locator(".notice-title")).to_have_text("Запрос ещё выполняется")
    expect(notice).not_to_contain_text("Обновите")
    press(3).abort()
    assert len({route.request.headers["idempotency-key"] for route in asked}) == 1
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean(409)


def test_rows_are_sorted_by_a_topic_from_its_head_and_from_the_list(service: Service, page: Page, watch: Watch) -> None:
    open_finished(service, page, *TEXTS, "")
    falling = [
        text
        for _, _, text in sorted((-share, at, text) for at, (share, text) in enumerate(zip(SHARES, TEXTS, strict=True)))
    ]
    rising = [
        text
        for _, _, text in sorted((share, at, text) for at, (share, text) in enumerate(zip(SHARES, TEXTS, strict=True)))
    ]
    head = page.get_by_role("button", name="Спорт", exact=True)
    head.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#table tbody summary")).to_have_text(falling[:50])
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Спорт")
    expect(head).to_be_focused()
    expect(page.get_by_label("Порядок строк")).to_have_value("-sport")
    page.get_by_role("button", name="Вперёд").click()
    expect(page.locator("#pager-words")).to_have_text("страница 2")
    wait_until(lambda: texts_of(page) == falling[50:100], what="the second page in that order")
    page.reload()
    expect(page.locator("#table tbody summary")).to_have_text(falling[:50])
    page.get_by_role("button", name="Спорт", exact=True).click()
    expect(page.locator("#table tbody summary")).to_have_text(rising[:50])
    page.get_by_text("Отобрать строки").click()
    page.get_by_label("Слова в тексте").fill("11")
    expect(page.locator("#table tbody summary")).to_have_text([text for text in rising if "11" in text])
    page.get_by_label("Порядок строк").select_option("как в файле")
    expect(page.locator("#table tbody summary")).to_have_text([text for text in TEXTS if "11" in text])
    expect(page).not_to_have_url(re.compile("sort="))
    watch.assert_clean()
