"""Processes that are started beside `rubrika up` find its servers in the data folder, and start none of their own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cli.servers import joined
from jobs import accepting, fleet
from jobs.database import make_engine, run
from jobs.errors import RubrikaError
from jobs.migrate import upgrade
from jobs.records import NewJob
from jobs.settings import PROJECT_ROOT, Settings
from jobs.states import JobKind, JobState, Lane
from local.postgres import EmbeddedPostgres
from local.valkey import EmbeddedValkey
from tests.integration.store_support import job_of, posts
from tests.support import environment_outside, wait_until
from tests.tiny_model import make_tiny_model


@contextmanager
def serving(folder: Path) -> Iterator[tuple[EmbeddedPostgres, EmbeddedValkey]]:
    """The servers that `rubrika up` would run on this folder."""
    postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
    try:
        postgres.start()
        valkey.start()
        yield postgres, valkey
    finally:
        valkey.stop()
        postgres.stop()


def command(folder: Path, name: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", name],
        cwd=PROJECT_ROOT,
        env={**environment_outside(), "RUBRIKA_DATA_DIR": str(folder), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(folder: Path, name: str) -> str:
    with command(folder, name) as process:
        said = process.communicate(timeout=120)[1]
    assert (process.returncode, said.count("\n")) == (2, 1), said
    return said


def test_servers_that_are_not_named_are_those_of_the_data_folder(
    settings: Settings, server_folder: Path, postgres_url: str, redis_url: str
) -> None:
    bare = replace(settings, database_url="", redis_url="", data_dir=server_folder)
    found = joined(bare)
    assert (found.database_url, found.redis_url) == (postgres_url, redis_url)
    assert replace(found, database_url="", redis_url="") == bare
    # What is named stays, and is not asked for: `rubrika up` may bring one server of the two.
    elsewhere = "postgresql+psycopg2://nobody@127.0.0.1:1/none"
    assert joined(replace(bare, database_url=elsewhere)) == replace(bare, database_url=elsewhere, redis_url=redis_url)
    both = replace(bare, database_url=elsewhere, redis_url="redis://127.0.0.1:1/0", data_dir=Path("/nowhere"))
    assert joined(both) is both


def test_where_nothing_runs_nothing_is_made(settings: Settings, open_folder: Path) -> None:
    folder = open_folder / "data"
    said = refused(folder, "sweeper")
    assert said.startswith(f"rubrika: No service runs on {folder}: start it (`make up`)")
    for named in ({"redis_url": ""}, {"database_url": ""}):
        with pytest.raises(RubrikaError, match="No service runs on"):
            joined(replace(settings, data_dir=folder, **named))
    assert not folder.exists()


def test_a_worker_on_trial_joins_what_runs_and_leaves_it_as_it_is(
    settings: Settings, open_folder: Path, tmp_path: Path
) -> None:
    model = make_tiny_model(tmp_path / "model")
    with serving(open_folder) as (postgres, valkey):
        upgrade(postgres.url)
        engine = make_engine(postgres.url, pool_size=1, application="tests")
        trial = {"RUBRIKA_MODEL": str(model), "RUBRIKA_TRIAL": "1", "RUBRIKA_THREADS": "1", "RUBRIKA_DEVICE": "cpu"}
        with command(open_folder, "worker", **trial) as worker:

            def workers() -> list[fleet.WorkerState]:
                assert worker.poll() is None, worker.stderr and worker.stderr.read()
                return run(engine, fleet.workers)

            [signed_on] = wait_until(workers, 120, what="the worker to sign on", every=0.1)
            assert signed_on.trial
            assert not [known for known in run(engine, fleet.models) if known.active]
            job, _ = accepting.add_job(
                engine,
                NewJob("me", JobKind.FILE),
                posts(3),
                lane=Lane.BULK,
                chunk_rows=2,
                model_id=signed_on.model_id,
            )
            wait_until(lambda: job_of(engine, job).state is JobState.SUCCEEDED, 60, what="the rows", every=0.1)
            worker.terminate()
            assert worker.wait(60) == 0
        assert run(engine, fleet.workers) == []
        engine.dispose()
        assert not (open_folder / "lock").exists()
        assert postgres.is_ready()
        assert valkey.is_ready()
        bare = replace(settings, database_url="", redis_url="", data_dir=open_folder)
        valkey.stop()
        with pytest.raises(RubrikaError, match="No service runs on"):
            joined(bare)
    # Its files are there, and nobody serves them.
    with pytest.raises(RubrikaError, match="No service runs on"):
        joined(bare)
    assert not postgres.is_ready()
