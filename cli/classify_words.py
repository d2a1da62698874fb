"""What `rubrika classify` says: a bar where there is a terminal, sentences in any case, and errors in words."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from rubrika_client import (
    BusyError,
    InvalidError,
    Job,
    KeyRefusedError,
    NoAnswerError,
    ProblemError,
    ServiceError,
    Summary,
    TooLargeError,
    UnavailableError,
)


class Progress:
    """Says on stderr how far it is."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._place = 0
        self._words: str | None = None
        self._job: Job | None = None

    @contextmanager
    def phase(self, label: str, length: int | None) -> Iterator[None]:
        """One of upload (bytes), classify (rows) and download (bytes, of which nobody knows how many will come)."""
        self._place, self._words = 0, None
        if not (self._shown and sys.stderr.isatty()):
            yield
            return
        with click.progressbar(
            # A generator has no length, which is how the bar learns that it must do without.
            None if length is not None else (None for _ in ()),
            length=length,
            label=label,
            # The service knows its rate over more than this run has seen.
            show_eta=label == "upload",
            show_pos=label == "classify",
            item_show_func=lambda _: self._words,
            file=sys.stderr,
        ) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def _advance(self, place: int, words: str | None) -> None:
        self._words = words
        step, self._place = place - self._place, place
        if self._bar is not None:
            self._bar.update(step)

    def sent(self, done: int, of: int) -> None:
        """So many bytes are on their way."""
        self._advance(done, f"{size(done)} of {size(of)}")

    def computed(self, job: Job) -> None:
        """The job is so far."""
        self._job = job
        words = "waits" if job.queue_position == 0 else f"waits, {job.queue_position} before it"
        if job.rows_per_second:
            left = "" if job.eta_seconds is None else f", {duration(job.eta_seconds)} left"
            words = f"{job.rows_per_second:.0f} rows/s{left}"
        self._advance(job.rows.succeeded + job.rows.failed, words)

    def received(self, done: int) -> None:
        """So many bytes are there."""
        self._advance(done, size(done))

    def accepted(self, job: Job) -> None:
        """The service has the file."""
        self._job = job
        self.say(f"{job.filename or 'The file'} is job {job.id}: {job.rows.total} rows, {job.status}.")

    def retrying(self, error: ServiceError, seconds: float) -> None:
        """A request is tried again."""
        self.say(f"\n{error} Trying again in {seconds:.0f} s.")

    def interrupted(self, url: str) -> None:
        """Say how to go on."""
        if self._job is None:
            self.say("\nInterrupted before the file was accepted. The same command goes on where it was.")
        elif self._job.is_finished:
            self.say(f"\nInterrupted. Job {self._job.id} is finished; the same command fetches its results.")
        else:
            self.say(
                f"\nInterrupted. The service at {url} goes on with job {self._job.id}; the same command waits for it "
                "again and fetches its results."
            )

    def finished(self, job: Job, summary: Summary) -> None:
        """Sum it up."""
        reasons = "; ".join(f"{one.code} {one.rows}" for one in summary.failures)
        failed = f"{job.rows.failed} failed ({reasons})" if job.rows.failed else "none failed"
        self.say(f"{job.rows.total} rows by {job.model}; {failed}, {summary.none_assigned} have no topic.")

    def say(self, text: str) -> None:
        """Write a sentence, unless silence was asked for."""
        if self._shown:
            click.echo(text if self._bar is not None else text.lstrip("\n"), err=True)


def sentence(error: Exception, url: str, *, has_key: bool) -> str:
    """What went wrong and what to do, for people."""
    if isinstance(error, NoAnswerError):
        return f"{error} Is the service running there (`rubrika up`)? --url or RUBRIKA_URL name another one."
    if isinstance(error, KeyRefusedError) and error.status == 401:
        if has_key:
            return f"The service at {url} does not accept this key."
        return f"The service at {url} asks for a key: give one with RUBRIKA_KEY or --key."
    if isinstance(error, TooLargeError):
        return f"The service does not take this file: {error}"
    if isinstance(error, InvalidError):
        place = f" (at {error.place})" if error.place else ""
        return f"The service cannot use this{place}: {error}"
    if isinstance(error, BusyError | UnavailableError):
        again = "" if error.retry_after is None else f" Try again in {duration(error.retry_after)}."
        return f"The service takes nothing at the moment: {error}{again} The same command goes on where it was."
    if isinstance(error, ProblemError):
        return f"The service answers {error.status}: {error}"
    return str(error)


def size(count: int) -> str:
    """Bytes in words."""
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
