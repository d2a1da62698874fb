"""What is done with a file on its page: a refusal stays until something else is done, and deleting is seen to go on."""

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, csv, send_file
from tests.e2e.service import V1, Service
from tests.e2e.test_page_running import computed
from tests.e2e.walk import answering
from tests.support import wait_until

AWAY = answering(503, {"code": "unavailable", "detail": "The database cannot be reached."})
REFUSED = "Сервис временно недоступен"


@pytest.fixture
def running(service: Service, page: Page) -> str:
    """The address of a job whose page is open, and which is computed for longer than anybody looks at it."""
    service.start_all(FAKE_SECONDS="0.05")
    send_file(page, csv(*(f"пост {number}" for number in range(2_000))))
    expect(page.locator("[data-state=running]")).to_be_visible()
    return f"{V1}/jobs/{page.url.rpartition('/')[2]}"


def delete(page: Page) -> None:
    page.locator("#delete").click()
    page.locator("#question").get_by_role("button", name="Удалить").click()


def test_why_a_file_could_not_be_stopped_stays_there_while_its_news_come(
    running: str, page: Page, watch: Watch
) -> None:
    page.route("**/cancel", AWAY)
    titles = page.locator("#notice .notice-title")
    page.locator("#cancel").click()
    expect(titles).to_have_text([REFUSED])
    expect(page.locator("#cancel")).to_have_attribute("aria-disabled", "false")
    before = computed(page)
    wait_until(lambda: computed(page) > before, 30, what="news of the job")
    expect(titles).to_have_text([REFUSED])

    page.unroute_all()
    page.locator("#cancel").click()
    expect(titles).to_have_count(0)
    expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=30_000)
    watch.assert_clean(503)


def test_that_there_are_no_news_is_said_beside_it_and_taken_away_alone(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(FAKE_SECONDS="0.05", RUBRIKA_MAX_STREAMS="0")
    send_file(page, csv(*(f"пост {number}" for number in range(2_000))))
    titles = page.locator("#notice .notice-title")
    page.route("**/cancel", AWAY)
    page.locator("#cancel").click()
    expect(titles).to_have_text([REFUSED])
    address = f"**{V1}/jobs/{page.url.rpartition('/')[2]}"
    page.route(address, lambda route: route.abort())
    expect(titles).to_have_text([REFUSED, "Нет связи с сервером"])
    page.unroute(address)
    expect(titles).to_have_text([REFUSED])
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean(404, 503)


def test_a_file_is_asked_to_be_stopped_once_however_often_that_is_pressed(
    running: str, page: Page, watch: Watch
) -> None:
    held: list[Route] = []
    page.route("**/cancel", lambda route: held.append(route))
    page.locator("#cancel").click()
    before = computed(page)
    wait_until(lambda: computed(page) > before, 30, what="news of the job")
    expect(page.locator("#cancel")).to_have_attribute("aria-disabled", "true")
    page.locator("#cancel").dispatch_event("click")
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=30_000)
    watch.assert_clean()


def test_deleting_is_seen_to_go_on_and_cannot_be_begun_twice(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    job = service.wait_finished(service.upload(csv("пост", "второй")))
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if route.request.method == "DELETE" else route.continue_()

    page.route(f"**{job['links']['self']}", hold)
    page.clock.install()
    page.goto(f"/jobs/{job['id']}")
    button = page.locator("#delete")
    for again in range(2):
        delete(page)
        expect(button).to_have_text("Удаляем…")
        expect(button).to_have_attribute("aria-busy", "true")
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_be_focused()
        expect(page.locator("#status")).to_have_text("Удаляем…")
        page.keyboard.press("Enter")
        expect(page.locator("#question")).to_be_hidden()
        wait_until(lambda expected=again + 1: page.title() != "" and len(held) == expected, what="the page to ask")
        if not again:
            page.clock.run_for(125_000)  # The database may take two minutes.
            expect(page.locator("#notice")).to_be_empty()
            expect(button).to_have_text("Удаляем…")
            AWAY(held[0])
            expect(page.locator("#notice .notice-title")).to_have_text(REFUSED)
            expect(button).to_have_text("Удалить")
            expect(button).to_have_attribute("aria-disabled", "false")
            expect(page.locator("#status")).to_be_empty()
    expect(page.locator("#notice")).to_be_empty()
    held[1].continue_()
    page.wait_for_url("**/files")
    assert service.get(job["links"]["self"]).status == 404
    watch.assert_clean(503)


def test_a_file_that_is_gone_already_is_as_good_as_deleted(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    job = service.wait_finished(service.upload(csv("пост")))
    page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#table tbody tr")).to_have_count(1)
    assert service.call("DELETE", job["links"]["self"]).status == 204
    delete(page)
    page.wait_for_url("**/files")
    watch.assert_clean(404)


def test_news_that_a_file_is_gone_are_no_news_while_it_is_deleted(
    service: Service, running: str, page: Page, watch: Watch
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if route.request.method == "DELETE" else route.continue_()

    page.route(f"**{running}", hold)
    delete(page)
    wait_until(lambda: page.title() != "" and len(held) == 1, what="the page to ask")
    with page.expect_response(lambda answer: answer.status == 404 and answer.url.endswith(running), timeout=60_000):
        assert service.call("DELETE", running).status == 204
    expect(page.locator("#delete")).to_have_text("Удаляем…")
    expect(page.locator("#notice")).to_be_empty()
    held[0].continue_()
    page.wait_for_url("**/files")
    watch.assert_clean(404)
