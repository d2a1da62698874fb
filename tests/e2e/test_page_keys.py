"""Signing in on the page as a person does it: the way there and back, a session that ends, and pages of other sites."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from jobs import keys
from jobs.database import make_engine, run
from jobs.settings import PROJECT_ROOT
from jobs.states import Role
from tests.e2e.browser import Watch, csv
from tests.e2e.service import V1, Service
from tests.e2e.walk import answering
from tests.support import wait_until

KEYS = {"RUBRIKA_AUTH": "keys", "RUBRIKA_SECRET_KEY": "0123456789abcdef" * 4}
DRAFT = "Сегодня на стадионе матч, приходите"


@pytest.fixture
def service(service: Service) -> Service:
    service.env.update(KEYS)
    service.start_all()
    return service


def with_database(service: Service, step: object) -> object:
    engine = make_engine(service.settings.database_url, pool_size=1, application="tests")
    try:
        return run(engine, step)  # type: ignore[arg-type]
    finally:
        engine.dispose()


def new_key(service: Service, name: str, owner: str | None = None) -> str:
    made = with_database(service, lambda c: keys.create(c, name, owner or name, Role.USER))
    return str(made[1])  # type: ignore[index]


def end_sessions(service: Service) -> None:
    from sqlalchemy import text

    with_database(service, lambda c: c.execute(text("DELETE FROM sessions")))


def enter(page: Page, key: str) -> None:
    page.get_by_label("Ключ", exact=True).fill(key)
    page.get_by_role("button", name="Войти").click()


def test_the_way_in_leads_where_one_wanted_to_go_and_out_again(
    service: Service, page: Page, context: BrowserContext, watch: Watch
) -> None:
    anna = new_key(service, "anna")
    page.goto("/history?show=files")
    page.wait_for_url("**/login?next=/history%3Fshow%3Dfiles")
    expect(page.get_by_role("heading", name="Вход по ключу")).to_be_visible()
    expect(page.get_by_label("Ключ", exact=True)).to_be_focused()
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_count(0)

    enter(page, "rbk_" + "x" * 43)
    expect(page.get_by_role("alert")).to_have_text("Такого ключа нет, или его отозвали.")
    enter(page, anna)
    page.wait_for_url("**/history?show=files")
    expect(page.locator(".who-name")).to_have_text("anna")

    [cookie] = [cookie for cookie in context.cookies() if cookie["name"] == "rubrika"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["expires"]) == (True, "Lax", "/", -1)
    assert page.evaluate("document.cookie") == ""
    stored = page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    assert anna not in stored
    assert anna not in page.content()

    page.goto("/")
    page.get_by_label("Текст поста").fill(DRAFT)
    page.get_by_role("button", name="Определить темы").click()
    expect(page.locator(".verdict:not(.empty)")).to_be_visible()
    page.get_by_role("button", name="Выйти").click()
    page.wait_for_url("**/login")
    assert page.evaluate("sessionStorage.length") == 0
    page.go_back()
    page.wait_for_url(re.compile(r"/login\?next=/$"))
    expect(page.get_by_text(DRAFT)).to_have_count(0)
    watch.assert_clean(401)


def test_a_session_that_ends_in_the_middle_of_work_costs_nothing_that_was_typed(
    service: Service, page: Page, watch: Watch
) -> None:
    anna = new_key(service, "anna")
    page.goto("/login")
    enter(page, anna)
    page.wait_for_url(service.url + "/")
    page.get_by_label("Текст поста").fill(DRAFT)
    end_sessions(service)
    page.get_by_role("button", name="Определить темы").click()

    dialog = page.get_by_role("dialog", name="Войдите снова")
    expect(dialog).to_be_visible()
    expect(page.get_by_label("Ключ", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("Нужен ключ доступа")).to_be_visible()
    expect(page.get_by_label("Текст поста")).to_have_value(DRAFT)

    page.get_by_role("button", name="Повторить").click()
    enter(page, anna)
    # What was sent goes on by itself.
    expect(page.locator(".verdict:not(.empty)")).to_be_visible()
    expect(page.get_by_label("Текст поста")).to_have_value(DRAFT)
    assert (
        len(service.call("GET", f"{V1}/classifications", headers={"Authorization": f"Bearer {anna}"}).json["items"])
        == 1
    )
    watch.assert_clean(401)


def test_a_chosen_file_waits_for_its_sender_to_sign_in_again(service: Service, page: Page, watch: Watch) -> None:
    anna = new_key(service, "anna")
    page.goto("/login?next=/files")
    enter(page, anna)
    expect(page.locator(".who-name")).to_have_text("anna")
    # The list is drawn by the module that listens for files.
    page.locator("#list > *").first.wait_for()
    page.locator("#file").set_input_files({"name": "п.csv", "mimeType": "text/csv", "buffer": csv(DRAFT, "Туман")})
    expect(page.get_by_role("button", name="Отправить")).to_be_enabled()
    end_sessions(service)
    page.get_by_role("button", name="Отправить").click()
    enter(page, anna)
    page.wait_for_url("**/jobs/*")
    expect(page.locator("#state")).to_contain_text("Готово", timeout=60_000)
    watch.assert_clean(401)


def test_a_page_of_one_owner_does_not_stay_for_another(service: Service, page: Page, watch: Watch) -> None:
    anna, boris = new_key(service, "anna"), new_key(service, "boris")
    page.goto("/login")
    enter(page, anna)
    page.wait_for_url(service.url + "/")
    page.get_by_label("Текст поста").fill(DRAFT)
    end_sessions(service)
    page.get_by_role("button", name="Определить темы").click()
    enter(page, boris)
    expect(page.locator(".who-name")).to_have_text("boris")
    expect(page.locator("html")).to_have_attribute("data-owner", "boris")
    watch.assert_clean(401)


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "/%09/evil.example", "/.//evil.example/",
        "/x/..//evil.example/", "javascript:alert(1)", "evil",
    ],
)  # fmt: skip
def test_the_way_back_never_leads_away(service: Service, page: Page, watch: Watch, following: str) -> None:
    page.goto(f"/login?next={following}")
    enter(page, new_key(service, "anna"))
    page.wait_for_url(lambda url: "/login" not in url)
    assert page.url.startswith(service.url + "/")
    watch.assert_clean(401, 404)


def test_a_refusal_to_sign_in_is_said_in_the_words_of_the_page(service: Service, page: Page, watch: Watch) -> None:
    problem = {"code": "too_many_requests", "detail": "Too many unknown keys came from here."}
    page.route(f"**{V1}/session", answering(429, problem, {"Retry-After": "7"}))
    page.goto("/login")
    enter(page, "rbk_" + "x" * 43)
    expect(page.get_by_role("alert")).to_contain_text("Слишком много запросов.")
    expect(page.get_by_role("alert")).to_contain_text("Повторите через 7 секунд.")
    expect(page.get_by_role("alert")).not_to_contain_text("unknown keys")
    watch.assert_clean(429)


@pytest.mark.skipif(shutil.which("curl") is None and not os.environ.get("CI"), reason="curl is missing")
def test_the_examples_of_the_interface_carry_the_key_and_do_what_they_say(
    service: Service, page: Page, watch: Watch, tmp_path: Path
) -> None:
    anna = new_key(service, "anna-laptop", "anna")
    page.goto("/login?next=/api")
    enter(page, anna)
    page.wait_for_url("**/api")
    expect(page.get_by_text("rubrika keys create NAME --owner anna")).to_be_visible()
    expect(page.locator("#code-one_text")).to_contain_text(service.url)
    (tmp_path / "posts.csv").write_bytes(csv(DRAFT))
    lines = [page.locator("#code-key").inner_text(), 'test "$KEY" = "$WANTED" || exit 1']

    def do(name: str, job: str = "") -> bytes:
        """What an example answers to whoever has entered the key as the first of them asks for it."""
        code = page.locator(f"#code-{name}").inner_text()
        assert anna not in code
        return subprocess.run(
            ["bash", "-c", "\n".join([*lines, code.replace("/ID", f"/{job}")])],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "WANTED": anna},
            input=f"{anna}\n".encode(),
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout

    assert json.loads(do("one_text"))["status"] == "succeeded"
    assert len(json.loads(do("many_texts"))["items"]) == 2
    job = json.loads(do("file"))["id"]
    wait_until(lambda: json.loads(do("progress", job))["status"] == "succeeded", 30, what="the job to be done")
    do("results", job)
    assert DRAFT in (tmp_path / "results.csv").read_text("utf-8-sig")
    watch.assert_clean(401)


# --- pages of other sites -------------------------------------------------------------------------------------------

EVIL = """<!doctype html><title>evil</title>
<form id="post" method="post" enctype="text/plain" action="{url}/api/v1/classifications" target="shown">
  <input name='{{"text": "evil", "x": "' value='"}}'></form>
