"""The pages as the server sends them: in both languages, with nothing inline and nothing from outside."""

import gzip
import json
import re
from html import unescape
from types import SimpleNamespace

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from web import assets
from web.pages import api_page, make_blueprint, not_found_page

PAGES = [
    "/", "/texts/abc", "/files", "/jobs/abc", "/history", "/history?show=files", "/model", "/api", "/login", "/nowhere",
]  # fmt: skip


@pytest.fixture
def client() -> FlaskClient:
    app = Flask("test", static_folder=None)
    app.register_blueprint(make_blueprint())
    app.register_error_handler(404, lambda _error: (not_found_page(), 404))
    return app.test_client()


def page(client: FlaskClient, address: str) -> str:
    response = client.get(address)
    assert response.status_code == (404 if address.startswith("/nowhere") else 200)
    assert response.mimetype == "text/html"
    return response.get_data(as_text=True)


@pytest.mark.parametrize("address", PAGES)
def test_a_page_is_russian_unless_english_is_asked_for(client: FlaskClient, address: str) -> None:
    russian = page(client, address)
    english = page(client, address + ("&" if "?" in address else "?") + "lang=en")

    assert '<html lang="ru"' in russian
    assert "Рубрика</title>" in russian
    assert '<html lang="en"' in english
    assert "Rubrika</title>" in english
    # Examples, and the name of the other language, are Russian in both.
    shown = re.sub(r'data-\w+="[^"]*"|<code.*?</code>|<a class="language".*?</a>', "", english, flags=re.DOTALL)
    assert re.findall(r"[А-Яа-яЁё]+", shown) == []


def test_the_choice_of_language_is_remembered(client: FlaskClient) -> None:
    page(client, "/?lang=en")

    assert '<html lang="en"' in page(client, "/files")
    assert '<html lang="ru"' in page(client, "/files?lang=ru")
    assert '<html lang="ru"' in page(client, "/nowhere")


def test_the_switch_of_language_keeps_the_rest_of_the_address(client: FlaskClient) -> None:
    switch = re.search(r'<a class="language" href="([^"]+)"', page(client, "/history?show=files"))

    assert switch is not None
    assert switch[1] == "/history?show=files&amp;lang=en"


@pytest.mark.parametrize("address", PAGES)
def test_nothing_is_inline_and_nothing_comes_from_outside(client: FlaskClient, address: str) -> None:
    html = page(client, address)

    for attributes, body in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL):
        assert ("src=" in attributes and body == "") or 'type="application/json"' in attributes
    assert "<style" not in html
    assert re.findall(r"<[^>]*\s(?:style|on\w+)=", html) == []
    assert re.findall(r"""(?:src|href|action)=["'](?!/|#)[^"']*""", html) == []
    assert re.findall(r"""(?:src|href|action)=["']//[^"']*""", html) == []


@pytest.mark.parametrize("address", PAGES)
def test_every_file_that_a_page_names_is_there(client: FlaskClient, address: str) -> None:
    files = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page(client, address))

    assert len(files) >= 6
    for file in files:
        response = client.get(file)
        assert response.status_code == 200, file
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("address", PAGES)
def test_every_control_has_a_label_and_every_reference_its_target(client: FlaskClient, address: str) -> None:
    html = page(client, address)
    ids = re.findall(r'\sid="([^"]+)"', html)

    assert len(ids) == len(set(ids))
    for attribute in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
        assert set(re.findall(rf'\s{attribute}="([^"]+)"', html)) <= set(ids)
    for control in re.findall(r'<(?:textarea|input)[^>]*\sid="([^"]+)"', html):
        assert f'for="{control}"' in html
    assert set(re.findall(r'href="#(icon-[^"]+)"', html)) <= set(ids)
    assert html.count("<h1") == 1


@pytest.mark.parametrize("language", ["ru", "en"])
def test_examples_carry_a_key_where_one_is_asked_for(client: FlaskClient, language: str) -> None:
    open_to_all = page(client, f"/api?lang={language}")

    assert "KEY" not in open_to_all
    assert open_to_all.count("curl -s API/") == 5

    with client.application.test_request_context(f"/api?lang={language}"):
        g.signed_in = SimpleNamespace(name="laptop", owner="anna")
        asking = api_page().get_data(as_text=True)

    assert "rubrika keys create NAME --owner anna</code>" in asking
    for code in re.findall(r"<code[^>]*>(curl .*?)</code>", asking, re.DOTALL):
        assert ' -H "Authorization: Bearer $KEY"' in unescape(code)


def test_what_an_address_holds_is_text_and_never_markup(client: FlaskClient) -> None:
    html = page(client, "/jobs/%22%3E%3Cscript%3Ealert(1)?x=%22%3E%3Cb%3E")

    assert "<script>alert" not in html
    assert "<b>" not in html
    assert 'data-id="&#34;&gt;&lt;script&gt;alert(1)"' in html


def test_the_words_for_the_browser_are_json_that_cannot_end_their_block(client: FlaskClient) -> None:
    block = re.search(r'<script type="application/json" id="words">(.*?)</script>', page(client, "/"), re.DOTALL)

    assert block is not None
    assert json.loads(block[1])["retry"] == "Повторить"
    assert "<" not in block[1]


def test_bootstrap_is_served_as_its_package_ships_it(client: FlaskClient) -> None:
    original = (assets.bootstrap_folder() / "css" / "bootstrap.min.css").read_bytes()
    address = f"/assets/{assets.load().version}/bootstrap.min.css"

    plain = client.get(address)
    zipped = client.get(address, headers={"Accept-Encoding": "gzip, br"})

    assert plain.data == original
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.data) == original
    assert zipped.headers["ETag"] != plain.headers["ETag"]
    assert plain.mimetype == zipped.mimetype == "text/css"


def test_an_outdated_address_gets_the_file_of_today_and_is_not_kept(client: FlaskClient) -> None:
    response = client.get("/assets/0123456789ab/js/text.js")

    assert response.status_code == 200
    assert response.mimetype == "text/javascript"
    assert response.headers["Cache-Control"] == "no-cache"
    assert client.get("/assets/x/js/text.js", headers={"If-None-Match": response.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("name", ["nothing.js", "../pages.py", "..%2Fpages.py", "js/", "%00"])
def test_only_files_of_the_page_are_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/assets/x/{name}").status_code == 404


def test_the_page_is_small_even_with_all_that_any_page_loads(client: FlaskClient) -> None:
    """A first visit may take 350 kB without charts; all files of all pages together take less than half of that."""
    names = ["bootstrap.min.css", *(name for name in assets.load().files if name != "bootstrap.min.css")]
    transferred = sum(len(assets.load().files[name].gzipped) for name in names)

    assert transferred + len(gzip.compress(client.get("/").data)) < 160_000


def test_an_icon_that_bootstrap_does_not_have_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "ICONS", ("no-such-icon",))
    assets.icon_symbols.cache_clear()
    try:
        with pytest.raises(LookupError, match="no-such-icon"):
            assets.icon_symbols()
    finally:
        assets.icon_symbols.cache_clear()
