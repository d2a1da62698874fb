"""The secret that signs the cookies of the page: made on the first start of one-machine mode, and kept."""

import os
import secrets
from pathlib import Path

from jobs.errors import StartError
from jobs.settings import Settings

FILE_NAME = "secret.key"


def secret_environment(settings: Settings) -> dict[str, str]:
    """What Rubrika's processes need beside the settings to sign cookies: nothing, or the file of this data folder.

    With a database that others may use as well, a secret of this machine's own would sign its users out wherever
    another machine answers. Raises `StartError` then, and for a file that others can read.
    """
    if settings.auth != "keys" or settings.secret_key or settings.secret_key_file:
        return {}
    if settings.database_url:
        raise StartError(
            "RUBRIKA_AUTH=keys with a database that other machines may use as well (DATABASE_URL) needs one secret for "
            "all of them: write the same random characters (openssl rand -hex 32) into a file on each, and name it by "
            "RUBRIKA_SECRET_KEY_FILE."
        )
    path = settings.data_dir / FILE_NAME
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise StartError(f"Others can read {path}, which signs the cookies of the page: chmod 600 it, or remove it.")
    return {"RUBRIKA_SECRET_KEY_FILE": str(path)}


def _make(path: Path) -> None:
    """Whole or not at all, and never open to others."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
