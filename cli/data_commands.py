"""`rubrika data ...`: look at labelled posts before a model is trained on them.

Everything heavy is imported inside the functions, so that `rubrika --help` stays quick.
"""

import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from jobs.errors import RubrikaError

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def data() -> None:
    """Check and explore labelled posts: a folder of CSV files, one per topic."""


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--against", type=FOLDER, help="Another such folder: find posts that stand in both.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, with all places.")
@click.option("-o", "--out", type=FILE, help="Write the report to this HTML file too.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings as well.")
def check(folder: Path, against: Path | None, as_json: bool, out: Path | None, strict: bool) -> None:
    """Check FOLDER, which holds a CSV file per topic, or sub-folders train, valid, test that do.

    Exit code 0: it can be trained on; 1: something must be fixed; 2: it cannot be read at all.
    """
    from ml import report
    from ml.checking import check as run
    from ml.errors import MlError
    from ml.findings import Severity, as_text

    try:
        found = run(folder, against)
        if out is not None:
            report.write(out, report.render("check.html", report=found))
    except MlError as error:
        raise RubrikaError(str(error)) from error
    click.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=1) if as_json else as_text(found))
    sys.exit(1 if found.count(Severity.ERROR) or (strict and found.count(Severity.WARNING)) else 0)


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("-o", "--out", type=FILE, required=True, help="HTML file to write.")
@click.option("--suspects", type=FILE, help="Write all doubtful labels to this CSV file, for review.")
@click.option("--base", default="", help="Encoder for the map of texts, by folder or hub name; default: TF-IDF.")
@click.option("--prefix", default="", help="Put before every text that the encoder reads (`passage: ` for e5).")
@click.option("--seed", type=int, default=1, show_default=True)
def explore(folder: Path, out: Path, suspects: Path | None, **options: Any) -> None:
    """Write a report on FOLDER as one HTML file: balance, lengths, words, overlap, a map, doubtful labels.

    Nothing in it is loaded from elsewhere, and nothing is sent. Five thousand posts take a few minutes.
    """
    needed = ("sklearn", "torch", "transformers") if options["base"] else ("sklearn",)
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join("scikit-learn" if name == "sklearn" else name for name in missing)
        raise RubrikaError(f"This needs {names}: install what is missing by `make train-deps`.")
    from ml import report
    from ml.errors import MlError
    from ml.exploring import ExploreOptions, write_suspects
    from ml.exploring import explore as run

    def say(sentence: str) -> None:
        click.echo(sentence, err=True)

    try:
        found = run(folder, ExploreOptions(**options), say)
        report.write(out, found.page)
        if suspects is not None:
            write_suspects(suspects, found.doubts)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    click.echo(f"wrote {out}; {len(found.doubts)} doubtful labels{f' in {suspects}' if suspects else ''}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("-o", "--out", type=FILE, required=True, help="TSV file to write.")
def keys(folder: Path, out: Path) -> None:
    """Write every different post of FOLDER with its key and its topics, for who reads posts as a teacher.

    A table that `rubrika train` takes as --teacher may name posts by these keys. Who shall not see the labels is given
    the file without its column `topics`.
    """
    from ml.data import read_folder, write_keys
    from ml.errors import MlError

    try:
        posts = read_folder(folder)
        write_keys(out, posts)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    click.echo(f"wrote {out}; {len(posts.posts)} different posts")


@data.command("from-feedback")
@click.argument("out", type=FOLDER)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only what was said on this day (UTC) or later.")
@click.option("--merge", type=FOLDER, help="A folder of labelled posts to add; feedback is right where they disagree.")
def from_feedback(out: Path, since: datetime | None, merge: Path | None) -> None:
    """Write to OUT what people said is right, as a folder that `rubrika train` reads.

    The feedback is read from the database at DATABASE_URL, or from the one that `make up` has started. Posts with
    none of the topics go to OUT/none/feedback.csv, for `rubrika train --none`.
    """
    from cli.servers import database_url, not_reached
    from jobs import feedback, fleet
    from jobs.database import make_engine, transaction
    from jobs.errors import UnavailableError
    from jobs.settings import Settings
    from ml.data import TopicName
    from ml.errors import MlError
    from ml.from_feedback import NONE_FILE, Judged, write_folder
    from ml.posts import Post

    settings = Settings.from_env()
    engine = make_engine(database_url(settings), pool_size=1, application="rubrika data")
    try:
        with transaction(engine) as connection:
            # The active model comes first: its names and its order count.
            names: dict[str, TopicName] = {}
            for model in fleet.models(connection):
                for topic in model.topics:
                    names.setdefault(topic.id, TopicName(topic.id, topic.name, topic.name_en))
            found = [
                Judged(Post(one.doc_text, one.image2text, one.speech2text), frozenset(one.topics))
                for one in feedback.read_all(connection, since.replace(tzinfo=UTC) if since else None)
            ]
    except UnavailableError as error:
        raise not_reached(error, settings) from error
    try:
        written = write_folder(out, found, list(names.values()), merge)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    click.echo(f"{out}: {written.posts} posts with topics, {written.none} with none of them ({out / NONE_FILE}).")
    if written.replaced:
        click.echo(f"{written.replaced} judgements were replaced by later ones of the same text.")
    if written.corrected:
        click.echo(f"{written.corrected} posts of {merge} were corrected.")
