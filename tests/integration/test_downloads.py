"""A download whose query fails is a problem like any other, in every format and of everything that there is."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.resources import histories
from jobs import exporting, exporting_parquet, exporting_xlsx
from jobs.errors import UnavailableError
from tests.integration.api_support import CSV, V1, Worker, assert_problem, upload

FORMATS = (".csv", ".ndjson", ".json", ".xlsx", ".parquet")


def downloads(app: Any, job: str) -> Iterator[str]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(V1) and rule.rule.endswith(FORMATS) and not rule.rule.endswith("openapi.json"):
            yield rule.rule.replace("<id>", job)


def test_a_database_that_fails_is_503_before_anything_is_sent(
    app: Any, client: FlaskClient, worker: Worker, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    job = upload(client, CSV).get_json()["id"]
    client.post(f"{V1}/classifications", json={"text": "матч"})
    worker.work()
    found = list(downloads(app, job))
    assert len(found) == 9
    for address in found:
        with client.get(address) as answer:
            assert (answer.status_code, bool(answer.data)) == (200, True), address

    def broken(*_: object, **__: object) -> Any:
        raise UnavailableError("The database cannot be reached at the moment.")

    def broken_copy(*_: object, **__: object) -> Iterator[Any]:
        """As the real one, it has asked nothing before its first line is."""
        yield from ()
        broken()

    for module in (exporting, exporting_parquet, exporting_xlsx):
        monkeypatch.setattr(module, "copy_out", broken_copy)
    for name in ("list_texts", "list_files"):
        monkeypatch.setattr(histories, name, broken)
    for address in found:
        for options in ("", "?bom=0") if address.endswith(".csv") else ("",):
            with subtests.test(address + options):
                answer = client.get(address + options)
                assert_problem(answer, 503, "unavailable")
                assert "Content-Disposition" not in answer.headers
