"""What is looked at before anything starts: each obstacle is one sentence that says what to do about it."""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from jobs.errors import StartError
from jobs.settings import Settings
from local.folders import make_folder

MIN_FREE_BYTES = 200_000_000

FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user may still write to the disk of `folder`."""
    return shutil.disk_usage(folder).free


@contextmanager
def locked(data_dir: Path, settings: Settings) -> Iterator[None]:
    """Hold the data folder for this process: two sets of servers on the same files would destroy them.

    The lock is the kernel's and ends with the process, however it ends. Raises `StartError` naming the process and the
    address of the holder when there is one.
    """
    make_folder(data_dir)
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"Rubrika already runs on {data_dir}{_holder(data_dir)}.") from None
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "url": local_url(settings)}, file)
        file.flush()
        yield


def check_exposure(settings: Settings) -> None:
    """While nobody is asked for a key, nobody beyond this machine may reach the port unless that was said."""
    if settings.auth == "off" and not settings.is_loopback and not settings.allow_open:
        raise StartError(
            f"RUBRIKA_HOST={settings.host} would open Rubrika to others although RUBRIKA_AUTH is off: "
            "set RUBRIKA_AUTH=keys, or RUBRIKA_ALLOW_OPEN=1 if a proxy of yours keeps them out."
        )


def check_disk(data_dir: Path, free: FreeBytes = free_bytes) -> None:
    """There must be room for the servers to begin with."""
    available = free(data_dir)
    if available < MIN_FREE_BYTES:
        raise StartError(
            f"The disk of {data_dir} is full ({available} bytes are free and Rubrika starts with {MIN_FREE_BYTES}): "
            "make room, or set RUBRIKA_DATA_DIR to a folder on another disk."
        )


def check_model(settings: Settings) -> None:
    """There must be something to classify with."""
    if not (settings.model / "rubrika.json").is_file():
        raise StartError(
            f"There is no model in {settings.model} (it has no rubrika.json): set RUBRIKA_MODEL to a model folder."
        )


def check_trial(settings: Settings) -> None:
    """A service must have workers that take new texts."""
    if settings.trial:
        raise StartError(
            "With RUBRIKA_TRIAL=1 nobody would compute new texts: start `rubrika up` without it, and then `rubrika "
            "worker` with it."
        )


def check_port(settings: Settings) -> None:
    """The address must exist on this machine and nobody may listen there."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartError(f"RUBRIKA_HOST={settings.host} is no address of this machine ({error.strerror}).") from None
    family, kind, protocol, _, address = found[0]
    with closing(socket.socket(family, kind, protocol)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise StartError(_why_not(error, settings)) from None


def local_url(settings: Settings) -> str:
    """The address under which a browser on this machine reaches the page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _holder(data_dir: Path) -> str:
    try:
        holder = json.loads((data_dir / "lock").read_text())
        return f" (process {holder['pid']}, {holder['url']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _why_not(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {settings.port} of {settings.host} is taken by another program: set RUBRIKA_PORT to a free one."
    if error.errno == errno.EACCES:
        return f"Port {settings.port} is for root only: set RUBRIKA_PORT to one from 1024 upwards."
    return f"Rubrika cannot listen on {settings.host}:{settings.port} ({error.strerror})."
