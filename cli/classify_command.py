"""`rubrika classify`: a file through a running service, here or elsewhere.

Everything heavy is imported inside the functions, so that `rubrika --help` stays quick.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cli.interruption import EXIT_CODE, Interruption
from jobs.errors import RubrikaError
from jobs.settings import Settings

if TYPE_CHECKING:
    from cli.classifying import Note, Wish
    from rubrika_client import Client, Job

PIPE = Path("-")
FAILED_ROWS = 1
ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json", ".xlsx": "xlsx"} | {
    ".parquet": "parquet"
}


@dataclass(frozen=True)
class Wanted:
    """What is fetched, and where it goes."""

    out: Path
    form: str
    thresholds: Mapping[str, float]
    bom: bool
    raw: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    help="File to write; default: standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "ndjson", "json", "xlsx", "parquet"]),
    help="Default: by the name of --out, else csv.",
)
@click.option("--url", help="Where the service is; default: RUBRIKA_URL, else this machine.")
@click.option("--key", help="Key of the service; default: RUBRIKA_KEY, which other users of the machine do not see.")
@click.option("--thresholds", metavar="TOPIC:NUMBER,...", help="Assign by thresholds of your own: sport:0.5,ads:0.3")
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="Which column is which field; may be repeated.")
@click.option("--encoding", help="Encoding of FILE; default: found.")
@click.option("--delimiter", help="What stands between cells of FILE; default: found.")
@click.option("--sheet", help="Sheet of a spreadsheet: its name, or its number from 1; default: the first.")
@click.option("--on-error", type=click.Choice(["skip", "fail"]), help="fail: the first bad row refuses the file.")
@click.option("--name", help="What the file is called in the service's history; default: its own name.")
@click.option("--run", default="", help="A name: the same file under another one is computed anew.")
@click.option("--raw", is_flag=True, help="CSV: leave cells that a spreadsheet would compute as they are.")
@click.option("--no-bom", is_flag=True, help="CSV: no byte order mark at the beginning (Excel needs one).")
@click.option("--quiet", is_flag=True, help="No progress and no summary on stderr.")
def classify(
    file: Path,
    out: Path,
    form: str | None,
    url: str | None,
    key: str | None,
    thresholds: str | None,
    columns: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    on_error: str | None,
    name: str | None,
    run: str,
    raw: bool,
    no_bom: bool,
    quiet: bool,
) -> None:
    """Classify the posts of FILE, or of a pipe (`-`), by a running service, and write them with their results.

    Whatever stops it, the same command goes on where it was, and nothing is computed twice. Exit code 0: every row has
    a result; 1: some have an error instead; 2: the service, the file or the output cannot be used, or the job was
    cancelled; 130: interrupted.
    """
    from cli.classify_words import Progress, sentence
    from cli.classifying import Note, Wish
    from cli.predict_command import read_columns
    from rubrika_client import ArgumentError, Client, Retry, ServiceError
    from rubrika_client.transport import is_special

    if PIPE not in (file, out) and out.exists() and out.samefile(file):
        raise click.UsageError("--out is FILE itself.")
    settings = Settings.from_env()
    progress = Progress(shown=not quiet)
    wanted = Wanted(
        out, _format(out, form), _thresholds(thresholds), bom=out != PIPE and not no_bom, raw=raw
    )  # fmt: skip
    options = {
        "name": name,
        "encoding": encoding,
        "delimiter": delimiter,
        "columns": read_columns(columns),
        "sheet": sheet,
        "on_error": on_error,
    }
    try:
        client = Client(
            url or settings.url or f"http://{_reached(settings)}:{settings.port}",
            key or settings.key or None,
            retry=Retry(attempts=10, notify=progress.retrying),
        )
    except ArgumentError as error:
        raise RubrikaError(str(error)) from error
    interruption = Interruption()
    note = None
    with ExitStack() as stack:
        stack.enter_context(client)
        try:
            stack.enter_context(interruption.caught())
            opened = stack.enter_context(_opened(file))
            wish = Wish(opened, None if file == PIPE else file.name, options, run)
            if out != PIPE and not is_special(out):
                note = stack.enter_context(Note(out).held())
            job = _run(client, wish, wanted, note, progress)
        except KeyboardInterrupt:
            progress.interrupted(client.url)
            sys.exit(EXIT_CODE + interruption.signal)
        except (ServiceError, TimeoutError) as error:
            raise RubrikaError(sentence(error, client.url, has_key=bool(key or settings.key))) from error
        finally:
            if note:
                note.remove_if_empty()
    sys.exit(FAILED_ROWS if job.rows.failed else 0)


def _run(client: "Client", wish: "Wish", wanted: Wanted, note: "Note | None", progress: Any) -> "Job":
    """Send, wait, fetch. Raises `ServiceError` and its kinds, and `RubrikaError` for a job that was cancelled."""
    from cli.classifying import Watcher, accepted

    _check(client, wanted)
    watcher = Watcher(progress.sent, progress.computed, progress.received)
    with progress.phase("upload", wish.size()):
        job = accepted(client, wish, note, watcher)
    progress.accepted(job)
    if not job.is_finished:
        with progress.phase("classify", job.rows.total):
            job = client.wait(job.id, progress=watcher.computed)
    if job.status == "cancelled":
        if note:
            note.remove()
        raise RubrikaError(
            f"The job {job.id} was cancelled after {job.rows.succeeded + job.rows.failed} of {job.rows.total} rows. "
            "`--run NAME` computes the file anew."
        )
    with progress.phase("download", None):
        _fetch(client, job, wanted, watcher.received)
    if note:
        note.remove()
    progress.finished(job, client.summary(job.id, thresholds=wanted.thresholds or None))
    return job


def _check(client: "Client", wanted: Wanted) -> None:
    """Find out before anything is sent whether the service is there and knows the topics that are named."""
    from rubrika_client import Client, NotFoundError, Retry

    # Nobody wants to wait for minutes to learn that an address is wrong.
    with Client(client.url, retry=Retry(attempts=2)) as hasty:
        hasty.ping()
    if not wanted.thresholds:
        return
    try:
        known = [topic.id for topic in client.topics().items]
    except NotFoundError:
        return  # No worker has loaded a model yet.
    for topic in wanted.thresholds:
        if topic not in known:
            raise click.BadParameter(f"The topics are {', '.join(known)}.", param_hint="--thresholds")


def _fetch(client: "Client", job: "Job", wanted: Wanted, received: Any) -> None:
    is_csv = wanted.form == "csv"

    def to(path: Path) -> None:
        client.download(
            job.id,
            path,
            form=wanted.form,
            thresholds=wanted.thresholds or None,
            received=received,
            bom=wanted.bom if is_csv else None,
            raw=wanted.raw if is_csv else None,
        )

    try:
        if wanted.out != PIPE:
            to(wanted.out)
            return
        # What has gone into a pipe cannot be taken back, should the connection break.
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "results"
            to(whole)
            with whole.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    except OSError as error:
        raise RubrikaError(f"{wanted.out} cannot be written: {error.strerror}.") from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """The file; a pipe is kept in a temporary file, because it is read twice."""
    if file != PIPE:
        with file.open("rb") as stream:
            yield stream
        return
    with tempfile.TemporaryFile() as copy, nullcontext(sys.stdin.buffer) as pipe:
        shutil.copyfileobj(pipe, copy)
        copy.seek(0)
        yield copy


def _format(out: Path, form: str | None) -> str:
    if form or out == PIPE:
        return form or "csv"
    found = ENDINGS.get(out.suffix.lower())
    if found is None:
        raise click.BadParameter(
            f"{out.name} ends in none of {', '.join(ENDINGS)}; --format says what to write.", param_hint="--out"
        )
    return found


def _thresholds(text: str | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in (text or "").split(","):
        topic, _, number = part.partition(":")
        if not part.strip():
            continue
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not topic.strip() or not 0 <= value <= 1:
            raise click.BadParameter(
                f"{part.strip()!r} is not TOPIC:NUMBER with a number from 0 to 1.", param_hint="--thresholds"
            )
        found[topic.strip()] = value
    return found


def _reached(settings: Settings) -> str:
    """The host by which a service is reached that listens as the settings say."""
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104  (everywhere, which is no place to go to)
        return "127.0.0.1"
    return f"[{settings.host}]" if ":" in settings.host else settings.host
