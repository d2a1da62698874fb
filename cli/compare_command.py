"""`rubrika compare`: which kind of classifier, and which preparation of the posts, is best for these posts."""

import importlib.util
from pathlib import Path

import click

from jobs.errors import RubrikaError

FOLDER = click.Path(path_type=Path, file_okay=False)

PLAIN = "tfidf-logistic,tfidf-logistic:single,tfidf-svm,tfidf-svm:single,tfidf-forest,fasttext,fasttext:single"
ENCODERS = "frozen,frozen:single,tuned,tuned:single"


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


@click.command()
@click.argument("data_dir", type=FOLDER)
@click.option("-o", "--out", type=FOLDER, required=True, help="Folder for trials, table and report; go on with it.")
@click.option(
    "--candidates", "names", default="", help="E.g. tfidf-svm,tuned:single; default: all, or with --ablate one."
)
@click.option(
    "--base", "bases", multiple=True, help="Encoder for `frozen` and `tuned`, folder or hub name; repeatable."
)
@click.option("--prefix", default="", help="Put before every text that an encoder reads (`passage: ` for e5).")
@click.option("--epochs", type=click.IntRange(1), default=4, show_default=True, help="Epochs of fine-tuning.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True, help="Of the folds and of the candidates.")
@click.option("--clean", default="", help="Steps of cleaning, e.g. links,emoji; docs/training.md lists them.")
@click.option("--fields", type=click.Choice(["marked", "plain"]), default="marked", show_default=True)
@click.option("--ablate", is_flag=True, help="Try each step of cleaning, and markers of fields, on and off.")
@click.option("--card", type=FOLDER, help="Write table and choice into the card of this model folder.")
def compare(
    data_dir: Path,
    out: Path,
    names: str,
    bases: tuple[str, ...],
    prefix: str,
    epochs: int,
    folds: int,
    seeds: str,
    clean: str,
    fields: str,
    ablate: bool,
    card: Path | None,
) -> None:
    """Compare classifiers on DATA_DIR, a folder of CSV files, one per topic, by cross-validation.

    What was tried is kept in --out and not tried again: start the same command again to go on after a stop.
    """
    needed = {"sklearn": "scikit-learn", "torch": "torch", "transformers": "transformers"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise RubrikaError(f"This needs {', '.join(missing)}: install what is missing by `make train-deps`.")
    from ml import artifact, compare_report
    from ml.candidates import EncoderOptions, candidates
    from ml.cleaning import Cleaning
    from ml.comparing import Preparation, ablation
    from ml.comparing import compare as run
    from ml.errors import MlError
    from ml.posts import fields_named

    default = "tfidf-logistic" if ablate else PLAIN + (f",{ENCODERS}" if bases else "")
    try:
        numbers = [int(seed) for seed in _listed(seeds)]
    except ValueError as error:
        raise RubrikaError(f"--seeds must be whole numbers with commas between them, not {seeds!r}.") from error
    if not numbers:
        raise RubrikaError("--seeds names no seed.")
    try:
        if card is not None:
            # A wrong folder is told before hours are spent.
            artifact.read(card)
        start = Preparation(Cleaning.parse(clean), fields_named(fields))
        chosen = candidates(_listed(names) or _listed(default), bases, EncoderOptions(prefix, epochs))
        found = run(
            data_dir,
            out,
            chosen,
            ablation(start) if ablate else [start],
            folds,
            numbers,
            lambda line: click.echo(line, err=True),
        )
        compare_report.write(out, found)
        if card is not None:
            compare_report.write_into_card(card, found)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    click.echo(compare_report.as_text(found))
    click.echo(f"wrote {out}/report.html, table.csv, table.json, table.md{f'; told in {card}' if card else ''}")
