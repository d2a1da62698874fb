"""Topics, models, health, the OpenAPI document, and what happens when a server is away."""

import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from api.app import create_app
from jobs import sweeping
from jobs.database import run
from jobs.settings import Settings
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload
from tests.support import wait_until


def test_topics_and_models(client: FlaskClient, app: Any, settings: Settings) -> None:
    assert_problem(client.get(f"{V1}/topics"), 404)
    worker = Worker(settings, app.extensions["rubrika"])
    wait_until(lambda: client.get(f"{V1}/topics").status_code == 200, what="the model to be seen")
    topics = client.get(f"{V1}/topics").get_json()
    assert (topics["model"], topics["items"][0]["id"]) == ("tiny@1.0.0", "sport")
    [model] = client.get(f"{V1}/models").get_json()["items"]
    assert client.get(f"{V1}/models/tiny").get_json() == model
    assert_problem(client.get(f"{V1}/models/other"), 404)
    worker.close()


def test_health_and_readiness(client: FlaskClient, app: Any, settings: Settings) -> None:
    for prefix in ("", V1):
        assert client.get(f"{prefix}/healthz").get_json() == {"status": "ok"}
        waiting = client.get(f"{prefix}/readyz")
        assert waiting.status_code == 503
        assert waiting.get_json()["checks"]["worker"] == {"ok": False, "alive": 0}
    worker = Worker(settings, app.extensions["rubrika"])
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "ready")
    # Without a sweeper a text is computed all the same; that it is missing is told.
    assert ready.get_json()["checks"]["sweeper"] == {"ok": False, "last_sweep_seconds": None}
    run(app.extensions["rubrika"].engine, sweeping.sweep)
    assert client.get("/readyz").get_json()["checks"]["sweeper"]["ok"] is True
    worker.close()


@pytest.mark.parametrize(
    "path",
    [
        f"{V1}/classifications/nothing",
        f"{V1}/classifications/{'0' * 32}-1",
        f"{V1}/jobs/nothing",
        f"{V1}/jobs/{'0' * 32}",
        f"{V1}/jobs/{'0' * 32}/results",
        f"{V1}/jobs/{'0' * 32}/results.csv",
        f"{V1}/jobs/{'0' * 32}/results.exe",
        f"{V1}/nothing",
    ],
)
def test_what_is_not_there_is_404(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    "path",
    [
        f"{V1}/classifications?limit=0",
        f"{V1}/classifications?limit=many",
        f"{V1}/classifications?cursor=%00",
        f"{V1}/classifications?cursor=W10",
        f"{V1}/classifications?cursor=WyJ4IiwgMV0",
        f"{V1}/jobs?cursor=WyJ4Il0",
        f"{V1}/jobs?colour=red",
    ],
)
def test_bad_parameters_are_told(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in {404, 422}
    assert_problem(response, response.status_code)


def test_bad_thresholds_are_told(client: FlaskClient, worker: Worker) -> None:
    job = upload(client, CSV).get_json()
    worker.work()
    for bad in ("sport", "sport:2", "sport:nan", "weather:0.5", "sport:0.1;ads:0.2"):
        assert_problem(client.get(f"{job['links']['csv']}?thresholds={bad}"), 422)
    assert client.get(f"{job['links']['results']}?thresholds=sport:0.95").get_json()["items"][0]["assigned"] == ["ads"]


def test_methods_that_are_not_there_are_405(client: FlaskClient) -> None:
    response = client.put(f"{V1}/jobs")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_pages_of_other_sites_cannot_post(client: FlaskClient) -> None:
    response = client.post(f"{V1}/classifications", json={"text": "a"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert_problem(response, 403)
    assert client.get(f"{V1}/classifications", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_the_document_describes_every_route_of_the_interface(client: FlaskClient, app: Any) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(V1) and not rule.rule.endswith("openapi.json")
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert routes <= described
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])


def test_every_answer_carries_the_policy(client: FlaskClient) -> None:
    for path in ("/", "/docs", f"{V1}/jobs", "/nothing", f"{V1}/nothing"):
        headers = client.get(path, headers={"Accept": "text/html"}).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    docs = client.get("/docs").text
    assert "<script>" not in docs
    assert "http" not in docs.replace("http-equiv", "")
    for file in ("css/swagger-ui.css", "js/swagger-ui-bundle.js", "docs.js"):
        with client.get(f"/docs/{file}") as response:
            assert response.status_code == 200
            assert response.data
    assert client.get("/docs/../app.py").status_code == 404


def test_a_database_that_is_away_is_503(settings: Settings) -> None:
    from dataclasses import replace

    away = create_app(replace(settings, database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    client = away.test_client()
    for response in (client.get(f"{V1}/jobs"), client.post(f"{V1}/classifications", json={"text": "a"})):
        assert_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"]
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    away.extensions["rubrika"].bell.close()


def test_a_database_that_does_not_answer_is_told_in_time(client: FlaskClient, worker: Worker, engine: Engine) -> None:
    """It holds the connection and says nothing, as a stopped process does; here a lock is not given."""
    assert client.get("/readyz").status_code == 200
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE workers, chunks IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        told = client.get("/readyz")
        assert told.status_code == 503
        assert "not answered" in told.get_json()["checks"]["postgres"]["detail"]
        # Who asks again is told at once, and takes no further connection.
        assert [client.get("/readyz").status_code for _ in range(20)] == [503] * 20
        assert "rubrika_postgres_up 0.0" in client.get("/metrics").text
        assert "rubrika_redis_up 1.0" in client.get("/metrics").text
        assert time.monotonic() - began < 25
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        assert holder.execute(waiting).scalar_one() == 2
        holder.rollback()
    wait_until(lambda: client.get("/readyz").get_json()["checks"]["postgres"]["ok"], what="the answer after the lock")
    assert "rubrika_postgres_up 1.0" in client.get("/metrics").text


def test_a_redis_that_is_away_does_not_refuse_a_text(settings: Settings) -> None:
    from dataclasses import replace

    away = create_app(replace(settings, redis_url="redis://127.0.0.1:1/0"))
    client = away.test_client()
    assert client.post(f"{V1}/classifications", json={"text": "a"}).status_code == 202
    assert upload(client, CSV).status_code == 202
    context = away.extensions["rubrika"]
    context.engine.dispose()
    context.bell.close()
