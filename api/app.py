"""The Flask app: resources, pages, problems, headers. Made by a factory; nothing connects at start."""

from importlib.util import find_spec
from pathlib import Path

from flask import Flask, Response, render_template, send_from_directory
from flask_openapi3 import Info, OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as BaseResponse

from api import guard, headers, observe, problems
from api.body import StrictRequest
from api.context import Context
from api.described import describe
from api.problems import Problem
from api.resources import (
    classifications,
    comparisons,
    events,
    explanations,
    exports,
    feedback,
    histories,
    job_actions,
    results,
    service,
    session,
)
from api.resources import jobs as job_resources
from jobs.bell import Bell
from jobs.database import make_engine
from jobs.settings import Settings
from web.pages import make_blueprint

VERSION = "1"


def create_app(settings: Settings) -> Flask:
    """The app that serves the interface and the pages."""
    app = OpenAPI(
        "api",
        info=Info(
            title="Rubrika",
            version=VERSION,
            description="Topics of Russian social-media posts. Errors are RFC 9457 problem details.",
        ),
        security_schemes={"key": {"type": "http", "scheme": "bearer", "description": "A key of `rubrika keys`."}},
        validation_error_model=Problem,
        validation_error_callback=problems.validation_response,
        doc_ui=False,
        static_folder=None,
        template_folder=str(Path(__file__).parent / "templates"),
    )
    app.request_class = StrictRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_json_bytes
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    app.extensions["rubrika"] = Context(
        settings,
        make_engine(settings.database_url, pool_size=settings.api_threads, application="rubrika api"),
        Bell(settings),
    )
    observe.register(app)
    problems.register(app)
    guard.install(app)
    headers.install(app)
    for resource in (
        classifications,
        job_resources,
        histories,
        results,
        exports,
        job_actions,
        comparisons,
        events,
        feedback,
        explanations,
        service,
        session,
    ):
        app.register_api(resource.blueprint)
    _documents(app)
    app.register_blueprint(make_blueprint(settings.max_body_bytes))
    return app


def _documents(app: OpenAPI) -> None:
    """`/openapi.json` as generated from the resources, and `/docs`: Swagger UI from its package, nothing inline."""
    package = find_spec("flask_openapi3_swagger")
    assert package is not None and package.origin is not None  # noqa: S101, PT018  (a dependency)
    files = Path(package.origin).parent / "templates" / "swagger"

    @app.route("/openapi.json", endpoint="openapi_document")
    @app.route("/api/v1/openapi.json", endpoint="openapi_document_v1")
    def document() -> Response:
        return Response(app.json.dumps(_finished(app)), content_type="application/json")

    @app.route("/docs", endpoint="docs")
    def docs() -> str:
        return render_template("docs.html")

    @app.route("/docs/<path:name>", endpoint="docs_file")
    def docs_file(name: str) -> BaseResponse:
        if name == "docs.js":
            return send_from_directory(Path(__file__).parent / "templates", "docs.js", max_age=3600)
        return send_from_directory(files, name, max_age=86_400)


def _finished(app: OpenAPI) -> dict[str, object]:
    """The document with the schema of problems, which every operation refers to, and with what all have in common."""
    document: dict[str, object] = app.api_doc
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = {**schema.pop("$defs", {}), "Problem": schema}
    components = document.setdefault("components", {})
    assert isinstance(components, dict)  # noqa: S101
    components.setdefault("schemas", {}).update(parts)
    open_to_all = [
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint in guard.OPEN
        for method in rule.methods or ()
    ]
    keys_on = app.extensions["rubrika"].cookie is not None
    describe(document, open_to_all, keys_on=keys_on)
    # What there is none of is left out: `null` is not allowed in its place.
    document["components"] = {name: part for name, part in components.items() if part is not None}
    return document
