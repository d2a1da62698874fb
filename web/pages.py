"""The addresses of the page. Each answers with a skeleton whose modules call the REST API."""

import json
from functools import partial

from flask import Blueprint, Response, abort, g, make_response, render_template, request, url_for
from jinja2.utils import htmlsafe_json_dumps

from web import assets
from web.examples import EXAMPLES
from web.words import LANGUAGES, browser_words, choose_language, server_word

LANGUAGE_COOKIE = "lang"
LANGUAGE_COOKIE_SECONDS = 365 * 24 * 60 * 60


def make_blueprint(max_body_bytes: int | None = None) -> Blueprint:
    """All pages and the files that they load, under the blueprint name `web`.

    A file of more than `max_body_bytes` the server would refuse: the page says so before it sends any of it.
    """
    assets.load()
    blueprint = Blueprint("web", __name__, template_folder="templates")
    blueprint.add_url_rule("/", "text", text_page)
    blueprint.add_url_rule("/texts/<text_id>", "result", result_page)
    blueprint.add_url_rule("/files", "files", partial(files_page, max_body_bytes))
    blueprint.add_url_rule("/jobs/<job_id>", "job", job_page)
    blueprint.add_url_rule("/history", "history", history_page)
    blueprint.add_url_rule("/model", "model", model_page)
    blueprint.add_url_rule("/login", "login", login_page)
    blueprint.add_url_rule("/api", "api", api_page)
    blueprint.add_url_rule("/assets/<version>/<path:name>", "asset", asset)
    blueprint.add_url_rule("/favicon.ico", "favicon", favicon)
    return blueprint


def text_page() -> Response:
    """The form for one text."""
    return _page("text.html", here="text", examples=EXAMPLES)


def result_page(text_id: str) -> Response:
    """The permanent page of one text's result."""
    return _page("result.html", here="history", text_id=text_id)


def files_page(max_body_bytes: int | None) -> Response:
    """Upload of a file, and the files so far."""
    return _page("files.html", here="files", max_body_bytes=max_body_bytes)


def job_page(job_id: str) -> Response:
    """One file: its progress, then its results."""
    return _page("job.html", here="files", job_id=job_id)


def history_page() -> Response:
    """The texts so far, or with `?show=files` the files."""
    show = "files" if request.args.get("show") == "files" else "texts"
    return _page("history.html", here="history", show=show)


def model_page() -> Response:
    """What the model reaches and how far to believe it, what its card says, and what the service is doing."""
    return _page("model.html", here="model")


def login_page() -> Response:
    """Where somebody without a session enters a key; `?next=` is where its module leads to then."""
    return _page("login.html", here="login")


def api_page() -> Response:
    """The REST interface for whoever comes to it first: examples to copy, and every address that there is."""
    return _page("api.html", here="api")


def not_found_page() -> str:
    """The page for an address that does not exist, as HTML; the caller sends it with status 404."""
    return _render("not_found.html", _language(), here="")


def asset(version: str, name: str) -> Response:
    """A style sheet, module or picture. An outdated version in the address gets the file of today, uncached."""
    loaded = assets.load()
    if name not in loaded.files:
        abort(404)
    return assets.respond(request, loaded.files[name], forever=version == loaded.version)


def favicon() -> Response:
    """For browsers that ask for this address whatever the page says."""
    return assets.respond(request, assets.load().files["icon.svg"], forever=False)


def _page(template: str, **context: object) -> Response:
    language = _language()
    response = make_response(_render(template, language, **context))
    response.headers["Content-Language"] = language
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Vary"] = "Cookie"
    if request.args.get("lang") in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=LANGUAGE_COOKIE_SECONDS, samesite="Lax", httponly=True)
    return response


def _render(template: str, language: str, **context: object) -> str:
    """Everything goes in by hand, so that `not_found_page` works for requests that belong to no blueprint."""
    return render_template(
        f"web/{template}",
        t=partial(server_word, language),
        lang=language,
        other_lang="en" if language == "ru" else "ru",
        other_lang_args={**request.args.to_dict(), "lang": "en" if language == "ru" else "ru"},
        words=htmlsafe_json_dumps(browser_words(language), dumps=partial(json.dumps, ensure_ascii=False)),
        icon=assets.icon,
        icon_symbols=assets.icon_symbols(),
        file=_asset_url,
        # Whoever serves the pages puts somebody with `name` and `owner` there; nobody while all may come in.
        signed_in=g.get("signed_in"),
        **context,
    )


def _asset_url(name: str) -> str:
    return url_for("web.asset", version=assets.load().version, name=name)


def _language() -> str:
    return choose_language(request.args.get("lang"), request.cookies.get(LANGUAGE_COOKIE))
