"""A Valkey (the BSD-licensed Redis) of Rubrika's own, reached by a Unix socket alone.

Nothing of it is kept on disk: Redis is the bell, not the record. Every message says only that there is work, and the
sweeper rings again for whatever nobody has heard, so an empty Redis after a restart costs seconds and loses nothing.
Saving messages would only add disk writes, and bring back bells for work that was done long ago.
"""

import signal
import subprocess
from pathlib import Path

import redis

from jobs.errors import StartError
from local.binaries import usable_by, valkey_wheel
from local.folders import make_folder, make_socket_folder, remove_socket_folder, socket_folder
from local.processes import Child, StopOrder, command_line, end_stranger, server_identity, spawn, stop_child, wait_until

_STOP = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))


class EmbeddedValkey:
    """The server of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._sockets = socket_folder(self._data_dir, "valkey")
        self._socket = self._sockets / "valkey.sock"
        self._pid_file = self._sockets / "valkey.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address as Celery takes it. redis-py calls the same socket `unix://` followed by the path."""
        return f"redis+socket://{self._socket}"

    def prepare(self) -> Child:
        """Make ready what the server needs and return the process to run. Raises `StartError` with one sentence."""
        identity = server_identity()
        wheel = usable_by(valkey_wheel(), identity)
        make_folder(self._data_dir)
        make_socket_folder(self._data_dir, "valkey", identity)
        self._stop_leftover()
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700" if identity is None else "777",  # The folder is closed to all others.
            "save": "",
            "appendonly": "no",
            "dir": str(self._sockets),
            "pidfile": str(self._pid_file),
            # Room for hundreds of thousands of bells. A full Redis refuses the next one, which the sweeper makes up
            # for; one that evicts could throw away the queue of everybody.
            "maxmemory": "64mb",
            "maxmemory-policy": "noeviction",
        }
        return Child(
            name="valkey",
            argv=(
                str(wheel.program("valkey-server")),
                *(part for name, value in options.items() for part in (f"--{name}", value)),
            ),
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
            rank=StopOrder.BELL,
            grace=_STOP[0][1],
            identity=identity,
            cwd=Path("/"),
        )

    def is_ready(self) -> bool:
        """Whether the server answers a ping."""
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def start(self, timeout: float = 20.0) -> None:
        """Run the server as a child of this process until `stop`; its log is `logs/valkey.log` in the data folder.

        Raises `StartError` when it does not answer within `timeout` seconds.
        """
        child = self.prepare()
        log = self._data_dir / "logs" / "valkey.log"
        make_folder(log.parent, 0o700)
        with log.open("ab") as output:
            process = self._process = spawn(child, output)
        wait_until(lambda: process.poll() is not None or self.is_ready(), timeout)
        if process.poll() is not None or not self.is_ready():
            self.stop()
            raise StartError(f"Valkey does not start; its log is {log}.")

    def stop(self) -> None:
        """Stop a server that `start` has started; nothing happens when there is none."""
        process, self._process = self._process, None
        if process is not None:
            stop_child(process, _STOP)
            self.clean_up()

    def clean_up(self) -> None:
        """Remove what lies outside of the data folder, when the server has stopped."""
        remove_socket_folder(self._data_dir, "valkey")

    def _stop_leftover(self) -> None:
        """Stop a server that an earlier start left running: it has lost its socket to the new one and serves nobody."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return
        arguments = command_line(pid)
        # The server writes its socket into its title, so the title tells it from a stranger of the same id.
        ours = arguments is not None and "valkey" in arguments[0] and str(self._socket) in " ".join(arguments)
        if ours and not end_stranger(pid, _STOP):
            raise StartError(f"A Valkey of an earlier start (process {pid}) does not stop: end it.")
        self._pid_file.unlink(missing_ok=True)
