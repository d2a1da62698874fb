"""Tiny children for the tests of one-machine mode, and `rubrika up` with them in place of Rubrika's own processes.

Run as `python -m tests.integration.local_dummies`, it is the real `run_up` with the real servers.
"""

import os
import sys
from pathlib import Path

from jobs.settings import Settings
from local.processes import Child, StopOrder
from local.up import UpCommands, run_up

# Writes its id to a file, and its name to another when it is asked to stop.
_OBEDIENT = """
import os, signal, sys
name, folder = sys.argv[1:]
def stop(*_):
    with open(os.path.join(folder, "stopped"), "a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
with open(os.path.join(folder, name + ".pid"), "w") as file:
    file.write(str(os.getpid()))
print(name, "is ready", flush=True)
while True:
    signal.pause()
"""

# Shows that it got the signal, and stays.
_STUBBORN = """
import os, signal, sys
name, folder = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
with open(os.path.join(folder, name + ".pid"), "w") as file:
    file.write(str(os.getpid()))
while True:
    signal.pause()
"""

# Is ready when there is a worker, and healthy in any case.
_API = """
import http.server, os, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = os.path.exists(os.path.join(sys.argv[2], "worker.pid"))
        self.send_response(200 if self.path == "/healthz" or (self.path == "/readyz" and ready) else 503)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["RUBRIKA_PORT"])), Handler)
with open(os.path.join(sys.argv[2], sys.argv[1] + ".pid"), "w") as file:
    file.write(str(os.getpid()))
server.serve_forever()
"""

# Writes where the servers are; the address of PostgreSQL must be one that answers.
_MIGRATE = """
import os, sys, psycopg2
if os.environ.get("DUMMY_MIGRATE_FAILS"):
    sys.exit("rubrika: The schema is newer than this program.")
psycopg2.connect(os.environ["DATABASE_URL"].replace("+psycopg2", "")).close()
with open(os.path.join(sys.argv[1], "urls"), "w") as file:
    file.write(os.environ["DATABASE_URL"] + "\\n" + os.environ["REDIS_URL"])
"""


def obedient(name: str, folder: Path, rank: StopOrder = StopOrder.API, grace: float = 10.0) -> Child:
    """A child that ends when it is asked to, and leaves its name in the file `stopped`."""
    return Child(name, (sys.executable, "-c", _OBEDIENT, name, str(folder)), dict(os.environ), rank, grace=grace)


def stubborn(name: str, folder: Path, grace: float) -> Child:
    """A child that ends by SIGKILL only."""
    return Child(name, (sys.executable, "-c", _STUBBORN, name, str(folder)), dict(os.environ), grace=grace)


def script(name: str, code: str) -> Child:
    """A child that runs some lines of Python."""
    return Child(name, (sys.executable, "-c", code), dict(os.environ))


def process_id(folder: Path, name: str) -> int | None:
    """The process id that a dummy has written, or None before it has."""
    try:
        return int((folder / f"{name}.pid").read_text())
    except (OSError, ValueError):
        return None


def main() -> int:
    """`run_up` with dummies that keep their notes in the folder DUMMY_FOLDER."""
    folder = os.environ["DUMMY_FOLDER"]
    free = int(os.environ.get("DUMMY_FREE_BYTES", 10**12))
    commands = UpCommands(
        migrate=(sys.executable, "-c", _MIGRATE, folder),
        api=(sys.executable, "-c", _API, "api", folder),
        worker=(sys.executable, "-c", _OBEDIENT, "worker", folder),
        sweeper=(sys.executable, "-c", _OBEDIENT, "sweeper", folder),
    )
    return run_up(Settings.from_env(), commands, free_bytes=lambda _: free)


if __name__ == "__main__":
    sys.exit(main())
