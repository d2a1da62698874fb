"""`rubrika train`, `rubrika evaluate`, `rubrika export`: make a model, measure it, write its graph.

Everything heavy is imported inside the functions, so that `rubrika --help` stays quick and needs no torch.
"""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ml.counter_examples import CounterExamples

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
BACKENDS = ("auto", "amx", "bytes", "openvino", "onnxruntime", "torch")
ARITHMETICS = ("auto", "float", "float32", "bfloat16", "int8", "int8-static")

TRAINING_PACKAGES = ("torch", "transformers", "sklearn")


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them, as a tuple."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        try:
            return tuple(int(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 4,8.", param, ctx)


class Part(click.ParamType[tuple[int, int]]):
    """One part of several, as a tuple of its number, from 1 on, and theirs."""

    name = "I/K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the two numbers."""
        found = re.fullmatch(r"(\d+)/(\d+)", str(value).strip())
        part, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= part <= count or count < 2:
            self.fail(f"{value!r} is no part such as 1/2.", param, ctx)
        return part, count


def require_training(*more: str) -> None:
    """Say how to install what training needs, and the packages `more`, unless all of it is there."""
    missing = [name for name in (*TRAINING_PACKAGES, *more) if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"Training needs {', '.join(missing)}: install what is missing by `make train-deps`."
        )


_measuring_options = (
    click.option(
        "--split",
        type=click.Choice(["auto", "validation", "all"]),
        default="auto",
        show_default=True,
        help="auto: the posts that training held back, where the data is the same as then; else all.",
    ),
    click.option("--backend", type=click.Choice(BACKENDS), default="auto"),
    click.option("--arithmetic", type=click.Choice(ARITHMETICS), default="auto", show_default=True),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads; 0: all."),
    click.option("--cache-dir", type=FOLDER, help="Where graphs are kept between starts."),
)


with_none_option = click.option(
    "--none",
    "none_files",
    multiple=True,
    metavar="FILE[=CATEGORIES]",
    help="CSV or TSV with a column `text`: texts on no topic; all of them, or those whose `category` is in the list "
    "with commas. May be given again.",
)


def read_none(files: Sequence[str]) -> "CounterExamples":
    """Return what the values of `--none` name; raises `DataError`."""
    from ml import counter_examples

    return counter_examples.read([counter_examples.Source.parse(one) for one in files])


def with_measuring_options(command: Any) -> Any:
    """Add the options that say which posts a model is measured on, and what runs it."""
    for option in reversed(_measuring_options):
        command = option(command)
    return command


def _as_typed(option: Any, value: Any) -> Any:
    """Return what would be typed for a value of YAML; nothing is an empty text."""
    texts = ["" if one is None else str(one) for one in (value if isinstance(value, list) else [value])]
    return texts if option.multiple else ",".join(texts)


def _configured(context: click.Context, option: click.Parameter, file: Path | None) -> None:
    """Take what the command line leaves open from a YAML file of options, named as on the command line."""
    if file is None:
        return
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise click.BadParameter(f"{file} cannot be read as YAML: {error}", context, option) from error
    known = {name.lstrip("-"): one for one in context.command.params for name in one.opts if one is not option}
    if not isinstance(content, dict) or not set(content) <= set(known):
        wrong = sorted(map(str, set(content) - set(known))) if isinstance(content, dict) else []
        told = f"{file} has {', '.join(wrong)}, which" if wrong else f"{file} is no list of `option: value`; it"
        raise click.BadParameter(
            f"{told} must be among {', '.join(sorted(set(known) - {'data_dir'}))}.", context, option
        )
    # A value is read as it would be on the command line, so that YAML's own idea of its type does not matter.
    context.default_map = {str(known[name].name): _as_typed(known[name], value) for name, value in content.items()}


@click.command()
@click.argument("data_dir", type=FOLDER)
@click.option(
    "--config",
    type=FILE,
    is_eager=True,
    expose_value=False,
    callback=_configured,
    help="YAML file of these options, without their dashes; what stands on the command line counts for more.",
)
@click.option(
    "--run",
    "run_folder",
    type=FOLDER,
    help="Folder for options, figures of each epoch and checkpoints; given again, a stopped run goes on.",
)
@click.option(
    "--base", required=True, help="What to start from: an encoder, by folder or hub name, or a model folder of Rubrika."
)
@click.option(
    "--average",
    multiple=True,
    help="Start from the mean of the weights of --base and of this model of the same kind; may be given again.",
)
@click.option(
    "--hold-back",
    type=Part(),
    help="Of the posts that the model --base has held back, hold back part I of K again, e.g. 1/2, and learn the rest.",
)
@click.option("-o", "--out", type=FOLDER, help="Model folder to write.")
@click.option("--folds", type=click.IntRange(2), help="Cross-validate instead of writing a model; needs --oof.")
@click.option(
    "--oof", type=FILE, help="With --folds: .npz file for what networks say of posts that they have not seen."
)
@click.option(
    "--folds-of",
    type=click.Choice(["learn", "all"]),
    default="learn",
    show_default=True,
    help="With --folds: the posts that a training with this seed learns from, or all.",
)
@click.option(
    "--teacher",
    "taught_by",
    multiple=True,
    metavar="FILE[=WEIGHT]",
    help="Who softens labels: a file by --oof, a table of per cents (TSV or CSV, a column per topic), `tfidf`, or "
    "`frozen`; several are averaged.  [default: tfidf]",
)
@click.option("--base-name", default="", help="Name of the base in the card, where --base is a folder.")
@click.option("--base-licence", default="", help="Licence of the base, for the card.")
@click.option("--name", default="", help="Name of the model; default: the name of the folder it is written to.")
@click.option("--version", default="1.0.0", show_default=True, help="Version of the model.")
@click.option("--prefix", default="", help="Put before every text, as the base was trained (`passage: ` for e5).")
@click.option("--clean", default="", help="Steps of cleaning, e.g. links,emoji; docs/training.md lists them.")
@click.option("--fields", type=click.Choice(["marked", "plain"]), default="marked", help="How fields become one text.")
@click.option("--pooling", type=click.Choice(["mean", "cls", "pooler"]), default="mean", show_default=True)
@click.option(
    "--merge-after",
    type=Numbers(),
    help="Make one of each two neighbouring tokens after so many layers, e.g. 4,8: what follows each is half the "
    "work. Empty: nowhere.  [default: as the base does]",
)
@click.option("--max-tokens", type=click.IntRange(8), default=256, show_default=True, help="Longest input.")
@click.option("--epochs", type=click.IntRange(0), default=4, show_default=True, help="0: the network stays as it is.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--lr", type=float, default=1e-4, show_default=True, help="Learning rate of the encoder.")
@click.option(
    "--layer-decay",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Learning rate of a layer over that of the layer above it.",
)
@click.option(
    "--teacher-weight", type=click.FloatRange(0, 1), default=0.4, show_default=True, help="Share of teachers."
)
@click.option("--teacher-base", default="", help="Encoder that the teacher `frozen` asks; default: the base.")
@click.option("--crop-share", type=click.FloatRange(0, 10), default=0.25, show_default=True, help="Crops per text.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=0,
    help="Stop after so many epochs without gain, take the best; 0: no.",
)
@click.option(
    "--ngram-share", type=click.FloatRange(0, 1), default=0.4, show_default=True, help="Share of the linear part."
)
@click.option(
    "--ngram-crops", type=click.IntRange(0), default=16, show_default=True, help="Crops per text for the linear part."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads; 0: torch's own choice.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@with_none_option
def train(
    data_dir: Path,
    out: Path | None,
    none_files: tuple[str, ...],
    folds: int | None,
    oof: Path | None,
    folds_of: str,
    taught_by: tuple[str, ...],
    run_folder: Path | None,
    **options: Any,
) -> None:
    """Train a model on DATA_DIR, a folder of CSV files, one per topic, and write a model folder.

    The name of a file is the id of its topic. Columns: doc_text, and if there are any image2text and speech2text.
    """
    if (folds is None) != (oof is None):
        raise click.UsageError("--folds and --oof belong together.")
    if (out is None) == (folds is None):
        raise click.UsageError("Give either -o FOLDER, to write a model, or --folds with --oof, to cross-validate.")
    if run_folder is not None and folds:
        raise click.UsageError("--run goes with one network; a cross-validation keeps its folds beside --oof.")
    require_training()
    from ml import crossval, start, teachers
    from ml.errors import MlError
    from ml.train import TrainOptions
    from ml.train import train as run

    try:
        none = read_none(none_files)
        parsed = tuple(map(teachers.Teacher.parse, taught_by)) or teachers.DEFAULT
        if oof is not None and folds is not None:
            if any(one.source not in teachers.BUILT_IN for one in parsed):
                raise click.UsageError(
                    "A file as --teacher does not go with --folds: the networks behind it learned from posts of the "
                    "fold that is asked about. The built-in teachers, tfidf and frozen, are made anew for each fold."
                )
            chosen = TrainOptions(**options)
            crossval.cross_validate(
                data_dir,
                oof,
                chosen,
                folds,
                none.learnable if folds_of == "all" else start.split_none(none, chosen)[0],
                whole_data=folds_of == "all",
                say=click.echo,
                taught_by=parsed,
            )
        elif out is not None:
            run(
                data_dir,
                out,
                TrainOptions(**{**options, "name": options["name"] or out.resolve().name}),
                none,
                say=click.echo,
                taught_by=parsed,
                run_folder=run_folder,
            )
    except MlError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("model_dir", type=FOLDER)
@click.argument("data_dir", type=FOLDER)
@click.option("--json", "json_file", type=FILE, help="Write the figures to this file too.")
@click.option("--html", "html_file", type=FILE, help="Write a report with curves and the worst errors, texts included.")
@click.option(
    "--into-card", is_flag=True, help="Let the model's card tell its reliability, for the page: for older models."
)
@with_measuring_options
@with_none_option
def evaluate(
    model_dir: Path,
    data_dir: Path,
    split: str,
    json_file: Path | None,
    html_file: Path | None,
    into_card: bool,
    none_files: tuple[str, ...],
    **load: Any,
) -> None:
    """Measure MODEL_DIR on DATA_DIR, a folder of CSV files, one per topic."""
    from ml import artifact, evaluate_report, report
    from ml.classifier import Classifier
    from ml.errors import MlError
    from ml.evaluate import evaluate as measure
    from ml.evaluate import table

    try:
        classifier = Classifier.load(model_dir, **load)
        found = measure(
            classifier,
            model_dir,
            data_dir,
            split=split,
            none=read_none(none_files),
        )
        click.echo(table(found))
        if html_file is not None:
            report.write(html_file, evaluate_report.page(found, classifier.info))
        if into_card and found.reliability is None:
            raise click.ClickException("Only what training held back tells the reliability of a model: see --split.")
        if into_card:
            artifact.add_to_card(model_dir, {"reliability": found.reliability})
    except MlError as error:
        raise click.ClickException(str(error)) from error
    if json_file is not None:
        # Figures go where texts should not.
        figures = {name: value for name, value in dataclasses.asdict(found).items() if name != "doubtful"}
        content = json.dumps(figures, ensure_ascii=False, indent=1)
        try:
            json_file.write_text(content + "\n", encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{json_file} cannot be written: {error.strerror}.") from error


@click.command()
@click.argument("model_dir", type=FOLDER)
@click.option("-o", "--out", type=FILE, default=Path("model.onnx"), show_default=True, help="File to write.")
def export(model_dir: Path, out: Path) -> None:
    """Write the network of MODEL_DIR as an ONNX file, for other runtimes.

    Inputs `input_ids` and `attention_mask`, int64 (batch, length); output `logits`, float32 (batch, topics), before
    calibration. Rubrika itself needs no such file: it makes its own on first use.
    """
    from ml import artifact, graph
    from ml.errors import MlError

    try:
        graph.write(artifact.read(model_dir), out)
    except MlError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}.") from error
    click.echo(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB")


COMMANDS = [train, evaluate, export]
