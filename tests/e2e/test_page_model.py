"""The pages of the model, of the service and of the REST interface, as a person reads them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, Route, expect

from ml import artifact
from tests.e2e.browser import Watch, barriers, csv
from tests.e2e.service import V1, Service
from tests.support import wait_until
from tests.tiny_model import make_tiny_model

BINS = [{"believed": 0.1, "true": 0.05}, {"believed": 0.5, "true": 0.75}, {"believed": 0.9, "true": 0.95}]
CARD: dict[str, Any] = {
    "limits": ["Not for decisions about people.", "Only for posts.", "Только для постов."],
    "validation": {"method": "halves", "figures": {
        "brier": {"mean": 0.06, "spread": 0.001}, "micro_f1": {"mean": 0.755, "spread": 0.005}}},
    "per_topic": {"method": "at the thresholds", "sport": {"precision": 0.8, "recall": 0.7, "f1": 0.75}},
    "reliability": {"method": "cross-fitted", "posts": 30, "topics": {"sport": BINS, "ads": BINS}},
    "folds": {"first": {"f1": 0.5, "posts": 10}, "second": {"f1": 0.25, "posts": 12}},
    "start": {"model": "older 1.0", "start": {"model": "oldest 0.1"}, "averaged_with": [{"model": "other 1.0"}]},
    "notes": [{"by": "А", "when": None}, {"by": "Б", "when": True}],
}  # fmt: skip


def test_a_model_tells_what_it_reaches_and_how_far_to_believe_it(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "model")
    artifact.add_to_card(model, CARD)
    service.settings = replace(service.settings, model=model)
    service.start_all("worker")
    page.goto("/model")
    expect(page.locator("#facts")).to_contain_text("tiny, версия 0.0.1")
    expect(page.locator("#figures > div")).to_have_text(["Микро-F175,5\xa0%± 0,5\xa0%", "Оценка Брайера0,06± 0,001"])
    row = page.locator("#topics tbody tr").first
    expect(row.locator("th, td")).to_have_text(["Спорт", "50,0\xa0%", "80,0\xa0%", "70,0\xa0%", "75,0\xa0%"])
    expect(page.locator("#topics tbody tr").nth(1).locator("td")).to_have_text(["50,0\xa0%", "–", "–", "–"])

    expect(page.locator(".plot-figure figcaption")).to_have_text(["Спорт", "Реклама"])
    plot = page.get_by_role("img", name="Спорт: названные вероятности")
    expect(plot).to_have_accessible_name(re_ending("модель назвала 50,0\xa0%: на деле 75,0\xa0%."))
    assert plot.locator("polyline").get_attribute("points") == "10.00,95.00 50.00,25.00 90.00,5.00"
    assert plot.locator(".at-threshold").get_attribute("d") == "M50.00 0V100"
    page.get_by_text("То же числами").click()
    cells = page.locator("#plot-numbers table").first.locator("tbody tr").nth(1).locator("th, td")
    expect(cells).to_have_text(["2", "50,0\xa0%", "75,0\xa0%"])

    expect(page.locator("#limits li")).to_have_text(
        ["Модель не предназначена для решений о людях.", "Only for posts.", "Только для постов."]
    )
    expect(page.locator("#limits [lang]")).to_have_text(["Only for posts."])
    expect(page.locator("#card")).to_contain_text("halves")
    folds = page.locator("#card section", has=page.get_by_role("heading", name="folds"))
    expect(folds.locator("tbody tr").first.locator("th, td")).to_have_text(["first", "50,0\xa0%", "10"])
    expect(page.locator("#card")).not_to_contain_text("0,75")
    # A history may be long: it is there for who asks.
    expect(page.get_by_text("older 1.0")).to_be_hidden()
    page.get_by_text("Начато с модели").first.click()
    expect(page.get_by_text("older 1.0")).to_be_visible()
    page.get_by_text("Веса усреднены с весами моделей").click()
    expect(page.get_by_text("other 1.0")).to_be_visible()
    expect(page.get_by_text("oldest 0.1")).to_be_hidden()
    assert barriers(page) == []
    watch.assert_clean()


def re_ending(words: str) -> re.Pattern[str]:
    return re.compile(re.escape(words) + "$")


def test_a_card_that_tells_little_is_shown_as_it_is(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    page.goto("/model")
    expect(page.locator("#facts")).to_contain_text("none")
    expect(page.locator("#topics tbody tr")).to_have_count(2)
    for part in ("#figures", "#reliability-pane", "#limits-pane", "#card-pane"):
        expect(page.locator(part)).to_be_hidden()
    watch.assert_clean()


def test_before_there_is_a_model_the_page_says_what_to_do_and_what_waits(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start("api")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    service.upload(csv("пост", "второй"), filename="waits.csv")
    page.goto("/model")
    expect(page.locator("#notice .notice-title")).to_have_text("Модель ещё не загружена")
    expect(page.locator("#service-notice .notice-title")).to_have_text("Сейчас не работает ни один обработчик")
    expect(page.locator("[data-tile=alive]")).to_have_text("Обработчиков работает0")
    expect(page.locator("[data-tile=waiting] dd")).to_have_text("2")
    expect(page.locator("#jobs [data-job]")).to_contain_text("waits.csv")

    text = page.context.new_page()
    text.goto("/")
    expect(text.locator("#notice .notice-title")).to_have_text("Модель ещё не загружена")
    expect(text.locator("#notice")).to_contain_text("rubrika worker")

    service.start("sweeper")
    service.start("fake")
    expect(text.locator(".bar")).to_have_count(2, timeout=60_000)
    expect(text.locator("#notice")).to_be_empty()
    expect(page.locator("[data-tile=alive] dd")).to_have_text("1", timeout=60_000)
    expect(page.locator("#service-notice")).to_be_empty()
    expect(page.locator("[data-tile=waiting] dd")).to_have_text("0", timeout=30_000)
    expect(page.locator("#jobs")).to_be_empty()
    page.get_by_role("button", name="Повторить").click()
    expect(page.locator("#facts")).to_contain_text("fake, версия 1.0.0")
    watch.assert_clean(404, 503)


def test_how_long_the_oldest_work_has_waited_is_said_by_itself(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    waited = {"oldest_waiting_seconds": 0.0}

    def longer(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["checks"]["queue"] |= waited
        route.fulfill(response=answer, json=found)

    page.route("**/readyz", longer)
    for seconds, words in ((3.0, "несколько секунд"), (61.0, "1 минута"), (7200.0, "2 часа"), (432_000.0, "5 дней")):
        waited["oldest_waiting_seconds"] = seconds
        page.goto("/model")
        expect(page.locator("[data-tile=oldest] dd")).to_have_text(words)
    watch.assert_clean()


def test_examples_are_for_this_server_and_can_be_copied(
    service: Service, context: BrowserContext, page: Page, watch: Watch
) -> None:
    service.start_all()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/api")
    page.get_by_role("button", name="Копировать: Файл; в ответе — номер задания").click()
    expect(page.locator("#copied")).to_have_text("Скопировано")
    assert page.evaluate("navigator.clipboard.readText()") == f"curl -s {service.url}{V1}/jobs -F file=@posts.csv"
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Копировать: Один текст; ответ приходит сразу с темами").click()
    expect(page.locator("#copied")).to_contain_text("Пример выделен")
    assert f"curl -s {service.url}{V1}/classifications" in page.evaluate("window.getSelection().toString()")

    document = service.get("/openapi.json").json
    listed = sum(len(methods) for methods in document["paths"].values())
    expect(page.locator("#operations li")).to_have_count(listed)
    shape = page.locator("#operations li").filter(has_text="Say which topics are right for a posted text")
    shape.locator("summary").press("Enter")
    expect(shape.locator(".fields").first).to_contain_text("в адресе · string · обязательно")
    expect(shape.locator("dt", has_text="topics").first).to_contain_text("array of string")
    expect(shape.locator("h4")).to_have_text(["Параметры", "Тело запроса", "Ответ 200"])
    for opened in page.locator("#operations summary").all():
        opened.evaluate("one => { one.parentElement.open = true; }")
    expect(page.locator("#operations .operation")).to_have_count(listed)
    # Descriptions mark code with backquotes, which are not for reading.
    expect(page.locator("#operations dd code").filter(has_text="name@version").first).to_be_visible()
    expect(page.locator("#operations")).not_to_contain_text("`")
    assert barriers(page) == []
    watch.assert_clean()
    page.get_by_role("link", name=f"Отправить запрос в Swagger POST {V1}/jobs/preview").click()
    page.wait_for_url("**/docs#/Files/*")
    expect(page.locator(".opblock.is-open .opblock-summary-path")).to_contain_text("preview")
    # Swagger UI says of each `_` in such an address that it will mean something else in its next version.
    watch.complaints = [text for text in watch.complaints if "deep link" not in text]
    watch.assert_clean()
