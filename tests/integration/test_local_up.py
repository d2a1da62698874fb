"""The whole of one-machine mode with real servers; Rubrika's own processes are dummies here."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from jobs.settings import PROJECT_ROOT
from local.folders import socket_folder
from local.postgres import EmbeddedPostgres
from local.processes import command_line
from local.valkey import EmbeddedValkey
from tests.integration.local_dummies import process_id
from tests.support import environment_outside, free_port, wait_until

READY_SECONDS = 60


class Up:
    """`run_up` in a process of its own, on a data folder below `folder`."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = int(env.get("RUBRIKA_PORT") or free_port())
        model = folder / "model"
        model.mkdir(exist_ok=True)
        (model / "rubrika.json").write_text("{}")
        self.env = {
            **environment_outside(),
            "RUBRIKA_DATA_DIR": str(self.data_dir),
            "RUBRIKA_MODEL": str(model),
            "RUBRIKA_PORT": str(self.port),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "DUMMY_FOLDER": str(folder),
            **env,
        }
        self.out = folder / "out"
        self.err = folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.local_dummies"],
                cwd=PROJECT_ROOT,
                env=self.env,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait for the line that says so."""

        def ready() -> bool:
            assert self.process.poll() is None, self.err.read_text()
            return "готова" in self.out.read_text()

        wait_until(ready, READY_SECONDS, "the ready line")

    def interrupted(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def refused(self) -> str:
        """Wait for the end of a start that cannot succeed, and return its one sentence."""
        assert self.process.wait(60) == 2, self.err.read_text()
        assert self.out.read_text() == ""
        lines = self.err.read_text().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    def descendants(self) -> dict[str, int]:
        """The process ids of everything that it runs, by name."""
        postgres = EmbeddedPostgres(self.data_dir).postmaster_pid()
        valkey = socket_folder(self.data_dir, "valkey") / "valkey.pid"
        names = {name: process_id(self.folder, name) for name in ("api", "worker", "sweeper")}
        names["postgres"] = postgres
        names["valkey"] = int(valkey.read_text()) if valkey.exists() else None
        return {name: pid for name, pid in names.items() if pid is not None}


@contextmanager
def started(folder: Path, **env: str) -> Iterator[Up]:
    """Start it, and make sure that it is gone at the end whatever happens."""
    up = Up(folder, **env)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.terminate()
            up.process.wait(60)


def test_it_starts_says_so_and_stops_in_order(open_folder: Path) -> None:
    with started(open_folder) as up:
        up.wait_ready()
        assert up.out.read_text() == (
            f"Рубрика готова: http://127.0.0.1:{up.port} (Ctrl-C останавливает) · Rubrika is ready\n"
        )
        running = up.descendants()
        assert set(running) == {"api", "worker", "sweeper", "postgres", "valkey"}
        assert all(command_line(pid) for pid in running.values())
        database_url, redis_url = (open_folder / "urls").read_text().split("\n")
        assert database_url == EmbeddedPostgres(up.data_dir).url
        assert redis_url == EmbeddedValkey(up.data_dir).url
        assert up.interrupted() == 0
        assert not [name for name, pid in running.items() if command_line(pid)]
        assert (open_folder / "stopped").read_text().split() == ["worker", "sweeper"]
        assert up.out.read_text().count("\n") == 2
        assert up.err.read_text() == ""
        assert not socket_folder(up.data_dir, "postgres").parent.exists()


def test_its_server_has_connections_for_every_pool(open_folder: Path) -> None:
    with started(open_folder, RUBRIKA_API_PROCESSES="4", RUBRIKA_API_THREADS="64") as up:
        up.wait_ready()
        address = EmbeddedPostgres(up.data_dir).dsn_of("rubrika")
        with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW max_connections")
            assert cursor.fetchone() == (str(4 * (64 + 4) + 8 + 20),)
        assert up.interrupted() == 0


def test_killed_outright_it_leaves_nothing_running_and_starts_again(open_folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone")
    with started(open_folder) as up:
        up.wait_ready()
        running = up.descendants()
        assert len(running) == 5
        up.process.kill()
        up.process.wait()
        wait_until(lambda: not any(command_line(pid) for pid in running.values()), 30, "the end of all children")
    with started(open_folder) as again:
        again.wait_ready()
        assert again.interrupted() == 0


def test_a_server_that_is_killed_is_started_again(open_folder: Path) -> None:
    with started(open_folder) as up:
        up.wait_ready()
        first = up.descendants()
        for name in ("postgres", "valkey", "api"):
            os.kill(first[name], signal.SIGKILL)
        wait_until(
            lambda: all(
                up.descendants().get(name, first[name]) != first[name] for name in ("postgres", "valkey", "api")
            ),
            30,
            "new processes",
        )
        wait_until(EmbeddedPostgres(up.data_dir).is_ready, 30, "PostgreSQL")
        wait_until(EmbeddedValkey(up.data_dir).is_ready, 30, "Valkey")
        assert up.interrupted() == 0
        assert "postgres was ended by SIGKILL; it is started again now." in up.err.read_text()


def test_a_second_start_on_the_same_folder_names_the_first(open_folder: Path) -> None:
    with started(open_folder) as up:
        up.wait_ready()
        second_notes = open_folder / "second"
        second_notes.mkdir()
        with started(second_notes, RUBRIKA_DATA_DIR=str(up.data_dir)) as second:
            assert second.refused() == (
                f"rubrika: Rubrika already runs on {up.data_dir} "
                f"(process {up.process.pid}, http://127.0.0.1:{up.port})."
            )
        assert all(command_line(pid) for pid in up.descendants().values())


def test_servers_of_ones_own_are_used(open_folder: Path, database: str, redis_url: str) -> None:
    with started(open_folder, DATABASE_URL=database, REDIS_URL=redis_url) as up:
        up.wait_ready()
        assert (open_folder / "urls").read_text().split("\n") == [database, redis_url]
        assert not (up.data_dir / "postgres").exists()
        assert not socket_folder(up.data_dir, "valkey").exists()
        assert up.interrupted() == 0


def test_one_server_of_ones_own_is_used_beside_an_embedded_one(open_folder: Path, redis_url: str) -> None:
    with started(open_folder, REDIS_URL=redis_url) as up:
        up.wait_ready()
        assert (open_folder / "urls").read_text().split("\n")[1] == redis_url
        assert set(up.descendants()) == {"api", "worker", "sweeper", "postgres"}
        assert up.interrupted() == 0


def test_without_workers_of_its_own_it_does_not_wait_for_one(open_folder: Path, database: str, redis_url: str) -> None:
    with started(open_folder, DATABASE_URL=database, REDIS_URL=redis_url, RUBRIKA_WORKERS="0") as up:
        up.wait_ready()
        assert set(up.descendants()) == {"api", "sweeper"}
        assert up.interrupted() == 0


def test_a_taken_port_is_one_sentence(open_folder: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with started(open_folder, RUBRIKA_PORT=str(port)) as up:
            assert up.refused().startswith(f"rubrika: Port {port} of 127.0.0.1 is taken by another program")


def test_a_missing_model_is_one_sentence(open_folder: Path) -> None:
    missing = open_folder / "elsewhere"
    with started(open_folder, RUBRIKA_MODEL=str(missing)) as up:
        assert up.refused().startswith(f"rubrika: There is no model in {missing} (it has no rubrika.json)")


def test_a_service_of_workers_on_trial_alone_is_one_sentence(open_folder: Path) -> None:
    with started(open_folder, RUBRIKA_TRIAL="1") as up:
        said = up.refused()
        assert said.startswith("rubrika: With RUBRIKA_TRIAL=1 nobody would compute new texts")
        assert not up.data_dir.exists()


def test_a_disk_without_room_is_one_sentence(open_folder: Path) -> None:
    with started(open_folder, DUMMY_FREE_BYTES="199999999") as up:
        said = up.refused()
        assert said.startswith(f"rubrika: The disk of {up.data_dir} is full (199999999 bytes are free")
        assert not (up.data_dir / "postgres").exists()


def test_a_disk_that_fills_up_during_the_start_is_one_sentence(open_folder: Path) -> None:
    small = open_folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        with started(open_folder, RUBRIKA_DATA_DIR=str(small / "data")) as up:
            said = up.refused()
            assert "No space left on device" in said
            assert str(small / "data") in said
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_open_address_without_keys_is_one_sentence(open_folder: Path) -> None:
    with started(open_folder, RUBRIKA_HOST="0.0.0.0", RUBRIKA_AUTH="off") as up:
        said = up.refused()
        assert "set RUBRIKA_AUTH=keys, or RUBRIKA_ALLOW_OPEN=1" in said


def test_keys_on_a_shared_database_without_a_shared_secret_are_one_sentence(open_folder: Path) -> None:
    with started(open_folder, RUBRIKA_AUTH="keys", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as up:
        said = up.refused()
        assert "RUBRIKA_SECRET_KEY_FILE" in said
        assert not (up.data_dir / "secret.key").exists()


def test_a_secret_that_others_can_read_is_one_sentence(open_folder: Path) -> None:
    (open_folder / "data").mkdir()
    (open_folder / "data" / "secret.key").write_text("0123456789abcdef" * 4)
    with started(open_folder, RUBRIKA_AUTH="keys") as up:
        assert f"Others can read {up.data_dir / 'secret.key'}" in up.refused()


def test_a_migration_that_fails_is_one_sentence(open_folder: Path) -> None:
    with started(open_folder, DUMMY_MIGRATE_FAILS="1") as up:
        said = up.refused()
        assert said.startswith("rubrika: migrate failed: The schema is newer than this program; its log is ")
        postgres = EmbeddedPostgres(up.data_dir).postmaster_pid()
        assert postgres is None


def test_a_folder_that_cannot_be_made_is_one_sentence(open_folder: Path) -> None:
    (open_folder / "file").write_text("")
    with started(open_folder, RUBRIKA_DATA_DIR=str(open_folder / "file" / "data")) as up:
        assert up.refused() == (
            f"rubrika: {open_folder / 'file'} is not a folder: set RUBRIKA_DATA_DIR to one that Rubrika may use."
        )
