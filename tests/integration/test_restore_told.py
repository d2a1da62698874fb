"""A backup comes back into containers by the very commands that docs/operations.md tells.

What `docker` and `kubectl` are told to run beside Postgres runs here, by the programs of the embedded one. The rest of
what they are told is for a machine that has them.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, text

from jobs.database import make_engine, run
from jobs.migrate import differences, upgrade
from jobs.settings import PROJECT_ROOT, Settings
from local.backup import backup
from local.binaries import postgres_wheel
from local.postgres import EmbeddedPostgres
from tests.integration.store_support import add
from tests.support import chapter, code_blocks

CHAPTER = chapter((PROJECT_ROOT / "docs" / "operations.md").read_text(), "Backup and restore")
BLOCKS = [block for block in code_blocks(CHAPTER, "sh") if "pg_restore -U" in block]
STAND_IN = """#!/bin/sh
case "$*" in
    "compose exec "*) while [ "$1" != postgres ]; do shift; done; shift; exec "$@" ;;
    *" exec "*) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;;
esac
"""

ways = pytest.mark.parametrize("block", BLOCKS, ids=["compose", "kubernetes"])


@pytest.fixture
def dump(settings: Settings, engine: Engine, tmp_path: Path) -> Path:
    """A backup of a service with two jobs, under the name that operators are told."""
    add(engine)
    add(engine)
    backup(settings, tmp_path / "rubrika.dump")
    return tmp_path / "rubrika.dump"


@pytest.fixture
def server(open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """What the image of PostgreSQL makes: a database and a user, both by the name of `rubrika`."""
    made = EmbeddedPostgres(open_folder, options={"fsync": "off", "full_page_writes": "off"})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def served(server: EmbeddedPostgres) -> Iterator[Engine]:
    made = make_engine(server.url, pool_size=1, application="tests")
    yield made
    made.dispose()


def do(block: str, server: EmbeddedPostgres, folder: Path) -> subprocess.CompletedProcess[str]:
    """Do what operators are told, in the folder with the dump."""
    for name in ("docker", "kubectl"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    address = psycopg2.extensions.parse_dsn(server.dsn_of("rubrika"))
    programs = postgres_wheel().program("postgres").parent
    return subprocess.run(
        # As somebody who pastes it into a shell: what is to end with a step that fails must say so itself.
        ["bash", "-c", block],
        cwd=folder,
        env={
            "PATH": os.pathsep.join((str(folder), str(programs), os.defpath)),
            "PGHOST": address["host"],
            "PGPASSWORD": address["password"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def jobs_in(engine: Engine) -> int:
    return int(run(engine, lambda c: c.execute(text("SELECT count(*) FROM jobs")).scalar_one()))


def test_both_kinds_of_containers_are_told_the_same() -> None:
    assert [block.split()[0] for block in BLOCKS] == ["docker", "kubectl"]
    scripts = [re.findall(r"sh -ec '([^']*)' < rubrika\.dump$", block, re.MULTILINE) for block in BLOCKS]
    assert [len(found) for found in scripts] == [1, 1]
    assert scripts[0] == scripts[1]
    # On a new machine Postgres still makes its files when it is told to start, and is waited for.
    assert "up --detach --wait postgres\n" in BLOCKS[0]


@ways
@pytest.mark.parametrize("accepted", [None, 0, 1], ids=["without tables", "without a job", "with a job"])
def test_what_was_there_makes_way_and_can_be_had_again(
    block: str, accepted: int | None, dump: Path, server: EmbeddedPostgres, served: Engine
) -> None:
    if accepted is not None:
        upgrade(server.url)
        for _ in range(accepted):
            add(served)
        # A connection that somebody has left open is in nobody's way.
        assert jobs_in(served) == accepted
    done = do(block, server, dump.parent)
    assert "error" not in done.stderr.lower()
    served.dispose()
    # As the migrations of the next start do.
    upgrade(server.url)
    assert run(served, differences) == []
    assert jobs_in(served) == 2
    if accepted is not None:
        assert (dump.parent / "before.dump").rename(dump) == dump
        done = do(block, server, dump.parent)
        assert "error" not in done.stderr.lower()
        served.dispose()
        assert jobs_in(served) == accepted


@ways
def test_a_dump_that_is_not_whole_drops_nothing(
    block: str, dump: Path, server: EmbeddedPostgres, served: Engine
) -> None:
    upgrade(server.url)
    add(served)
    whole = dump.read_bytes()
    dump.write_bytes(whole[: len(whole) // 2])
    failed = do(block, server, dump.parent)
    assert "pg_restore: error" in failed.stderr
    assert jobs_in(served) == 1
    # And the next try finds nothing in its way.
    dump.write_bytes(whole)
    assert "error" not in do(block, server, dump.parent).stderr.lower()
    served.dispose()
    assert jobs_in(served) == 2
    served.dispose()
    assert jobs_in(served) == 2


@ways
def test_what_cannot_be_dumped_is_not_dropped(block: str, dump: Path, server: EmbeddedPostgres, served: Engine) -> None:
    upgrade(server.url)
    add(served)
    (dump.parent / "before.dump").mkdir()
    assert "before.dump" in do(block, server, dump.parent).stderr
    assert jobs_in(served) == 1
