"""The embedded PostgreSQL and Valkey themselves, without anything of Rubrika on top."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg2
import pytest
from kombu import Connection

from jobs.errors import StartError
from local.binaries import Wheel, postgres_wheel, usable_by, valkey_wheel
from local.folders import make_socket_folder, socket_folder
from local.postgres import EmbeddedPostgres
from local.processes import command_line, runs_as, server_identity
from local.supervisor import Supervisor
from local.valkey import EmbeddedValkey
from tests.support import wait_until

only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the servers change their user for root alone")


@pytest.fixture
def server(open_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, started."""
    made = EmbeddedPostgres(open_folder / "data")
    made.start()
    yield made
    made.stop()


def ask(server: EmbeddedPostgres, statement: str) -> Any:
    """Run a statement in a transaction of its own; returns the first value of the first row, if there is one."""
    with closing(psycopg2.connect(server.dsn_of("rubrika"))) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_it_is_the_server_that_was_meant(server: EmbeddedPostgres, open_folder: Path) -> None:
    assert ask(server, "SHOW server_version_num").startswith("18")
    assert ask(server, "SHOW server_encoding") == "UTF8"
    assert ask(server, "SHOW data_checksums") == "on"
    assert ask(server, "SHOW synchronous_commit") == "on"
    assert ask(server, "SHOW listen_addresses") == ""
    assert ask(server, "SELECT lower('ЁЖИК') || ('ёж' ILIKE 'ЁЖ')::text") == "ёжикtrue"
    password = open_folder / "data" / "postgres" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(server.dsn_of("rubrika").replace(password.read_text(), "guess"))


def test_data_outlives_a_stop(server: EmbeddedPostgres) -> None:
    ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
    url = server.url
    server.stop()
    server.start()
    assert server.url == url
    assert ask(server, "SELECT n FROM kept") == 7


def test_the_data_folder_may_be_long_and_have_spaces(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / ("рубрика, с пробелом и 'кавычкой' " + "x" * 140) / ("y" * 60))
    server.start()
    try:
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_a_pid_file_of_another_life_is_no_obstacle(server: EmbeddedPostgres, open_folder: Path) -> None:
    server.stop()
    # As after a restart of a container: the id in the file belongs to a program that has nothing to do with it.
    (open_folder / "data" / "postgres" / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n/elsewhere\n")
    server.start()
    assert ask(server, "SELECT 1") == 1


def test_a_lock_of_another_life_beside_the_socket_is_no_obstacle(server: EmbeddedPostgres, open_folder: Path) -> None:
    server.stop()
    identity = server_identity()
    # The server takes a lock for its own while any process of its user has that id.
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=identity.uid if identity else None) as other:
        (open_folder / "data" / "postgres" / "cluster" / "postmaster.pid").write_text(f"{other.pid}\n/elsewhere\n")
        sockets = make_socket_folder(open_folder / "data", "postgres", identity)
        lock = sockets / ".s.PGSQL.5432.lock"
        lock.write_text(f"{other.pid}\n/elsewhere\n")
        lock.chmod(0o644)
        server.start()
        assert ask(server, "SELECT 1") == 1
        assert other.poll() is None


class SlowPostgres(EmbeddedPostgres):
    """A server that is still replaying its log when the time of a start is over, and goes on when it was asked then."""

    SECONDS = 0.3

    def __init__(self, folder: Path) -> None:
        self._go_on = folder / "go-on"
        # As if segments of the log had to be fetched first.
        wait = f"until [ -e {self._go_on} ]; do sleep 0.02; done; false"
        options = {"wal_level": "replica", "restore_command": wait}
        before = EmbeddedPostgres(folder / "data", options)
        before.start()
        before.stop()
        super().__init__(folder / "data", options)
        self.asked_late = 0
        (folder / "data" / "postgres" / "cluster" / "recovery.signal").touch()
        self._begun = monotonic()

    def is_ready(self) -> bool:
        ready = super().is_ready()
        if not ready and self.is_recovering() and monotonic() - self._begun > 2 * self.SECONDS:
            self.asked_late += 1
            self._go_on.touch()
        return ready


def test_a_server_that_recovers_is_given_the_time(open_folder: Path) -> None:
    server = SlowPostgres(open_folder)
    server.start(SlowPostgres.SECONDS)
    try:
        assert server.asked_late > 0
        assert not server.is_recovering()
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_the_supervisor_gives_a_server_that_recovers_the_time(open_folder: Path) -> None:
    server = SlowPostgres(open_folder)
    with Supervisor(open_folder / "logs", lambda _: None) as supervisor:
        supervisor.start(server.prepare())
        supervisor.wait(server.is_ready, SlowPostgres.SECONDS, "PostgreSQL", at_work=server.is_recovering)
        assert server.asked_late > 0
        assert ask(server, "SELECT 1") == 1
    server.clean_up()


