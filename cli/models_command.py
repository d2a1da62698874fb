"""`rubrika models ...`: which models there are, and which one new texts are given to."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from jobs.errors import NotFoundError, RubrikaError, UnavailableError
from jobs.records import Model, Topic
from jobs.settings import Settings

NAMES_SHOWN = 12


@click.group()
def models() -> None:
    """List, show and activate models of the running service."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_models(as_json: bool) -> None:
    """The models that the service knows, the active one first, and the workers that run each."""
    from jobs import fleet

    known, workers = _ask(lambda connection: (fleet.models(connection), fleet.workers(connection)))
    rows = [
        _outline(model) | {"workers": [asdict(one) for one in workers if one.model_id == model.id]} for model in known
    ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if not rows:
        click.echo("No worker has loaded a model yet.")
    for row in rows:
        mark = "*" if row["active"] else " "
        click.echo(f"{mark} {row['model']}  {len(row['workers'])} workers  {row['folder'] or 'folder not known'}")
        for worker in row["workers"]:
            trial = ", on trial: it computes only what names this model" if worker["trial"] else ""
            click.echo(f"    {worker['name']}: {worker['device']}{trial}")


@models.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The whole card, for programs.")
def show(model: str, as_json: bool) -> None:
    """The card of MODEL: a folder, or the `name` or `name@version` of a model that the service knows."""
    from ml import artifact
    from ml.errors import MlError

    if Path(model).is_dir():
        try:
            info = artifact.read(Path(model)).info
        except MlError as error:
            raise RubrikaError(str(error)) from error
        topics = tuple(Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in info.topics)
        outline: dict[str, Any] = {
            "model": f"{info.name}@{info.version}",
            "sha256": info.sha256,
            "folder": str(Path(model).absolute()),
        }
        card: Any = info.card
    else:
        found = _find(model)
        outline, topics, card = _outline(found), found.topics, dict(found.card)
    if as_json:
        click.echo(
            json.dumps(outline | {"topics": [vars(one) for one in topics], "card": card}, ensure_ascii=False, indent=1)
        )
        return
    for key, value in outline.items():
        click.echo(f"{key}: {value}")
    click.echo("topics: " + ", ".join(f"{topic.id} (from {topic.threshold:.3f})" for topic in topics))
    click.echo(json.dumps(card, ensure_ascii=False, indent=1))


@models.command()
@click.argument("model")
def activate(model: str) -> None:
    """Give all new texts to MODEL: a folder, or the `name` or `name@version` of a model that the service knows.

    Its folder must be there, on this machine and on those of the workers, at the same path. It is loaded and tried here
    first. Workers finish what they have in hand and change over within seconds; those that were started with
    RUBRIKA_MODEL stay with that.
    """
    from jobs import fleet
    from ml.classifier import Classifier
    from ml.errors import MlError

    settings = Settings.from_env()
    folder = Path(model)
    if not folder.is_dir():
        found = _find(model)
        if found.folder is None:
            raise RubrikaError(f"It is not known where {found.label} lies: name its folder.")
        folder = Path(found.folder)
    folder = folder.absolute()
    try:
        classifier = Classifier.load(
            folder,
            device=settings.device,
            backend=settings.backend,
            arithmetic=settings.arithmetic,
            threads=settings.threads,
            cache_dir=settings.data_dir / "cache",
        )
        classifier.warm_up()
    except MlError as error:
        raise RubrikaError(str(error)) from error
    info = classifier.info
    _ask(
        lambda connection: fleet.register_model(
            connection,
            name=info.name,
            version=info.version,
            sha256=info.sha256,
            topics=[Topic(topic.id, topic.name, topic.name_en, topic.threshold) for topic in info.topics],
            card=info.card,
            folder=str(folder),
        )
    )
    click.echo(
        f"{info.name}@{info.version} in {folder} is active. Workers change over when they have finished what they hold."
    )


def _ask(question: Any) -> Any:
    from cli.servers import database_url, not_reached
    from jobs.database import make_engine, run

    settings = Settings.from_env()
    engine = make_engine(database_url(settings), pool_size=1, application="rubrika models")
    try:
        return run(engine, question)
    except UnavailableError as error:
        raise not_reached(error, settings) from error
    finally:
        engine.dispose()


def _find(name: str) -> Model:
    from jobs import fleet

    known: list[Model] = _ask(fleet.models)
    for model in known:
        if name in {model.label, model.name}:
            return model
    names = ", ".join(model.label for model in known[:NAMES_SHOWN]) or "none"
    raise NotFoundError(f"{name!r} is neither a folder nor a model that the service knows; it knows {names}.")


def _outline(model: Model) -> dict[str, Any]:
    return {
        "model": model.label,
        "active": model.active,
        "sha256": model.sha256,
        "folder": model.folder,
        "registered_at": model.registered_at.isoformat(),
    }
