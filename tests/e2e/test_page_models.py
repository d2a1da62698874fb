"""The page of a file that more than one model has read, or one of two that go by the same name and version."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, csv, send_file
from tests.e2e.service import V1, Service
from tests.support import wait_until
from tests.tiny_model import make_tiny_model

WEATHER = {"id": "weather", "name": "Погода", "name_en": "Weather", "threshold": 0.5}
OTHER: dict[str, Any] = {"name": "other", "version": "1.0.0", "sha256": "0" * 64, "active": False, "card": {}}


def finished(page: Page, service: Service) -> None:
    """The page of a file of sixty rows with its charts."""
    service.start_all()
    send_file(page, csv(*(f"пост номер {number}" for number in range(60))))
    expect(page.locator("#cards .topic-card")).to_have_count(2)
    expect(page.locator("#state")).to_have_text("Готово")
    page.wait_for_load_state("networkidle")


def test_rows_of_two_models_stand_in_one_table_and_those_that_are_not_counted_are_told_of(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    service.settings = replace(service.settings, model=make_tiny_model(tmp_path / "model"))
    service.env["RUBRIKA_CHUNK_ROWS"] = "10"
    service.start_all(FAKE_SECONDS="0.1")
    job = service.upload(csv(*(f"пост номер {number}" for number in range(50))))
    wait_until(lambda: service.job(job)["rows"]["succeeded"], 60, what="rows of the first model")
    service.kill(service.processes[-1])
    service.start("worker")
    model = service.wait_finished(job)["model"]
    rows = service.get(job["links"]["results"]).json["items"]
    first = sum(row["model"] == "fake@1.0.0" for row in rows)
    assert 0 < first < 50
    assert model == rows[-1]["model"]

    page.goto(f"/jobs/{job['id']}")
    topics = ["Спорт", "Юмор", "Реклама", "Соцсети", "Политика", "Личная жизнь"]
    expect(page.locator("#table .order-head")).to_have_count(len(topics))
    assert sorted(page.locator("#table .order-head").all_inner_texts()) == sorted(topics)
    row = page.locator("tr", has_text="пост номер 0")
    expect(row.locator("[data-label=Реклама]")).to_have_text("25,0\xa0%")
    expect(row.locator("[data-label=Политика]")).to_have_text("–")
    expect(page.locator("#table")).not_to_contain_text("не число")
    told = page.locator("#other-models")
    expect(told).to_contain_text(f"Ещё {first} строк")
    expect(told).to_contain_text("посчитала модель fake@1.0.0: в этих итогах их нет.")
    watch.assert_clean()


def test_a_topic_that_only_another_model_knows_has_its_name_and_is_nothing_to_sort_by(
    service: Service, page: Page, watch: Watch
) -> None:
    finished(page, service)

    def mixed(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["items"][1] |= {"model": "other@1.0.0", "probabilities": {"weather": 0.75}, "assigned": ["weather"]}
        route.fulfill(response=answer, json=body)

    page.route("**/results?**", mixed)
    page.route(f"**{V1}/models/other**", lambda route: route.fulfill(json={**OTHER, "topics": [WEATHER]}))
    page.reload()
    heads = page.locator("#table th.cell-topic")
    expect(heads).to_have_text(["Спорт", "Реклама", "Погода"])
    expect(heads.locator("button")).to_have_text(["Спорт", "Реклама"])
    cells = page.locator("#table tbody tr").nth(1).locator(".cell-topic")
    expect(cells).to_have_text(["–", "–", "присвоена75,0\xa0%"])
    expect(page.locator("#table tbody tr").first.locator(".cell-topic").nth(2)).to_have_text("–")
    for _ in range(2):
        page.locator("#heat canvas").press("ArrowRight")
    expect(page.locator("#heat-row")).to_have_text("Строка 2: – · пост номер 1")
    watch.assert_clean()


def test_another_training_with_the_same_name_and_version_is_not_taken_for_the_model_of_a_file(
    service: Service, page: Page, watch: Watch
) -> None:
    finished(page, service)
    namesake = {**OTHER, "name": "fake", "topics": [WEATHER]}

    def twice(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={"items": [*answer.json()["items"], namesake]})

    page.route(f"**{V1}/models", twice)
    page.route(f"**{V1}/models/*", lambda route: route.fulfill(json=namesake))
    page.reload()
    expect(page.locator("#cards h4")).to_contain_text(["Спорт", "Реклама"])
    expect(page.locator("#cards output")).to_have_text(["50,0\xa0%", "50,0\xa0%"])
    # The table asks for names by that name, and goes without where they are of other topics.
    expect(page.locator("#table .order-head")).to_have_text(["sport", "ads"])
    page.get_by_text("Пересчитать другой моделью").click()
    expect(page.locator("#rerun-model option")).to_have_text([f"fake@1.0.0 · {namesake['sha256'][:8]}"])
    watch.assert_clean()


def test_a_topic_of_which_nothing_is_known_goes_by_its_id_without_a_threshold(
    service: Service, page: Page, watch: Watch
) -> None:
    finished(page, service)

    def bare(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        for topic in body["topics"]:
            for known in ("name", "name_en", "threshold"):
                topic.pop(known, None)
        route.fulfill(response=answer, json=body)

    page.route("**/summary?**", bare)
    page.reload()
    expect(page.locator("#cards h4")).to_contain_text(["sport", "ads"])
    expect(page.locator("#cards .histogram rect.above")).to_have_count(40)
    expect(page.locator("#cards input:visible")).to_have_count(0)
    expect(page.locator("#summary-words")).to_have_text("Из 60 строк")
    watch.assert_clean()