<form id="upload" method="post" enctype="multipart/form-data" action="{url}/api/v1/jobs" target="shown">
  <input name="file" value="text"></form>
<iframe name="shown"></iframe><iframe id="framed" src="{url}/"></iframe><img id="img" src="{url}/api/v1/jobs.csv">
<script>
async function tryAll() {{
  const said = [];
  const ask = async (name, path, options) => {{
    try {{
      const answer = await fetch("{url}" + path, {{ credentials: "include", ...options }});
      said.push([name, answer.status, await answer.text()]);
    }} catch (error) {{ said.push([name, 0, ""]); }}
  }};
  await ask("read", "/api/v1/jobs", {{}});
  await ask("simple", "/api/v1/classifications", {{ method: "POST", body: '{{"text": "evil"}}' }});
  await ask("opaque", "/api/v1/jobs?filename=a.csv", {{ method: "POST", body: "text\\nevil\\n", mode: "no-cors" }});
  await ask("asked", "/api/v1/classifications", {{ method: "POST", body: '{{"text": "evil"}}',
    headers: {{ "Content-Type": "application/json", "Rubrika-Page": "1" }} }});
  await ask("delete", "/api/v1/session", {{ method: "DELETE" }});
  document.getElementById("post").submit();
  document.getElementById("upload").submit();
  return said;
}}
</script>"""


@pytest.fixture
def evil(service: Service) -> Iterator[ThreadingHTTPServer]:
    """Another site: `localhost` is not 127.0.0.1; another port of 127.0.0.1 is the same site, and not our origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = EVIL.format(url=service.url).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_another_site_can_do_nothing_with_the_session(
    service: Service, context: BrowserContext, evil: ThreadingHTTPServer, host: str
) -> None:
    anna = new_key(service, "anna")
    mine = context.new_page()
    mine.goto("/login")
    enter(mine, anna)
    mine.wait_for_url(service.url + "/")

    other = context.new_page()
    with other.expect_response(re.compile(r"/api/v1/jobs$")):
        other.goto(f"http://{host}:{evil.server_address[1]}/")
        said = other.evaluate("tryAll()")
    assert {name: status for name, status, _ in said if status} == {}, "nothing of an answer can be read"
    framed = next(frame for frame in other.frames if frame != other.main_frame and frame.name != "shown")
    # What a browser puts in the place of a page that may not be framed; ours would stand there with its own address.
    framed.wait_for_url("chrome-error://chromewebdata/")
    assert "Рубрика" not in framed.content()

    headers = {"Authorization": f"Bearer {anna}"}
    for path in ("/classifications", "/jobs"):
        assert service.call("GET", V1 + path, headers=headers).json["items"] == []
    mine.reload()
    expect(mine.locator(".who-name")).to_have_text("anna")


def test_a_revoked_key_is_signed_out_while_its_page_is_open(service: Service, page: Page, watch: Watch) -> None:
    anna = new_key(service, "anna")
    page.goto("/login?next=/files")
    enter(page, anna)
    page.wait_for_url("**/files")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "keys", "revoke", "anna"],
        cwd=PROJECT_ROOT,
        env={"PATH": "/usr/bin:/bin", **service.environment()},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b"opens nothing any more" in done.stdout
    page.reload()
    page.wait_for_url("**/login?next=/files")
    enter(page, anna)
    expect(page.get_by_role("alert")).to_have_text("Такого ключа нет, или его отозвали.")
    watch.assert_clean(401)
    wait_until(lambda: service.get("/healthz").status == 200)