def test_a_server_left_running_is_stopped_first(server: EmbeddedPostgres, open_folder: Path) -> None:
    left = server.postmaster_pid()
    assert left is not None
    again = EmbeddedPostgres(open_folder / "data")
    again.start()
    try:
        assert again.postmaster_pid() != left
        assert command_line(left) is None
        assert ask(again, "SELECT 1") == 1
    finally:
        again.stop()


def test_a_first_start_that_was_killed_is_begun_again(open_folder: Path) -> None:
    half_made = open_folder / "data" / "postgres.new" / "cluster"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(open_folder / "data")
    server.start()
    try:
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_files_of_another_version_are_refused(server: EmbeddedPostgres, open_folder: Path) -> None:
    server.stop()
    (open_folder / "data" / "postgres" / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartError, match=r"are of PostgreSQL 17, and this Rubrika runs PostgreSQL 18"):
        server.start()


def test_a_killed_server_comes_back_with_what_was_committed(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "data")
    with Supervisor(open_folder / "logs", lambda _: None) as supervisor:
        supervisor.start(server.prepare())
        supervisor.wait(server.is_ready, 60, "PostgreSQL")
        ask(server, "CREATE TABLE kept AS SELECT 7 AS n")
        killed = server.postmaster_pid()
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        supervisor.wait(lambda: server.postmaster_pid() != killed and server.is_ready(), 60, "PostgreSQL again")
        assert ask(server, "SELECT n FROM kept") == 7
    server.clean_up()


@only_as_root
def test_a_folder_that_nobody_can_reach_is_told_in_a_sentence(open_folder: Path) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StartError, match=r"nobody.*cannot reach .*: set RUBRIKA_DATA_DIR") as raised:
        EmbeddedPostgres(closed / "data").start()
    assert "\n" not in str(raised.value)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@only_as_root
@pytest.mark.parametrize("wheel", [postgres_wheel(), valkey_wheel()], ids=["postgres", "valkey"])
def test_programs_that_nobody_can_reach_are_copied(open_folder: Path, wheel: Wheel) -> None:
    closed = open_folder / "closed"
    store = open_folder / "store"
    hidden = usable_by(_copied(wheel, closed), None)
    closed.chmod(0o700)
    identity = server_identity()
    usable = usable_by(hidden, identity, store)
    assert usable.root == store / f"{wheel.name}-{wheel.version}"
    assert all(runs_as(identity, str(usable.root / program), "--version") for program in wheel.programs)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    made = usable.root.stat().st_ino
    assert usable_by(hidden, identity, store).root.stat().st_ino == made


def test_a_wheel_without_its_program_is_named(open_folder: Path) -> None:
    empty = Wheel("some-wheel", "1.0", open_folder, ("bin",), ("bin/server",))
    with pytest.raises(StartError, match=r"The wheel some-wheel 1\.0 lacks bin/server"):
        usable_by(empty, None)


def test_a_socket_folder_of_somebody_else_is_refused(open_folder: Path) -> None:
    folder = socket_folder(open_folder, "postgres")
    folder.parent.symlink_to(open_folder)
    try:
        with pytest.raises(StartError, match="was made by somebody else"):
            make_socket_folder(open_folder, "postgres", server_identity())
    finally:
        folder.parent.unlink()


def test_nothing_is_left_beside_the_data_folder(server: EmbeddedPostgres, open_folder: Path) -> None:
    folder = socket_folder(open_folder / "data", "postgres")
    assert folder.is_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server.stop()
    assert not folder.parent.exists()


def test_celery_reaches_the_valkey_at_its_address(open_folder: Path) -> None:
    server = EmbeddedValkey(open_folder / "data with spaces")
    server.start()
    try:
        with Connection(server.url) as connection, closing(connection.SimpleQueue("bells")) as queue:
            queue.put({"work": "there is"})
            assert queue.get(timeout=5).payload == {"work": "there is"}
    finally:
        server.stop()


def test_a_valkey_left_running_is_stopped_first(open_folder: Path) -> None:
    left, again = EmbeddedValkey(open_folder), EmbeddedValkey(open_folder)
    left.start()
    pid_file = socket_folder(open_folder, "valkey") / "valkey.pid"
    wait_until(pid_file.exists, what="the pid file")
    pid = int(pid_file.read_text())
    again.start()
    try:
        assert command_line(pid) is None
        assert again.is_ready()
    finally:
        again.stop()
        left.stop()


def _copied(wheel: Wheel, folder: Path) -> Wheel:
    """The same wheel as if it were installed below another folder."""
    for part in wheel.parts:
        if (wheel.root / part).is_dir():
            shutil.copytree(wheel.root / part, folder / part, symlinks=True)
    return Wheel(wheel.name, wheel.version, folder, wheel.parts, wheel.programs)
