"""Clients who do everything that clients do, one thing after the other, and check what they get."""

import csv
import gzip
import io
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from arro3.core import Array, DataType, RecordBatch
from arro3.io import write_parquet

from rubrika_client import Client, ConflictError, InvalidError, Job, NotFoundError, Post, Retry, ServiceError
from tests.e2e.soak.ledger import Ledger, Recording
from tests.sheets import sheet_xml, xlsx

COMMON = tuple(f"Обычный текст номер {number}, который встречается много раз" for number in range(200))
"""Texts that are sent again and again, for the cache of answers."""


def file_of(texts: Sequence[str], kind: str) -> bytes:
    """A file of these texts."""
    if kind.endswith(".gz"):
        return gzip.compress(file_of(texts, kind.removesuffix(".gz")), 1)
    if kind in {"csv", "tsv"}:
        written = io.StringIO()
        csv.writer(written, delimiter="," if kind == "csv" else "\t").writerows([["text"], *([text] for text in texts)])
        return written.getvalue().encode()
    if kind == "ndjson":
        return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    if kind == "json":
        return json.dumps([{"text": text} for text in texts]).encode()
    if kind == "txt":
        return "".join(f"{text}\n" for text in texts).encode()
    if kind == "xlsx":
        return xlsx({"Лист1": sheet_xml(dict(enumerate([["text"], *([text] for text in texts)], 1)))})
    target = io.BytesIO()
    write_parquet(RecordBatch.from_pydict({"text": Array(list(texts), DataType.utf8())}), target)
    return target.getvalue()


KINDS = ("csv", "tsv", "ndjson", "json", "txt", "xlsx", "parquet", "csv.gz", "ndjson.gz")


