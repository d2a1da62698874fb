"""`rubrika tune`: search for the options of `rubrika train` that learn best."""

from pathlib import Path
from typing import Any

import click

from cli.model_commands import FILE, FOLDER, read_none, require_training, train, with_none_option
from jobs.errors import RubrikaError

BEST = "best.yaml"

NOT_MEASURED = ("ngram-share", "ngram-crops")
"""Options of the linear part, which is fitted when the network is done: no figure of a trial would show them."""

NOT_TUNED = ("run", "config", "out", "o", "folds", "oof", "folds-of", "none")


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RubrikaError(f"{file} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("ranges"), dict) or not content["ranges"]:
        raise RubrikaError(f"{file} must have `ranges:` with options of `rubrika train` below it.")
    return content


def _value(option: str, value: object, file: Path) -> Any:
    """Return what `--option value` would mean to `rubrika train`."""
    names = {name.lstrip("-"): one for one in train.params for name in one.opts}
    if option not in names or option in NOT_TUNED:
        raise RubrikaError(f"{file}: `rubrika train` has no option --{option} that could be tuned.")
    parameter = names[option]
    try:
        if parameter.multiple:
            return tuple(str(one) for one in (value if isinstance(value, list) else [value]))
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        return parameter.type_cast_value(click.Context(train), text)
    except click.BadParameter as error:
        raise RubrikaError(f"{file}: {option}: {error.message}") from error


def _range(option: str, span: object, file: Path) -> Any:
    from ml.tuning import Range

    if isinstance(span, list) and span:
        choices = tuple(_value(option, one, file) for one in span)
        if any(isinstance(one, tuple) for one in choices):
            raise RubrikaError(f"{file}: {option} is a list by itself, and cannot be searched.")
        return Range(choices=choices)
    if isinstance(span, dict) and {"low", "high"} <= set(span) <= {"low", "high", "step", "log"}:
        low, high = _value(option, span["low"], file), _value(option, span["high"], file)
        step = None if span.get("step") is None else _value(option, span["step"], file)
        if isinstance(low, int | float) and low < high and not (span.get("log") and (low <= 0 or step is not None)):
            return Range(low=low, high=high, step=step, log=bool(span.get("log")))
    raise RubrikaError(
        f"{file}: {option} must be a list of values, or low and high with low below high, and step or log: true "
        "(log from above 0) if you like."
    )


@click.command()
@click.argument("data_dir", type=FOLDER)
@click.option("--ranges", type=FILE, required=True, help="YAML: options of `train`, and `ranges:` of those to search.")
@click.option("-o", "--out", type=FOLDER, required=True, help="Folder for trials, report and best.yaml; go on with it.")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="How many to have in the end.")
@click.option("--base", help="Encoder to start from: a folder, or a name on the model hub.")
@click.option("--seed", type=int, help="Of the split, the trials and the search; default: as in the file, or 1.")
@click.option("--threads", type=click.IntRange(0), help="CPU threads; default: torch's own choice.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Default: CUDA where it is.")
@with_none_option
def tune(
    data_dir: Path,
    ranges: Path,
    out: Path,
    trials: int,
    none_files: tuple[str, ...],
    **given: Any,
) -> None:
    """Search for the options with which a network learns the posts of DATA_DIR best, and write them to best.yaml.

    What was tried is kept in --out: start the same command again to go on after a stop, or with more --trials.
    """
    require_training("optuna", "yaml")
    import yaml

    from ml import start, teachers
    from ml.errors import MlError
    from ml.train import TrainOptions
    from ml.tuning import tune as run

    content = _read(ranges)
    if unseen := [name for name in content["ranges"] if name in NOT_MEASURED]:
        raise RubrikaError(
            f"{ranges}: {', '.join(unseen)} cannot be searched: trials measure the network without its linear part."
        )
    spans = {name: _range(name, span, ranges) for name, span in content.pop("ranges").items()}
    fixed = {name: _value(name, value, ranges) for name, value in content.items()}
    taught_by = tuple(map(teachers.Teacher.parse, fixed.pop("teacher", ()))) or teachers.DEFAULT
    fixed |= {name: value for name, value in given.items() if value is not None}
    if not fixed.get("base"):
        raise RubrikaError(f"Name the encoder to start from, by --base or by `base:` in {ranges}.")
    try:
        options = TrainOptions(**{name.replace("-", "_"): value for name, value in fixed.items()})
        none, *_ = start.split_none(read_none(none_files), options)
        found = run(
            data_dir,
            out,
            options,
            {name.replace("-", "_"): one for name, one in spans.items()},
            trials,
            none,
            click.echo,
            taught_by,
        )
    except MlError as error:
        raise RubrikaError(str(error)) from error
    best = {
        **content,
        "base": fixed["base"],
        "seed": options.seed,
        **{name.replace("_", "-"): one for name, one in found.best.items()},
    }
    (out / BEST).write_text(yaml.safe_dump(best, allow_unicode=True, sort_keys=False), encoding="utf-8")
    chosen = ", ".join(f"{name} {value}" for name, value in found.best.items())
    click.echo(f"{found.trials} trials, {found.pruned} of them ended early. Best: {chosen}")
    click.echo(f"wrote {out}: trials.csv, report.html, {BEST}; train with `rubrika train ... --config {out / BEST}`")
