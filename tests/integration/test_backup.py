"""A backup holds everything, and a database that was restored from it serves and goes on."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from api.app import create_app
from cli.main import main
from jobs import answers, explaining, keys, sweeping
from jobs.answers import Answer
from jobs.database import make_engine, run
from jobs.errors import RubrikaError
from jobs.migrate import differences, upgrade
from jobs.records import Piece
from jobs.settings import PROJECT_ROOT, Settings
from local.backup import backup, restore
from local.postgres import EmbeddedPostgres
from tests.integration.api_support import CSV, V1, Worker, upload
from tests.integration.keys_support import new_key
from tests.integration.store_support import take
from tests.support import environment_outside


@pytest.fixture
def dump(client: FlaskClient, worker: Worker, settings: Settings, engine: Engine, tmp_path: Path) -> Path:
    """A backup of a service with one file computed and another in the hands of a worker, with a text and why it is what
    it is, with what people said of a row and of the text, and with an answer in the cache."""
    first = upload(client, CSV, "first.csv").get_json()
    posted = client.post(f"{V1}/classifications", json={"text": "Сегодня матч", "explain": True}).get_json()
    worker.work()
    explained = run(engine, lambda c: explaining.claim(c, model_id=worker.model, lease_seconds=30))
    assert explained is not None
    weights = [[0.5], [0.25], [-0.125]]
    assert run(engine, lambda c: explaining.finish(c, explained, [Piece("doc_text", 8, 12)], weights))
    for judged in (f"{first['links']['self']}/rows/2", f"{V1}/classifications/{posted['id']}"):
        assert client.post(f"{judged}/feedback", json={"topics": ["ads"]}).status_code == 200
    run(engine, lambda c: answers.remember(c, worker.model, {bytes(answers.DIGEST_BYTES): Answer([0.5] * 3, False)}))
    upload(client, CSV, "second.csv")
    assert run(engine, lambda c: take(c, seconds=0)) is not None
    file = tmp_path / "rubrika.dump"
    assert backup(settings, file) == file.stat().st_size > 0
    return file


@pytest.fixture
def elsewhere(settings: Settings, empty_database: str) -> Settings:
    return replace(settings, database_url=empty_database)


def contents(client: FlaskClient) -> list[Any]:
    jobs = client.get(f"{V1}/jobs").get_json()["items"]
    volatile = ("queue_position", "rows_per_second", "eta_seconds")
    return [
        (
            {name: value for name, value in job.items() if name not in volatile},
            [client.get(job["links"]["csv"]).text, client.get(job["links"]["results"]).get_json()],
        )
        for job in jobs
    ]


def texts(client: FlaskClient) -> Any:
    return client.get(f"{V1}/classifications").get_json()["items"]


def count(engine: Engine, table: str) -> int:
    return int(run(engine, lambda c: c.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()))


@pytest.fixture
def restored(dump: Path, elsewhere: Settings) -> Iterator[Any]:
    restore(elsewhere, dump)
    app = create_app(elsewhere)
    yield app
    app.extensions["rubrika"].bell.close()
    app.extensions["rubrika"].engine.dispose()


def test_what_was_restored_serves_and_goes_on(client: FlaskClient, restored: Any, elsewhere: Settings) -> None:
    again = restored.test_client()
    assert contents(again) == contents(client)
    assert len(contents(again)) == 2
    _, (_, rows) = contents(again)[1]
    assert [row["feedback"] for row in rows["items"]] == [None, ["ads"], None]
    assert texts(again) == texts(client)
    [posted] = texts(again)
    assert posted["feedback"] == ["ads"]
    assert posted["explanation"]["sport"] == [{"field": "doc_text", "start": 8, "end": 12, "weight": 0.5}]
    worker = Worker(elsewhere, restored.extensions["rubrika"])
    # What a worker had in hand comes back by itself, and new work is taken.
    swept = run(restored.extensions["rubrika"].engine, sweeping.sweep)
    assert swept is not None
    assert swept.requeued == 1
    assert upload(again, CSV, "third.csv").status_code == 202
    assert worker.work() == 6
    worker.close()
    assert {job["status"] for job, _ in contents(again)} == {"succeeded"}
    assert run(restored.extensions["rubrika"].engine, differences) == []


def test_a_backup_is_for_its_owner_alone_and_has_no_cache(dump: Path, engine: Engine, restored: Any) -> None:
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    assert count(engine, "answers") == 1
    assert count(restored.extensions["rubrika"].engine, "answers") == 0


def test_a_backup_brings_back_no_session_and_says_that_it_brings_back_keys(
    settings: Settings, engine: Engine, elsewhere: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("anna", "leaked", "gone"):
        new_key(engine, name)
    run(engine, lambda c: keys.revoke(c, "gone"))
    session = run(
        engine, lambda c: keys.begin_session(c, next(key.id for key in keys.all_keys(c) if key.name == "anna"))
    )
    file = tmp_path / "rubrika.dump"
    backup(settings, file)
    run(engine, lambda c: keys.revoke(c, "leaked"))
    monkeypatch.setenv("DATABASE_URL", elsewhere.database_url)
    told = CliRunner().invoke(main, ["restore", str(file)])
    assert told.exit_code == 0, told.output
    assert "2 keys open it" in told.stderr
    other = make_engine(elsewhere.database_url, pool_size=1, application="tests")
    assert run(other, lambda c: keys.holder_of_session(c, session, 12)) is None
    assert {key.name for key in run(other, keys.all_keys) if key.revoked_at is None} == {"anna", "leaked"}
    other.dispose()


def test_a_freshly_migrated_database_may_be_filled(dump: Path, elsewhere: Settings) -> None:
    upgrade(elsewhere.database_url)
    restore(elsewhere, dump)


def test_nothing_is_overwritten(dump: Path, settings: Settings, client: FlaskClient, app: Any) -> None:
    before = contents(client)
    with pytest.raises(RubrikaError, match="is using this database"):
        restore(settings, dump)
    app.extensions["rubrika"].engine.dispose()
    with pytest.raises(RubrikaError, match="is not empty"):
        restore(settings, dump)
    assert contents(client) == before


def test_what_is_no_backup_is_refused_before_anything_is_dropped(
    dump: Path, elsewhere: Settings, tmp_path: Path
) -> None:
    upgrade(elsewhere.database_url)
    broken = tmp_path / "broken.dump"
    broken.write_bytes(dump.read_bytes()[:100])
    for file in (tmp_path / "missing", Path(__file__), broken):
        with pytest.raises(RubrikaError):
            restore(elsewhere, file)
    engine = make_engine(elsewhere.database_url, pool_size=1, application="tests")
    assert run(engine, differences) == []
    engine.dispose()


def test_a_failed_backup_leaves_the_last_one(dump: Path, settings: Settings) -> None:
    before = dump.read_bytes()
    away = replace(settings, database_url="postgresql+psycopg2://n:secret@127.0.0.1:1/n")
    with pytest.raises(RubrikaError, match="pg_dump") as caught:
        backup(away, dump)
    assert "secret" not in str(caught.value)
    assert dump.read_bytes() == before
    assert list(dump.parent.glob(".rubrika.dump*")) == []
    with pytest.raises(RubrikaError, match="cannot be written"):
        backup(settings, dump.parent / "nowhere" / "x")


def rubrika(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=PROJECT_ROOT,
        env={**environment_outside(), "RUBRIKA_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_embedded_database_by_the_command_line(dump: Path, open_folder: Path, tmp_path: Path) -> None:
    """It is started for that, and stopped again; while it runs it is used as it is."""
    folder = open_folder / "data"
    nothing = rubrika(folder, "backup", str(tmp_path / "none.dump"))
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
    assert not (folder / "postgres").exists()
    assert rubrika(folder, "restore", str(dump)).returncode == 0
    second = tmp_path / "second.dump"
    assert rubrika(folder, "backup", str(second)).returncode == 0
    server = EmbeddedPostgres(folder)
    assert not server.is_ready()
    server.start()
    with closing(psycopg2.connect(server.dsn_of("rubrika"))) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM jobs")
        assert cursor.fetchone() == (3,)
    server.stop()
    assert "is not empty" in rubrika(folder, "restore", str(second)).stderr