class Person:
    """One client in a thread of its own. It goes on until it is told to stop, and then finishes what it has begun."""

    def __init__(
        self, url: str, ledger: Ledger, stopping: threading.Event, *, seed: int, rows: int, may_break: bool
    ) -> None:
        self.name = f"client {seed}"
        self.thread = threading.Thread(target=self._work, name=self.name)
        self._ledger, self._stopping, self._rows, self._url = ledger, stopping, rows, url
        self._dice = Random(seed)
        self._number = 0
        service = "restarted" if may_break else "steady"
        self._client = Client(
            url,
            # Everybody comes back: a service that is away for longer than this is a failure.
            retry=Retry(attempts=40, first=0.2, longest=5.0, patience=60),
            transport=Recording(ledger, service, may_break=may_break),
        )

    def _work(self) -> None:
        acts: list[tuple[Callable[[], None], int]] = [
            (self.text, 6), (self.texts, 2), (self.file, 6), (self.events, 2), (self.cancelled, 1), (self.deleted, 1),
            (self.history, 1), (self.rerun, 1), (self.dropped, 1), (self.refused, 1),
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            while not self._stopping.is_set():
                [act] = self._dice.choices([act for act, _ in acts], [weight for _, weight in acts])
                try:
                    act()
                    self._ledger.count(act.__name__)
                except (ServiceError, TimeoutError, AssertionError) as error:
                    self._ledger.complain(f"{self.name}, {act.__name__}: {error!r}")
        self._client.close()

    # --- what it does -------------------------------------------------------------------------------------------------

    def text(self) -> None:
        """One text, waited for or asked for later."""
        [text] = self._texts(1)
        wait = self._dice.choice((0, 0, 1, 20))
        found = self._client.classify(text, wait=wait)
        for _ in range(400):
            if found.is_finished:
                break
            self._stopping.wait(0.3)
            found = self._client.classification(found.id)
        self._ledger.check_text(text, found.probability("sport"), found.error.code if found.error else found.status)
        if self._dice.random() < 0.3:
            assert self._client.feedback(found.id, ["sport"]).feedback == ("sport",)

    def texts(self) -> None:
        """Several at once."""
        texts = self._texts(self._dice.randint(2, 40))
        for text, found in zip(texts, self._client.classify([Post(text) for text in texts], wait=120), strict=True):
            error = found.error.code if found.error else found.status
            self._ledger.check_text(text, found.probability("sport"), error)

    def file(self) -> None:
        """A file, its results in every way, and often gone afterwards."""
        job, texts = self._upload()
        self._finish(job, texts)

    def events(self) -> None:
        """A file whose progress is heard, sometimes only for a while."""
        job, texts = self._upload()
        for state in self._client.events(job.id):
            if self._dice.random() < 0.2:
                self._ledger.count("streams left early")
                break
            assert state.id == job.id
        self._finish(job, texts)

    def cancelled(self) -> None:
        """A file that is cancelled at some moment."""
        job, texts = self._upload()
        self._stopping.wait(self._dice.random() * 2)
        with suppress(ConflictError):  # It was quicker.
            self._client.cancel(job.id)
        self._finish(job, texts)

    def deleted(self) -> None:
        """A file that is deleted while it is computed."""
        job, _ = self._upload()
        self._stopping.wait(self._dice.random() * 2)
        self._delete(job)
        try:
            self._client.job(job.id)
        except NotFoundError:
            return
        self._ledger.complain(f"the job {job.id} is there after it was deleted")

    def history(self) -> None:
        """A look at the histories, and at what there is."""
        for place, _ in enumerate(self._client.classifications(q="текст")):
            if place > 600:
                break
        assert all(job.id for job in self._client.jobs())
        assert self._client.topics().items

    def rerun(self) -> None:
        """A file computed twice, which must agree with itself."""
        job, texts = self._upload()
        job = self._wait(job)
        try:
            again = self._wait(self._client.rerun(job.id))
        except ConflictError:
            return  # No worker is alive at this moment.
        compared = self._client.compare(job.id, again.id)
        assert compared.rows.compared == len(texts), compared.rows
        self._ledger.check_again(self._rows_of(job), self._rows_of(again))
        self._delete(again)
        self._finish(job, texts)

    def dropped(self) -> None:
        """An upload whose connection breaks in its middle, and which is then sent under the same key."""
        texts = self._texts(self._dice.randint(1, self._rows))
        data = file_of(texts, "csv")
        key = f"dropped {self.name} {self._number} {self._dice.random()}"
        parts = urlsplit(self._url)
        assert parts.hostname
        assert parts.port
        head = (
            f"POST /api/v1/jobs?filename=posts.csv HTTP/1.1\r\nHost: {parts.netloc}\r\nIdempotency-Key: {key}\r\n"
            f"Content-Type: text/csv\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        with suppress(OSError), socket.create_connection((parts.hostname, parts.port), 10) as connection:
            connection.sendall(head.encode() + data[: self._dice.randrange(len(data))])
        job = self._client.upload(io.BytesIO(data), filename="posts.csv", key=key)
        assert self._client.upload(io.BytesIO(data), filename="posts.csv", key=key).id == job.id
        self._finish(job, texts)

    def refused(self) -> None:
        """What cannot be used."""
        for data in (b"", b'text,n\na,1\n"open\n', b"\x00" * 50_000, b"%PDF-1.7"):
            with suppress(InvalidError):
                self._client.upload(io.BytesIO(data), filename="posts.csv")
                self._ledger.complain(f"{data[:20]!r} was accepted")

    # --- how ----------------------------------------------------------------------------------------------------------

    def _texts(self, count: int) -> list[str]:
        self._number += 1
        return [
            self._dice.choice(COMMON)
            if self._dice.random() < 0.4
            else f"{self.name}, раз {self._number}, пост {place}: {self._dice.randrange(10**9)}"
            for place in range(count)
        ]

    def _upload(self) -> tuple[Job, list[str]]:
        texts = self._texts(self._dice.randint(1, self._rows))
        kind = self._dice.choice(KINDS)
        job = self._client.upload(io.BytesIO(file_of(texts, kind)), filename=f"posts.{kind}")
        self._ledger.count(f"files of {kind}")
        self._ledger.count("rows", len(texts))
        assert job.rows.total == len(texts), (kind, job)
        return job, texts

    def _wait(self, job: Job) -> Job:
        return self._client.wait(job.id, timeout=300)

    def _finish(self, job: Job, texts: Sequence[str]) -> None:
        job = self._wait(job)
        assert job.status in {"succeeded", "cancelled"}, job
        self._ledger.check_rows(texts, self._rows_of(job), whole=job.status == "succeeded")
        form = self._dice.choice(("csv", "json", "xlsx", "parquet"))
        assert self._client.download(job.id, self._folder / f"results.{form}").stat().st_size
        computed = self._client.summary(job.id).computed
        assert computed == job.rows.succeeded, (computed, job)
        assert [row.row for row in self._client.results(job.id)] == list(range(1, len(texts) + 1))
        if self._dice.random() < 0.7:
            self._delete(job)

    def _rows_of(self, job: Job) -> list[dict[str, Any]]:
        lines = self._client.download(job.id, self._folder / "results.ndjson").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _delete(self, job: Job) -> None:
        with suppress(NotFoundError):  # The answer to the first attempt was lost.
            self._client.delete(job.id)
