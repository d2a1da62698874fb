"""A file through a running service: sent, waited for, fetched; and gone on with after a kill at any moment.

Two things make it safe to repeat. The `Idempotency-Key` follows from the bytes of the file and from how it is read, so
that the service gives the job that is there instead of a second one. A note beside the output names that job, so that
the file is not even sent again. Results are written beside their place and moved there when they are whole.
"""

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from jobs.errors import RubrikaError
from rubrika_client import Client, Job, NotFoundError

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        file: open for reading at its beginning.
        filename: what the service is told; None for a pipe.
        options: how the file is read, as `Client.upload` takes it.
        run: a name by which the same file is computed once more.
    """

    file: BinaryIO
    filename: str | None
    options: Mapping[str, Any]
    run: str = ""

    def key(self) -> str:
        """The key of this file, read like this, in this run. Reads the file, a block at a time."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while block := self.file.read(BLOCK_BYTES):
            digest.update(block)
        described = json.dumps([self.filename, dict(self.options), self.run], sort_keys=True)
        return "classify-" + hashlib.sha256(f"{digest.hexdigest()} {described}".encode()).hexdigest()[:40]

    def size(self) -> int:
        """Bytes."""
        return self.file.seek(0, 2)


@dataclass
class Watcher:
    """Told how far it is; all numbers are totals."""

    sent: Callable[[int, int], object] = field(default=lambda _done, _of: None)
    computed: Callable[[Job], object] = field(default=lambda _: None)
    received: Callable[[int], object] = field(default=lambda _: None)


class Note:
    """What is known of an unfinished run, in a file beside its output. It is locked while the run goes on.

    Raises `RubrikaError` when the place cannot be written to, or another run writes the same output just now.
    """

    def __init__(self, out: Path) -> None:
        whole = out.resolve()  # Whoever writes through a link writes the same output.
        self._path = whole.with_name(f"{whole.name}.rubrika")
        self._out = out
        self._file: BinaryIO

    @contextmanager
    def held(self) -> Iterator["Note"]:
        """Hold the lock; the system lets go of it whatever happens to the process."""
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise RubrikaError(f"{self._out} cannot be written: {error.strerror}.") from error
        with self._file:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RubrikaError(f"Another `rubrika classify` is writing {self._out} just now.") from error
            yield self

    def job_of(self, url: str, key: str) -> str | None:
        """The job of this key at this service, as far as it is noted."""
        self._file.seek(0)
        try:
            noted = json.loads(self._file.read())
            return str(noted["job"]) if (noted["url"], noted["key"]) == (url, key) else None
        except (ValueError, KeyError, TypeError):
            return None

    def write(self, url: str, key: str, job: str) -> None:
        """Note a job."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"url": url, "key": key, "job": job}).encode())
        self._file.flush()

    def remove(self) -> None:
        """The run is finished."""
        with suppress(FileNotFoundError):
            self._path.unlink()

    def remove_if_empty(self) -> None:
        """Nothing was accepted, so that nothing is left to be gone on with."""
        self._file.seek(0, 2)
        if not self._file.tell():
            self.remove()


def accepted(client: Client, wish: Wish, note: Note | None, watcher: Watcher) -> Job:
    """The job of the file: the one that is there, or a new one. Raises `ServiceError` and its kinds."""
    key = wish.key()
    known = note.job_of(client.url, key) if note else None
    if known is not None:
        with suppress(NotFoundError):  # Deleted, or its days are over.
            return client.job(known)
    of = wish.size()
    job = client.upload(
        wish.file,
        filename=wish.filename,
        key=key,
        sent=lambda done: watcher.sent(done, of),
        **wish.options,
    )
    if note:
        note.write(client.url, key, job.id)
    return job
