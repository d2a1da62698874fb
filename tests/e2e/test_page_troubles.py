"""What the page does when the service is gone, refuses or has nobody to compute, and how it finds back by itself."""

import os
import re
import signal
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests.e2e.browser import Watch, choose, csv, send_file
from tests.e2e.service import V1, Service
from tests.e2e.walk import answering
from tests.support import wait_until


def gone(service: Service) -> None:
    """The API is killed; whoever asks finds nobody."""
    os.killpg(service.processes[0].pid, signal.SIGKILL)
    wait_until(lambda: service.get("/healthz").status == 0, what="the API to be gone")


def forgive_broken_connections(watch: Watch) -> None:
    watch.complaints = [text for text in watch.complaints if "ERR_" not in text]


def test_pages_without_a_server_say_so_and_fill_when_there_is_one_again(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    job = service.wait_finished(service.upload(csv("пост", "второй"), filename="january.csv"))
    assert service.classify({"text": "пост"}, wait=20).status == 200
    [text] = service.get(f"{V1}/classifications").json["items"]
    for address, what in (
        ("/", ".bar"),
        (f"/texts/{text['id']}", ".bar"),
        ("/history?show=files", "[data-job]"),
        (f"/jobs/{job['id']}", "#table summary"),
        ("/model", "#topics tbody tr"),
        ("/api", "#operations li"),
    ):
        # The page itself has come, and then the server goes.
        page.route(f"**{V1}/**", lambda route: route.abort())
        page.route("**/readyz", lambda route: route.abort())
        page.route("**/openapi.json", lambda route: route.abort())
        page.goto(address)
        expect(page.locator(".notice-title").first).to_have_text("Сервер не отвечает")
        expect(page.locator(".notice").first).to_contain_text("Страница сама пробует связаться снова")
        page.unroute_all()
        expect(page.locator(what).first).to_be_visible(timeout=60_000)
        expect(page.locator(".alert-danger")).to_have_count(0, timeout=60_000)
    forgive_broken_connections(watch)
    watch.assert_clean()


def test_a_job_keeps_what_it_showed_while_the_server_is_gone(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.05")
    send_file(page, csv(*(f"пост {number}" for number in range(200))))
    expect(page.locator("#table tbody tr")).to_have_count(50)
    wait_until(lambda: page.locator("[data-fact=succeeded] dd").inner_text() not in {"", "0"}, 30, what="some results")
    gone(service)
    expect(page.locator("#notice .notice-title")).to_have_text("Нет связи с сервером", timeout=60_000)
    expect(page.locator("#notice")).to_contain_text("Показано то, что было известно.")
    expect(page.locator("#table tbody tr")).to_have_count(50)
    service.start("api")
    expect(page.locator("#state")).to_have_text("Готово", timeout=90_000)
    expect(page.locator("#notice")).to_be_empty()
    forgive_broken_connections(watch)
    watch.assert_clean()


def test_a_history_that_cannot_be_read_now_comes_when_the_database_does(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    assert service.classify({"text": "пост"}, wait=20).status == 200
    away = {"code": "unavailable", "detail": "The database cannot be reached."}
    checks = '{"status": "not_ready", "checks": {"postgres": {"ok": false}}}'
    page.route(f"**{V1}/classifications?**", answering(503, away))
    page.route("**/readyz", lambda route: route.fulfill(status=503, body=checks))
    page.goto("/history")
    expect(page.locator(".notice-title")).to_have_text("Сервис временно недоступен")
    expect(page.locator(".notice")).to_contain_text("Всё принятое сохранено.")
    expect(page.locator(".notice details [lang=en]")).to_have_text("The database cannot be reached.")
    page.unroute(f"**{V1}/classifications?**")
    with page.expect_response("**/readyz"):  # Asked twice at least: as long as the database is away the page waits.
        pass
    expect(page.locator(".notice-title")).to_have_text("Сервис временно недоступен")
    page.unroute("**/readyz")
    expect(page.locator("[data-text]")).to_have_count(1, timeout=60_000)
    watch.assert_clean(503)


def test_a_file_that_waits_for_a_worker_says_so_and_what_to_do(service: Service, page: Page, watch: Watch) -> None:
    service.start("api")
    service.start("sweeper")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    send_file(page, csv("пост"))
    expect(page.locator("#state")).to_have_text("В очереди")
    expect(page.locator("#worker-notice .notice-title")).to_have_text(
        "Сейчас не работает ни один обработчик", timeout=30_000
    )
    expect(page.locator("#worker-notice")).to_contain_text("rubrika worker")
    expect(page.locator("#worker-notice")).to_have_attribute("aria-live", "polite")
    service.start("fake")
    expect(page.locator("#state")).to_have_text("Готово", timeout=60_000)
    expect(page.locator("#worker-notice")).to_be_empty()
    watch.assert_clean(404, 503)


def test_a_file_that_is_too_large_or_has_too_many_rows_is_refused_in_words_that_help(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all(RUBRIKA_MAX_BODY_BYTES="200000", RUBRIKA_MAX_ROWS="100")
    choose(page, csv(*(f"пост {number}" for number in range(101))))
    page.get_by_label("Название").fill("Большой")
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator("#notice .notice-title")).to_have_text("Слишком большой размер")
    expect(page.locator("#notice")).to_contain_text("В файле слишком много строк. Разделите его на части.")
    expect(page.get_by_label("Название")).to_have_value("Большой")

    # Of what is larger than the server takes nothing is sent.
    choose(page, csv(*["длинный пост " * 100] * 90))
    expect(page.locator("#notice .notice-title")).to_have_text("Слишком большой размер")
    expect(page.locator("#notice")).to_contain_text("а сервер принимает не больше 200 кБ. Разделите его на части")
    expect(page.get_by_role("button", name="Отправить")).to_be_hidden()
    choose(page, csv("пост"))
    expect(page.get_by_role("button", name="Отправить")).to_be_visible()
    expect(page.locator("#notice")).to_be_empty()
    assert service.get(f"{V1}/jobs").json["items"] == []
    watch.assert_clean(413)


def test_a_file_that_breaks_on_its_way_again_and_again_is_sent_by_hand_alone(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.add_init_script("""
        XMLHttpRequest.prototype.send = function () {
          window.sendings = (window.sendings ?? 0) + 1;
          queueMicrotask(() => {
            this.upload.dispatchEvent(new ProgressEvent("progress", { loaded: 10, total: 100 }));
            this.dispatchEvent(new ProgressEvent("error"));
          });
        };
    """)
    choose(page, csv("пост"))
    page.get_by_role("button", name="Отправить").click()
    expect(page.locator("#notice")).to_contain_text("сама больше не начнётся", timeout=30_000)
    assert page.evaluate("window.sendings") == 4
    # Who sends it by hand has as many tries as before.
    page.get_by_role("button", name="Повторить").click()
    wait_until(lambda: page.evaluate("window.sendings") > 5, 20, what="another try by itself")
    expect(page.locator("#notice")).not_to_contain_text("сама больше не начнётся")
    watch.assert_clean()


def test_what_a_key_may_not_do_is_said_with_what_to_do_about_it(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    for status, title, words in (
        (401, "Нужен ключ доступа", "попросите ключ у администратора"),
        (403, "Доступ закрыт", "Попросите доступ у администратора сервиса."),
        (429, "Слишком много запросов", "Повторите через 7 секунд."),
    ):
        problem = {"code": "no", "detail": "Why."}
        page.route(f"**{V1}/jobs/preview", answering(status, problem, {"Retry-After": "7"}))
        choose(page, csv("пост"))
        expect(page.locator("#preview-notice .notice-title")).to_have_text(title)
        expect(page.locator("#preview-notice")).to_contain_text(words)
        expect(page.locator("#preview-notice")).not_to_contain_text("Пробуем связаться")
        page.unroute_all()
    watch.assert_clean(401, 403, 429)


def test_what_was_refused_is_offered_again_only_where_that_can_help(service: Service, page: Page, watch: Watch) -> None:
    service.start_all()
    retry = page.locator("#notice").get_by_role("button", name="Повторить")
    asking: tuple[tuple[str, Callable[[], object]], ...] = (
        ("classifications?**", lambda: page.goto("/history")),
        ("jobs", lambda: page.get_by_role("button", name="Отправить").click()),
    )
    for address, ask in asking:
        for status in (400, 401, 403, 409, 413, 415, 422, 429, 500, 503):
            choose(page, csv("пост"))
            expect(page.locator("#preview-rows tbody tr")).to_have_count(1)
            page.route(f"**{V1}/{address}", answering(status, {"code": "no", "detail": "Why."}))
            page.route("**/readyz", lambda route: route.abort())  # Or it would be tried again without anybody.
            ask()
            expect(page.locator("#notice .notice-title")).to_be_visible()
            expect(retry).to_have_count(1 if status in {429, 500, 503} else 0)
            page.unroute_all()
    page.route(f"**{V1}/jobs", lambda route: route.abort())
    choose(page, csv("пост"))
    page.get_by_role("button", name="Отправить").click()
    expect(retry).to_be_visible()
    page.unroute_all()
    retry.click()
    page.wait_for_url("**/jobs/*")
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean(400, 401, 403, 409, 413, 415, 422, 429, 500, 503)


def test_a_text_that_is_still_being_taken_is_sent_again_under_its_key(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    page.goto("/")
    keys: list[str] = []
    page.on("request", lambda request: keys.append(request.headers.get("idempotency-key", "")))
    page.route(f"**{V1}/classifications", answering(409, {"code": "key_in_flight", "detail": "It is in flight."}))
    page.locator("#doc_text").fill("Продам гараж")
    page.keyboard.press("Control+Enter")
    notice = page.locator("#notice .notice-title")
    expect(notice).to_have_text("Запрос ещё выполняется")
    page.unroute_all()
    page.locator("#notice").get_by_role("button", name="Повторить").click()
    expect(notice).to_have_count(0)
    expect(page.locator(".verdict")).to_be_visible()
    sent = [key for key in keys if key]
    assert (len(sent), len(set(sent))) == (2, 1)
    watch.assert_clean(409)


def test_a_second_try_of_rows_that_is_still_being_made_is_said_to_be(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    send_file(page, csv("!fail раз"))
    page.route("**/retry", answering(409, {"code": "key_in_flight", "detail": "It is in flight."}))
    page.locator("#retry").click()
    expect(page.locator("#notice .notice-title")).to_have_text("Запрос ещё выполняется")
    expect(page.locator("#notice")).not_to_contain_text("Обновите")
    before = page.url
    page.unroute_all()
    page.locator("#retry").click()
    page.wait_for_url(lambda url: url != before and "/jobs/" in url)
    watch.assert_clean(409)


def test_what_takes_the_database_two_minutes_is_waited_for_and_asked_for_again_when_it_says(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    job = service.wait_finished(service.upload(csv("пост", "второй")))
    again = service.call("POST", f"{job['links']['self']}/rerun", b"{}", {"Content-Type": "application/json"}).json
    service.wait_finished(again)
    held: dict[str, list[Route]] = {"/summary?": [], "/results?": [], "/compare/": []}

    def hold(route: Route) -> None:
        [name] = [name for name in held if name in route.request.url]
        held[name].append(route)

    page.route(re.compile("|".join(map(re.escape, held))), hold)
    page.clock.install()
    page.goto(f"/jobs/{again['id']}?sort=-sport")
    wait_until(lambda: page.title() != "" and all(held.values()), what="the page to ask")
    page.clock.run_for(125_000)
    counts = {name: len(routes) for name, routes in held.items()}
    too_slow = answering(503, {"code": "too_slow", "detail": "It took too long."}, {"Retry-After": "60"})
    for name, [route] in held.items():
        route.continue_() if name == "/compare/" else too_slow(route)
    notices = page.locator("#summary-notice .notice, #rows-notice .notice")
    expect(notices).to_have_text([re.compile("не справилась с этим за две минуты")] * 2)
    expect(page.locator("#compare-body table")).to_be_visible()
    for _ in range(11):
        page.clock.run_for(5000)
        assert page.evaluate("() => fetch('/healthz').then(({ ok }) => ok)")  # What the page has asked has got there.
    assert {name: len(routes) for name, routes in held.items()} == counts
    page.unroute_all()
    page.clock.run_for(10_000)
    expect(page.locator("#table tbody summary")).to_have_count(2)
    expect(page.locator("#summary-words")).to_have_text("Из 2 строк")
    expect(notices).to_have_count(0)
    watch.assert_clean(503)


def test_the_sentence_of_the_server_is_folded_where_the_page_says_it_in_its_own_words(
    service: Service, page: Page, watch: Watch
) -> None:
    service.start_all()
    notice, folded = page.locator("#notice .notice"), page.locator("#notice details")
    known = (
        (403, {"code": "admins_only", "detail": "This is for administrators."}, "Попросите доступ"),
        (409, {"code": "conflict", "detail": "The job is finished."}, "состояние изменилось"),
        (413, {"code": "too_many_rows", "detail": "The file has 101 rows."}, "слишком много строк"),
        (429, {"code": "too_many_waiting_rows", "detail": "7 rows wait."}, "предельное число ваших строк"),
        (500, {"code": "internal_error", "detail": "It was logged."}, "записана в журнал"),
    )
    unknown = (
        (409, {"code": "what_is_this", "detail": "A thing happened."}),
        (422, {"code": "invalid_input", "detail": "A thing.", "errors": [{"code": "what", "message": "A thing."}]}),
    )
    for status, problem, words in known:
        page.route(f"**{V1}/classifications?**", answering(status, problem))
        page.goto("/history")
        expect(notice).to_contain_text(words)
        expect(notice.get_by_text(str(problem["detail"]))).to_be_hidden()
        folded.get_by_text("Ответ сервера на английском").click()
        expect(folded.locator("[lang=en]")).to_have_text(str(problem["detail"]))
        expect(folded.locator("[lang=en]")).to_be_visible()
        page.goto("/history?lang=en")
        expect(notice.get_by_text(str(problem["detail"]))).to_be_visible()
        expect(folded).to_have_count(0)
        page.goto("/history?lang=ru")
        page.unroute_all()
    for status, problem in unknown:
        page.route(f"**{V1}/classifications?**", answering(status, problem))
        page.goto("/history")
        expect(notice).to_contain_text(f"Ответ сервера: {problem['detail']}")
        expect(folded).to_have_count(0)
        page.unroute_all()
    watch.assert_clean(403, 409, 413, 422, 429, 500)


def test_a_hidden_page_asks_rarely_and_at_once_when_it_is_looked_at(service: Service, page: Page, watch: Watch) -> None:
    service.start("api", RUBRIKA_MAX_STREAMS="0")
    wait_until(lambda: service.get("/healthz").status == 200, 60, what="the API")
    job = service.upload(csv("пост"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.goto(f"/jobs/{job['id']}")
    expect(page.locator("#state")).to_have_text("В очереди")
    address = service.url + job["links"]["self"]

    def hide(hidden: bool) -> None:
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    def answered_within(seconds: int) -> int:
        """How often the job is asked for while the clock of the page goes on so far."""
        before = asked.count(address)
        for _ in range(seconds):
            page.clock.run_for(1000)
            page.wait_for_load_state("networkidle")
        return asked.count(address) - before

    assert answered_within(20) >= 4
    hide(True)
    page.wait_for_load_state("networkidle")
    assert 1 <= answered_within(45) <= 4
    before = asked.count(address)
    hide(False)
    page.clock.run_for(100)
    wait_until(lambda: asked.count(address) > before, what="the page to ask as soon as it is looked at")
    watch.assert_clean(404, 503)
