"""Every page in every state for everybody: by axe in both languages and colours, narrow, enlarged, by keyboard."""

from dataclasses import dataclass
from typing import Literal

import pytest
from playwright.sync_api import Browser

from tests.e2e.browser import Watch, barriers
from tests.e2e.service import Service
from tests.e2e.walk import PROBLEMS, Walk, stands_still
from tests.support import wait_until


@dataclass(frozen=True)
class Visitor:
    """A screen in CSS pixels, its colours, and a language."""

    width: int
    scheme: Literal["light", "dark"]
    language: str


VISITORS = (
    Visitor(1280, "light", "ru"),
    Visitor(1280, "dark", "en"),
    Visitor(320, "light", "en"),
    Visitor(320, "dark", "ru"),
)


@pytest.mark.parametrize("visitor", VISITORS, ids=lambda one: f"{one.width}-{one.scheme}-{one.language}")
def test_no_page_in_any_state_shuts_anybody_out(service: Service, browser: Browser, visitor: Visitor) -> None:
    service.start_all(FAKE_SECONDS="0.02")
    with browser.new_context(
        base_url=service.url, viewport={"width": visitor.width, "height": 800}, color_scheme=visitor.scheme
    ) as context:
        context.set_default_timeout(30_000)
        watch = Watch(service.url).over(context)
        page = context.new_page()
        found: list[str] = []
        seen: list[str] = []

        def look(name: str, *, whole: bool = True, moving: bool = False) -> None:
            wait_until(lambda: moving or stands_still(page)(), what="the page to stand still")
            seen.append(name)
            wrong = barriers(page)
            if page.evaluate("document.documentElement.scrollWidth") > visitor.width:
                wrong.append("it scrolls sideways")
            if not page.evaluate("document.querySelector('main').innerText.trim()"):
                wrong.append("it is blank")
            found.extend(f"{name}: {one}" for one in wrong)

        Walk(service, page, visitor.language, "fake", look).all_states(rows=2_000)
        assert not found, "\n".join(found)
        assert len(seen) == len(set(seen)) > 40
        # Connections were broken and statuses given on purpose; everything else is a mistake.
        watch.complaints = [text for text in watch.complaints if "ERR_FAILED" not in text]
        watch.assert_clean(404, 415, 422, *(status for status, _ in PROBLEMS.values()))
