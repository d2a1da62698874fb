"""Folders of Rubrika's own: made with fixed permissions, checked for their owner, and never anybody else's."""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from jobs.errors import StartError
from local.processes import Identity

# The kernel copies the path of a Unix socket into a field of 108 bytes on Linux and 104 on macOS, with its final NUL.
# The data folder may be longer, so sockets live in a folder with a short and fixed name.
_SOCKET_ROOT = Path("/tmp")  # noqa: S108 - the owner and the mode of what is made there are checked.


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make a folder and its missing parents, whatever the umask is; leave all that exist as they are.

    Parents get 0755, so that the user of the embedded servers can pass when root makes them. Raises `StartError`
    when something that is not a folder stands in the way.
    """
    missing = []
    current = folder
    while not current.exists():
        missing.append(current)
        current = current.parent
    if not current.is_dir():
        raise StartError(f"{current} is not a folder: set RUBRIKA_DATA_DIR to one that Rubrika may use.")
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(mode if path == folder else 0o755)


def make_private_folder(folder: Path, identity: Identity | None) -> None:
    """Make a folder of mode 0700 that belongs to `identity` (None: to the user of this process)."""
    make_folder(folder, 0o700)
    if identity is not None:
        os.chown(folder, identity.uid, identity.gid)


def socket_folder(data_dir: Path, server: str) -> Path:
    """The folder of one server's socket: short, and the same for the same data folder on every start."""
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]
    return _SOCKET_ROOT / f"rubrika-{os.geteuid()}-{digest}" / server


def make_socket_folder(data_dir: Path, server: str, identity: Identity | None) -> Path:
    """Make that folder, for its server alone to write and for this user and its server alone to enter.

    Everybody may make folders in the parent, so what is found there counts only if it is a real folder that belongs
    to this user and that nobody else can write. Raises `StartError` otherwise.
    """
    inner = socket_folder(data_dir, server)
    outer = inner.parent
    try:
        outer.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        # The server's user must pass through to its own folder, and may neither list nor write here.
        outer.chmod(0o700 if identity is None else 0o711)
    _check_owner(outer, os.geteuid())
    owner = os.geteuid() if identity is None else identity.uid
    if not inner.is_symlink() and not inner.exists():
        make_private_folder(inner, identity)
    _check_owner(inner, owner)
    return inner


def remove_socket_folder(data_dir: Path, server: str) -> None:
    """Remove what `make_socket_folder` made, once the server is gone and has removed its socket."""
    folder = socket_folder(data_dir, server)
    with contextlib.suppress(OSError):  # Something is left in it, or the other server still uses the parent.
        folder.rmdir()
        folder.parent.rmdir()


def _check_owner(folder: Path, uid: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise StartError(f"{folder} was made by somebody else, and Rubrika keeps its sockets there: remove it.")
