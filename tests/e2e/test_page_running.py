"""The page of a file that is still being computed: nothing that it shows stays as it was once the file has changed."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import APIResponse, Page, Route, expect

from tests.e2e.browser import Watch, csv, send_file
from tests.e2e.service import V1, Service
from tests.fake_classifier import expected
from tests.support import wait_until

COMPUTED = "tr[data-status=succeeded]"


def computed(page: Page) -> int:
    """How many rows the page says are done."""
    return int(page.locator("[data-fact=succeeded] dd").inner_text() or 0)


def test_a_sorted_table_ends_with_the_rows_that_come_first(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    texts = sorted((f"пост номер {number}" for number in range(400)), key=expected)  # The best come last.
    send_file(page, csv(*texts))
    wait_until(lambda: computed(page) >= 100, 60, what="more than a page of results")
    page.goto(f"{page.url}?sort=-sport")
    expect(page.locator(COMPUTED)).to_have_count(50)
    assert page.locator("#table tbody summary").first.inner_text() != texts[-1], "this was too late to show anything"
    expect(page.locator("#state")).to_have_text("Готово", timeout=90_000)
    falling = sorted(range(400), key=lambda at: (-expected(texts[at]), at))
    expect(page.locator("#table tbody summary")).to_have_text([texts[at] for at in falling[:50]])
    page.get_by_role("button", name="Вперёд").click()
    expect(page.locator("#table tbody summary")).to_have_text([texts[at] for at in falling[50:100]])
    watch.assert_clean()


def test_answers_that_take_longer_than_news_are_waited_for_and_asked_for_again_after_the_last(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    held: dict[str, list[tuple[Route, APIResponse]]] = {"results": [], "summary": []}
    free: list[str] = []

    def holding(name: str) -> Callable[[Route], None]:
        def hold(route: Route) -> None:
            answer = route.fetch()
            if name in free:
                route.fulfill(response=answer)
            else:
                held[name].append((route, answer))

        return hold

    for name in held:
        page.route(f"**/{name}?**", holding(name))
    send_file(page, csv(*(f"пост {number}" for number in range(400))))
    expect(page.locator("#state")).to_have_text("Готово", timeout=90_000)
    assert {name: len(answers) for name, answers in held.items()} == {"results": 1, "summary": 1}
    for name, [(route, answer)] in held.items():
        free.append(name)
        route.fulfill(response=answer)
    expect(page.locator(COMPUTED)).to_have_count(50)
    expect(page.locator("#summary-words")).to_have_text("Из 400 строк")
    watch.assert_clean()


def test_rows_that_could_not_be_read_at_the_end_are_read_as_soon_as_they_can(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    send_file(page, csv(*(f"пост {number}" for number in range(200))))
    expect(page.locator("#table tbody tr")).to_have_count(50)
    missed: list[str] = []

    def miss(route: Route) -> None:
        missed.append(route.request.url)
        route.abort()

    page.route("**/results?**", miss)
    expect(page.locator("#state")).to_have_text("Готово", timeout=90_000)
    expect(page.locator("#rows-notice .notice-title")).to_have_text("Сервер не отвечает")
    expect(page.locator("#summary-words")).to_have_text("Из 200 строк")
    # The table tries by itself, at intervals in which the picture of the finished file has been asked for.
    tries = len(missed)
    wait_until(lambda: page.title() != "" and len(missed) >= tries + 2, 60, what="the table to be asked for again")
    assert any("limit=200" in address for address in missed), "nobody asked for the picture"
    page.unroute_all()
    expect(page.locator(COMPUTED)).to_have_count(50)
    expect(page.locator("#rows-notice")).to_be_empty()

    def said_of_the_last_row() -> str:
        page.locator("#heat canvas").press("End")
        return page.locator("#heat-row").inner_text()

    probability = f"{100 * expected('пост 199'):.1f}".replace(".", ",")
    wait_until(lambda: f"{probability}\xa0%" in said_of_the_last_row(), what="the picture of the finished file")
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean()


def test_a_file_that_somebody_else_deletes_leaves_nothing_on_the_page(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(FAKE_SECONDS="0.1")
    send_file(page, csv(*(f"пост {number}" for number in range(400))))
    expect(page.locator("#summary-words")).to_contain_text("Пока из ", timeout=60_000)
    assert service.call("DELETE", f"{V1}/jobs/{page.url.rpartition('/')[2]}").status == 204
    expect(page.locator("#notice .notice-title")).to_have_text("Такого файла нет", timeout=60_000)
    for part in ("job", "compare", "summary", "rows"):
        expect(page.locator(f"#{part}")).to_be_hidden()
    watch.assert_clean(404)


def test_a_search_of_many_requests_is_one_for_the_table_and_one_for_the_picture(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    send_file(page, csv(*(f"пост номер {number}" for number in range(1, 121))))
    expect(page.locator("#heat-words")).to_contain_text("Первые 120 строк файла")
    held: list[Route] = []

    def nothing_yet(route: Route) -> None:
        """What the server answers to a rare word: nothing in the rows that it has looked at, and where to go on."""
        if "cursor=" in route.request.url:
            held.append(route)
            return
        answer = route.fetch()
        more = f"{route.request.url.removeprefix(service.url)}&cursor=WzBd"  # [0]: from the first row on.
        route.fulfill(response=answer, json={"items": [], "next": more, "searched": {"from": 1, "to": 60}})

    def search(words: str) -> list[Route]:
        held.clear()
        page.locator("#filter-q").fill(words)
        expect(page.locator("#heat-words")).to_have_text("Ищем: просмотрено 60 из 120, найдено 0…")
        expect(page.locator("#rows-notice")).to_contain_text("Ищем: просмотрено 60 из 120, найдено 0…")
        wait_until(lambda: page.title() != "" and len(held) == 2, what="both to go on")
        return list(held)

    page.route("**/results?**q=**", nothing_yet)
    page.locator("#filters summary").click()
    for route in search("номер 77"):
        route.continue_()
    expect(page.locator("#heat-words")).to_contain_text("Из отобранных показана 1 строка")
    expect(page.locator("#heat canvas")).to_be_visible()
    expect(page.locator("#table tbody summary")).to_have_text(["пост номер 77"])

    both = search("номер 78")
    page.get_by_role("button", name="Остановить поиск").click()
    further: dict[str, Any] = {"items": [], "next": f"{V1}/nowhere", "searched": {"from": 61, "to": 100}}
    for route in both:
        route.fulfill(json=further)
    expect(page.locator("#heat-words")).to_have_text("Среди просмотренных таких строк нет.")
    expect(page.locator("#table")).to_have_text("Среди просмотренных таких строк нет.")
    expect(page.get_by_role("button", name="Вперёд")).to_be_enabled()
    watch.assert_clean()


def test_the_picture_follows_the_threshold_by_which_rows_are_chosen(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    texts = [f"пост номер {number}" for number in range(1, 121)]
    send_file(page, csv(*texts))
    expect(page.locator("#heat-words")).to_contain_text("Первые 120 строк файла")
    page.locator("#filters summary").click()
    page.get_by_label("Спорт", exact=True).check()
    for threshold in (0.5, 0.9):
        page.get_by_role("slider", name="Порог: Спорт").fill(str(threshold))
        count = sum(expected(text) >= threshold for text in texts)
        expect(page.locator("#heat-words")).to_contain_text(f"ервые {count} отобранн")
    watch.assert_clean()
