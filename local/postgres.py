"""A PostgreSQL of Rubrika's own, in the data folder: made on the first start, reached by a Unix socket alone.

The order of its life: `prepare` makes the cluster, stops what an earlier start may have left behind and returns the
process to run; `is_ready` says when it answers. `start` and `stop` do all of that for whoever needs the server alone.
"""

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from jobs.errors import StartError
from local.binaries import Wheel, postgres_wheel, usable_by
from local.folders import make_folder, make_private_folder, make_socket_folder, remove_socket_folder, socket_folder
from local.processes import (
    Child,
    StopOrder,
    can_enter,
    command_line,
    end_stranger,
    server_identity,
    spawn,
    stop_child,
    wait_until,
)

MAJOR = "18"
_USER = "rubrika"
_DATABASE = "rubrika"
_SOCKET_LOCK = ".s.PGSQL.5432.lock"
_FAST_SHUTDOWN = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))

# What it answers while it replays its log after a crash (SQLSTATE 57P03, but of a connection that is refused psycopg2
# tells the words alone). That may take minutes, and to stop it meanwhile would only make it begin anew.
_RECOVERING = ("the database system is starting up", "the database system is in recovery mode")

# For a machine of two cores whose work is a network, with bulk COPY in and out. Given on the command line, so that a
# new version of Rubrika brings its own; whoever wants to tune more brings a server of their own by DATABASE_URL.
_OPTIONS: dict[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "synchronous_commit": "on",  # What was answered with 202 is on disk.
    "max_wal_size": "2GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    # Nobody replicates this server, and COPY into a fresh partition writes less without the means for it.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # The cores belong to the network, and helper processes cost memory while nothing happens.
    "jit": "off",
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedPostgres:
    """The server of one data folder. `options` are added to its settings or replace them, by their own names."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._home = self._data_dir / "postgres"
        self._cluster = self._home / "cluster"
        self._password_file = self._home / "password"
        self._sockets = socket_folder(self._data_dir, "postgres")
        self._options = {**_OPTIONS, **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._recovers = False

    @property
    def url(self) -> str:
        """The address with its password, as SQLAlchemy takes it. Raises `StartError` before the first start."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """The address of another database of this server, as SQLAlchemy takes it."""
        return self.dsn_of(database).replace("postgresql://", "postgresql+psycopg2://", 1)

    def dsn_of(self, database: str) -> str:
        """The same address as libpq takes it, and with it psycopg2 and psql."""
        host = quote(str(self._sockets), safe="")
        return f"postgresql://{_USER}:{quote(self._password(), safe='')}@/{database}?host={host}"

    def prepare(self) -> Child:
        """Make ready what the server needs and return the process to run.

        Raises `StartError` with one sentence when the folder, the programs or the user of the server do not allow it.
        """
        identity = server_identity()
        wheel = usable_by(postgres_wheel(), identity)
        make_folder(self._data_dir)
        if not self._cluster.exists():
            self._create_cluster(wheel)
        self._check_reachable(self._home)
        self._check_version()
        make_socket_folder(self._data_dir, "postgres", identity)
        self._stop_leftover()
        settings = {
            **self._options,
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700" if identity is None else "0777",  # The folder is closed to all others.
        }
        return Child(
            name="postgres",
            argv=(
                str(wheel.program("postgres")),
                "-D",
                str(self._cluster),
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ),
            env=_environment(),
            rank=StopOrder.RECORD,
            stop_signal=signal.SIGINT,  # Fast shutdown: sessions are ended, what was committed is kept.
            kill_signal=signal.SIGQUIT,  # Immediate shutdown: the next start recovers from the log.
            grace=60.0,
            identity=identity,
            cwd=Path("/"),
        )

    def is_ready(self) -> bool:
        """Whether the server answers; the first time it does, the database is made."""
        try:
            connection = psycopg2.connect(self.dsn_of("postgres"), connect_timeout=5)
        except psycopg2.OperationalError as error:
            self._recovers = any(said in str(error) for said in _RECOVERING)
            return False
        self._recovers = False
        try:
            connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{_DATABASE}"')
        finally:
            connection.close()
        return True

    def is_recovering(self) -> bool:
        """Whether the server was still starting when `is_ready` asked it last: it is at work, and wants to be let."""
        return self._recovers

    def start(self, timeout: float = 60.0) -> None:
        """Run the server as a child of this process until `stop`; its log is `logs/postgres.log` in the data folder.

        Raises `StartError` when it has neither answered nor said that it recovers for `timeout` seconds.
        """
        child = self.prepare()
        log = self._data_dir / "logs" / "postgres.log"
        make_folder(log.parent, 0o700)
        with log.open("ab") as output:
            process = self._process = spawn(child, output)
        wait_until(lambda: process.poll() is not None or self.is_ready(), timeout, at_work=self.is_recovering)
        if process.poll() is not None or not self.is_ready():
            self.stop()
            raise StartError(f"PostgreSQL does not start; its log is {log}.")

    def stop(self) -> None:
        """Stop a server that `start` has started; nothing happens when there is none."""
        process, self._process = self._process, None
        if process is not None:
            stop_child(process, _FAST_SHUTDOWN)
            self.clean_up()

    def clean_up(self) -> None:
        """Remove what lies outside of the data folder, when the server has stopped."""
        remove_socket_folder(self._data_dir, "postgres")

    def postmaster_pid(self) -> int | None:
        """The process id in the server's own pid file, whether that process lives or not."""
        return _pid_in(self._cluster / "postmaster.pid")

    def _create_cluster(self, wheel: Wheel) -> None:
        """Make the cluster aside and rename it, so that a start killed in the middle leaves nothing half made."""
        identity = server_identity()
        aside = self._data_dir / "postgres.new"
        if aside.exists():
            shutil.rmtree(aside)
        make_private_folder(aside, identity)
        self._check_reachable(aside)
        password_file = aside / "password"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        if identity is not None:
            os.chown(password_file, identity.uid, identity.gid)
        self._run_initdb(wheel, aside)
        aside.rename(self._home)

    def _run_initdb(self, wheel: Wheel, home: Path) -> None:
        initdb = Child(
            name="initdb",
            argv=(
                str(wheel.program("initdb")),
                *("-D", str(home / "cluster")),
                *("--username", _USER, "--pwfile", str(home / "password"), "--auth", "scram-sha-256"),
                # The same order of strings on every machine, whatever its C library; Cyrillic case is folded rightly.
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
                *("--no-instructions", "--data-checksums"),
            ),
            env=_environment(),
            identity=server_identity(),
            cwd=Path("/"),
        )
        process = spawn(initdb, subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode != 0:
            lines = [line.strip() for line in output.decode(errors="replace").split("\n") if line.strip()]
            # The first error is the cause; what follows it is about cleaning up.
            said = next((line for line in lines if "error:" in line or "FATAL" in line), " ".join(lines[-1:]))
            raise StartError(f"PostgreSQL cannot make its files in {self._data_dir}: {said.rstrip('.')}.")

    def _check_reachable(self, folder: Path) -> None:
        identity = server_identity()
        if identity is not None and not can_enter(identity, folder):
            raise StartError(
                f"PostgreSQL refuses to run as root, and the user nobody that it runs as cannot reach "
                f"{self._data_dir}: set RUBRIKA_DATA_DIR to a folder that others may enter, such as /var/lib/rubrika."
            )

    def _check_version(self) -> None:
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise StartError(
                f"The files in {self._home} are of PostgreSQL {found}, and this Rubrika runs PostgreSQL {MAJOR}: "
                "start the version that made them and move the data with pg_dump."
            )

    def _stop_leftover(self) -> None:
        """Stop a server that an earlier start left running here, and remove the pid files of one that is gone.

        After a restart of a container or a machine its process id may belong to any other program, for which
        PostgreSQL would take itself to be running already. There is one file beside the data and one beside the socket.
        """
        pid = self.postmaster_pid()
        if pid is None:
            return
        if self._is_ours(pid) and not end_stranger(pid, _FAST_SHUTDOWN):
            raise StartError(f"A PostgreSQL of an earlier start (process {pid}) does not stop: end it.")
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        lock = self._sockets / _SOCKET_LOCK
        if _pid_in(lock) == pid:
            lock.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        arguments = command_line(pid)
        return arguments is not None and "postgres" in arguments[0] and str(self._cluster) in " ".join(arguments)

    def _password(self) -> str:
        try:
            return self._password_file.read_text().strip()
        except FileNotFoundError:
            raise StartError(f"There is no PostgreSQL in {self._data_dir} yet: `rubrika up` makes it.") from None


def _pid_in(file: Path) -> int | None:
    """The process id in the first line of a file of the server, or None when there is none."""
    try:
        return int(file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _environment() -> dict[str, str]:
    """Nothing but what the programs need: PGDATA, PGOPTIONS and friends of the caller are not for this server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
