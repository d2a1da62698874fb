"""A whole job by keyboard alone: from the choice of a file to the download; where the focus is, is always seen."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import Watch, csv
from tests.e2e.service import Service
from tests.e2e.test_page_access import FOCUSED


def assert_seen(page: Page) -> None:
    """Something has the focus, stands in the window, and is marked."""
    focused = page.evaluate(FOCUSED)
    assert not focused["page"], "the focus is lost"
    assert focused["marked"], focused
    assert focused["inside"], focused


def go_to(page: Page, wanted: Locator, key: str = "Tab") -> None:
    """Press `key` until the focus is on what is wanted."""
    is_there = "one => one === document.activeElement"
    for _ in range(120):
        if wanted.evaluate(is_there):
            return
        page.keyboard.press(key)
        assert_seen(page)
    raise AssertionError(f"{key} never comes to {wanted}")


def test_a_whole_job_is_done_by_keyboard_alone(service: Service, page: Page, watch: Watch, tmp_path: Path) -> None:
    service.start_all()
    # Choosers are caught from here on. Were that asked for with the key press, the key could come first.
    page.on("filechooser", lambda _: None)
    page.goto("/files")
    page.locator("#list > *").first.wait_for()
    go_to(page, page.locator("#file"))
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    data = csv(*(f"пост номер {number}" for number in range(1, 61)), "")
    chooser.value.set_files({"name": "посты.csv", "mimeType": "text/csv", "buffer": data})
    expect(page.locator("#preview-rows tbody tr")).to_have_count(20)
    expect(page.locator("#send")).to_be_focused()
    go_to(page, page.locator("#column-custom_id"), "Shift+Tab")
    page.keyboard.type("author")
    expect(page.locator("#preview-rows th").nth(2)).to_have_text("Ваш номер")
    expect(page.locator("#column-custom_id")).to_be_focused()
    go_to(page, page.locator("#name"))
    page.keyboard.type("С клавиатуры")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*")

    expect(page.locator("#state")).to_have_text("Готово, есть ошибки", timeout=60_000)
    expect(page.locator("h1")).to_have_text("С клавиатуры")
    page.locator("#heat canvas").wait_for()
    rows = page.locator("#table tbody tr")
    expect(rows).to_have_count(50)
    go_to(page, page.locator("#show-failed"))
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(page.locator("#show-failed")).to_be_focused()
    go_to(page, page.locator("#threshold-sport"))
    page.keyboard.press("ArrowRight")
    go_to(page, page.locator("#reset-thresholds"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#reset-thresholds")).to_be_hidden()
    assert_seen(page)

    go_to(page, page.locator("#filter-reset"))
    page.keyboard.press("Enter")
    expect(page.locator("#filter-q")).to_be_focused()
    expect(rows).to_have_count(50)
    go_to(page, page.locator("#later"))
    page.keyboard.press("Enter")
    expect(rows).to_have_count(11)
    expect(page.locator("#earlier")).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(50)
    expect(page.locator("#later")).to_be_focused()
    go_to(page, page.locator("#filter-q"), "Shift+Tab")
    page.keyboard.type("номер 17")
    expect(rows).to_have_count(1)
    expect(page.locator("#filter-q")).to_be_focused()

    go_to(page, rows.locator("summary"))
    page.keyboard.press("Enter")
    expect(rows.locator("details")).to_have_attribute("open", "")
    expect(rows).to_contain_text("user17")
    assert_seen(page)
    go_to(page, rows.locator(".why-button"))
    page.keyboard.press("Enter")
    rows.locator(".why.explained").wait_for()
    assert_seen(page)

    go_to(page, page.locator("#download-options summary"), "Shift+Tab")
    page.keyboard.press("Enter")
    go_to(page, page.locator("#only-chosen"))
    page.keyboard.press("Space")
    go_to(page, page.locator("[data-format=csv]"), "Shift+Tab")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "rows.csv")
    [_, row] = (tmp_path / "rows.csv").read_text("utf-8-sig").splitlines()
    assert "пост номер 17" in row
    assert "user17" in row
    assert_seen(page)
    watch.assert_clean()


def test_what_goes_away_when_it_is_pressed_leaves_the_focus_near(service: Service, page: Page, watch: Watch) -> None:
    service.start_all(FAKE_SECONDS="0.05")
    page.goto("/history?show=files")
    job = service.upload(csv(*(f"пост {number}" for number in range(2_000))))
    page.route("**/api/v1/jobs?**", lambda route: route.abort())
    page.reload()
    retry = page.get_by_role("button", name="Повторить")
    go_to(page, retry)
    page.unroute_all()
    page.keyboard.press("Enter")
    page.locator("[data-job]").wait_for()
    assert not page.evaluate(FOCUSED)["page"]
    go_to(page, page.locator("[data-job] a"))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{job['id']}")
    go_to(page, page.locator("#cancel"))
    page.keyboard.press("Enter")
    expect(page.locator("[data-state=cancelled]")).to_be_visible(timeout=30_000)
    expect(page.locator("#delete")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#question button").last).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#delete")).to_be_focused()
    watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
    watch.assert_clean()
