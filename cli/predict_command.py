"""`rubrika predict`: classify a file without any server.

Everything heavy is imported inside the functions, so that `rubrika --help` stays quick.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from cli.interruption import EXIT_CODE, Interruption
from jobs.errors import RubrikaError
from jobs.settings import Settings

if TYPE_CHECKING:
    from api.files import Limits, ReadOptions
    from cli.predicting import Incoming, Tally

PIPE = Path("-")
FAILED_ROWS = 1


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
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Model folder; default: RUBRIKA_MODEL, else the shipped one.",
)
@click.option("--format", "form", type=click.Choice(["csv", "ndjson"]), help="Default: by the name of --out, else csv.")
@click.option("--columns", multiple=True, metavar="FIELD=COLUMN", help="Which column is which field; may be repeated.")
@click.option("--encoding", help="Encoding of FILE; default: found.")
@click.option("--delimiter", help="What stands between cells of FILE; default: found.")
@click.option("--sheet", help="Sheet of a spreadsheet: its name, or its number from 1; default: the first.")
@click.option("--raw", is_flag=True, help="CSV: leave cells that a spreadsheet would compute as they are.")
@click.option("--quiet", is_flag=True, help="No progress and no summary on stderr.")
def predict(
    file: Path,
    out: Path,
    model: Path | None,
    form: str | None,
    columns: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    raw: bool,
    quiet: bool,
) -> None:
    """Classify the posts of FILE, or of a pipe (`-`), and write them with their results to --out, or to a pipe.

    FILE is anything that the service takes. Fields: doc_text, image2text, speech2text, custom_id. Exit code 0: every
    row has a result; 1: some have an error instead; 2: the file or the model cannot be used; 130: interrupted, and
    what is written is whole rows.
    """
    from api.files import Limits, ReadOptions
    from cli.predicting import predict as run
    from cli.results_out import CsvWriter, NdjsonWriter, ResultsWriter
    from ml.classifier import Classifier
    from ml.errors import MlError

    if PIPE not in (file, out) and out.exists() and out.samefile(file):
        raise click.UsageError("--out is FILE itself: it would be overwritten while it is read.")
    settings = Settings.from_env()
    options = ReadOptions(
        encoding=encoding, delimiter=_delimiter(delimiter), columns=read_columns(columns), sheet=sheet
    )
    form = form or ("ndjson" if out.suffix.lower() in (".ndjson", ".jsonl") else "csv")
    interruption = Interruption()
    progress = _Progress(shown=not quiet)
    try:
        with interruption.caught(), _opened(file, options, Limits.of(settings)) as incoming:
            classifier = Classifier.load(
                model or settings.model,
                device=settings.device,
                backend=settings.backend,
                arithmetic=settings.arithmetic,
                threads=settings.threads,
            )
            topics = [(topic.id, topic.threshold) for topic in classifier.info.topics]
            kind = CsvWriter if form == "csv" else NdjsonWriter
            writer: ResultsWriter = kind(incoming.columns, incoming.mapping, topics, defuse=not raw)
            with _written(out) as stream, progress.of(incoming, classifier.info.name):

                def write(block: bytes) -> None:
                    with interruption.postponed():
                        stream.write(block)
                        stream.flush()

                tally = run(incoming.reader, classifier, writer, write, progress.advance)
    except KeyboardInterrupt:
        progress.say(f"Interrupted after {progress.rows} rows; {'the pipe' if out == PIPE else out} has these, whole.")
        sys.exit(EXIT_CODE + interruption.signal)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    progress.say(
        f"{tally.rows} rows in {tally.seconds:.1f} s ({tally.rows / tally.seconds:.0f} rows/s); "
        f"{tally.failed} failed, {tally.without_topic} have no topic. Model: {classifier.info.name} "
        f"{classifier.info.version}."
    )
    sys.exit(FAILED_ROWS if tally.failed else 0)


def _opened(file: Path, options: "ReadOptions", limits: "Limits") -> "AbstractContextManager[Incoming]":
    from cli.predicting import LiveStream, incoming_file, incoming_pipe

    if file == PIPE:
        return incoming_pipe(cast(LiveStream, sys.stdin.buffer), options, limits)
    return incoming_file(file, options, limits)


@contextmanager
def _written(out: Path) -> Iterator[BinaryIO]:
    if out == PIPE:
        yield sys.stdout.buffer
        return
    try:
        with out.open("wb") as stream:
            yield stream
    except OSError as error:
        raise RubrikaError(f"{out} cannot be written: {error.strerror}.") from error


def read_columns(pairs: tuple[str, ...]) -> dict[str, str] | None:
    """`doc_text=Post` and its likes, or one JSON object as the service takes it."""
    if len(pairs) == 1 and pairs[0].lstrip().startswith("{"):
        try:
            return {str(name): str(column) for name, column in json.loads(pairs[0]).items()}
        except ValueError as error:
            raise click.BadParameter(f"{pairs[0]} is not JSON.", param_hint="--columns") from error
    if any("=" not in pair for pair in pairs):
        raise click.BadParameter("Write FIELD=COLUMN, for example doc_text=Post.", param_hint="--columns")
    return {field.strip(): column for field, column in (pair.split("=", 1) for pair in pairs)} or None


def _same(rate: str | None) -> str | None:
    return rate


def _delimiter(text: str | None) -> str | None:
    return "\t" if text in ("\\t", "tab") else text


class _Progress:
    """A bar on stderr where that is a terminal, and one sentence at the end in any case."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self.rows = 0

    @contextmanager
    def of(self, incoming: "Incoming", model: str) -> Iterator[None]:
        """Show a bar while the rows are computed; the length is unknown while a pipe is open."""
        if not (self._shown and sys.stderr.isatty()):
            yield
            return
        with click.progressbar(
            # A generator has no length, which is how the bar learns that it must do without.
            None if incoming.rows is not None else (None for _ in ()),
            length=incoming.rows,
            label=model,
            show_pos=True,
            item_show_func=_same,
            file=sys.stderr,
        ) as bar:
            self._bar = bar
            yield

    def advance(self, tally: "Tally") -> None:
        """Go on to where the tally is."""
        done, self.rows = tally.rows - self.rows, tally.rows
        if self._bar is not None:
            self._bar.update(done, f"{tally.rows / tally.seconds:.0f} rows/s")

    def say(self, sentence: str) -> None:
        """Write a sentence, unless silence was asked for."""
        if self._shown:
            click.echo(sentence, err=True)
