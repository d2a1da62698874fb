"""`rubrika calibrate`: fit probabilities and thresholds of a model to posts of one's own."""

from pathlib import Path
from typing import Any

import click

from cli.model_commands import FOLDER, read_none, with_measuring_options, with_none_option


@click.command()
@click.argument("model_dir", type=FOLDER)
@click.argument("data_dir", type=FOLDER)
@click.option("-o", "--out", type=FOLDER, required=True, help="Model folder to write.")
@click.option("--version", required=True, help="Version of the new model.")
@with_measuring_options
@with_none_option
def calibrate(
    model_dir: Path,
    data_dir: Path,
    out: Path,
    version: str,
    split: str,
    none_files: tuple[str, ...],
    **load: Any,
) -> None:
    """Calibrate MODEL_DIR anew on DATA_DIR, a folder of CSV files, one per topic, and write it to OUT.

    The network stays as it is; probabilities, thresholds and the figures of the card become those of these posts. They
    must not be posts that the model was trained on: of its own data, those that training held back are taken.
    """
    from ml.classifier import Classifier
    from ml.errors import MlError
    from ml.recalibrate import recalibrate

    try:
        figures, warnings = recalibrate(
            Classifier.load(model_dir, **load),
            model_dir,
            data_dir,
            out,
            version,
            split=split,
            none=read_none(none_files),
            threads=int(load["threads"]),
        )
    except MlError as error:
        raise click.ClickException(str(error)) from error
    for warning in warnings:
        click.echo(f"! {warning}")
    click.echo(f"wrote {out}; " + ", ".join(f"{name} {mean:.3f} ± {std:.3f}" for name, (mean, std) in figures.items()))
