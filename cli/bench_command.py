"""`rubrika bench cpu`: which settings make this machine fastest."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cores import available_cores
from jobs.errors import RubrikaError
from jobs.settings import Settings

if TYPE_CHECKING:
    from cli.probing import Arrangement


@click.group()
def bench() -> None:
    """Measure this machine."""


@bench.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Model folder; default: RUBRIKA_MODEL, else the shipped one.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=5.0, show_default=True, help="For each arrangement."
)
def cpu(model: Path | None, seconds: float) -> None:
    """Try every backend, arithmetic and share of the cores on made-up posts, and say which settings are fastest here.

    Takes a minute or so; let nothing else run meanwhile. First each engine gets all cores in one process, then the
    fastest is tried in several processes. Probabilities differ between arithmetics in the third digit; `rubrika
    evaluate --arithmetic` tells how much a model loses by int8.
    """
    from cli.probing import Measured, best_of, engines, measure, shares
    from ml.backends import processor_flags

    settings, cores = Settings.from_env(), available_cores()
    folder = model or settings.model
    with tempfile.TemporaryDirectory(prefix="rubrika-bench-") as cache:
        measured: list[Measured] = []

        def try_all(arrangements: Sequence["Arrangement"]) -> None:
            for arrangement in arrangements:
                found = measure(arrangement, folder, Path(cache), seconds)
                measured.append(found)
                result = f"{found.rate:8.1f} posts/s" if found.rate else f"   not possible: {found.problem}"
                click.echo(f"{arrangement}  {result}", err=True)

        click.echo(f"{cores} cores; processes x threads", err=True)
        try_all(engines(processor_flags(), cores))
        best = best_of(measured)
        if not best.rate:
            raise RubrikaError(f"No engine runs {folder}: {best.problem}")
        try_all(shares(best.arrangement, cores))
    best = best_of(measured)
    click.echo(f"fastest here: {best.rate:.1f} posts/s with", err=True)
    for name, value in best.arrangement.settings.items():
        sys.stdout.write(f"{name}={value}\n")
