"""`rubrika ranges`: let a model compute in 8 bits with fixed ranges, the fastest where there is VNNI and no AMX."""

import json
from pathlib import Path

import click

from cli.model_commands import FOLDER


@click.command()
@click.argument("model_dir", type=FOLDER)
@click.argument("data_dir", type=FOLDER)
@click.option("--version", default="", help="Version of the model with them; default: the one that it has.")
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads; 0: all.")
def ranges(model_dir: Path, data_dir: Path, version: str, threads: int) -> None:
    """Measure on DATA_DIR, a folder of CSV files, between which numbers the network of MODEL_DIR computes.

    The ranges are written into MODEL_DIR, with how well the network agrees with float32 within them, on posts that
    they were not measured on. `rubrika train` does this by itself; this is for older models. The digest of the folder
    changes, so that answers kept from before are computed again.
    """
    from ml import artifact, data, held, ranging, recalibrate
    from ml.errors import MlError

    try:
        model = artifact.read(model_dir)
        posts = held.with_topics_of(model.info, data.read_folder(data_dir), data_dir)
        learn, check, _ = held.parts(posts, held.read(model_dir), ranging.CHECK_SHARE, ranging.SEED)
        found = ranging.add(model_dir, learn.posts, check, threads)
        if version:
            settings, card = (
                json.loads((model_dir / name).read_text(encoding="utf-8"))
                for name in (artifact.SETTINGS, artifact.CARD)
            )
            recalibrate.rewrite(model_dir, model_dir, {**settings, "version": version}, card)
    except MlError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"wrote {model_dir / artifact.RANGES}; {ranging.told(found)}")
