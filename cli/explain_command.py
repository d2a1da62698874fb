"""`rubrika explain`: which words of a text speak for its topics."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.errors import RubrikaError
from jobs.settings import Settings

if TYPE_CHECKING:
    from ml.explain import Piece
    from ml.posts import Post

SHOWN = 6


@click.command()
@click.argument("text", default="")
@click.option("--image", default="", help="Text found in its picture.")
@click.option("--speech", default="", help="Text heard in its video.")
@click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    help="Model folder; default: RUBRIKA_MODEL, else the shipped one.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="All topics and words with field, start, end and weight, as JSON."
)
def explain(text: str, image: str, speech: str, model: Path | None, as_json: bool) -> None:
    """Say which words of TEXT speak for each of its topics, and which against it.

    The number behind a word is by how much the log-odds of the topic fall without it. Topics that are assigned are
    shown, or the most probable one where none is.
    """
    from ml.classifier import Classifier
    from ml.errors import MlError
    from ml.explain import explain as run
    from ml.posts import Post, is_empty

    post = Post(text, image, speech)
    if is_empty(post):
        raise click.UsageError("There is nothing to read: give TEXT, --image or --speech.")
    settings = Settings.from_env()
    try:
        classifier = Classifier.load(
            model or settings.model,
            device=settings.device,
            backend=settings.backend,
            arithmetic=settings.arithmetic,
            threads=settings.threads,
        )
        (probabilities,) = classifier.predict([post]).probabilities.tolist()
        found = run(classifier, post)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    topics = sorted(zip(probabilities, classifier.info.topics, strict=True), key=lambda pair: -pair[0])
    if as_json:
        pieces = {topic.id: [asdict(piece) for piece in found[topic.id]] for _, topic in topics}
        answer = {"probabilities": {topic.id: round(p, 6) for p, topic in topics}, "explanation": pieces}
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    assigned = [(p, topic) for p, topic in topics if p >= topic.threshold]
    if not assigned:
        click.echo("No topic is assigned; the most probable one:")
    for probability, topic in assigned or topics[:1]:
        click.echo(f"{topic.name} ({topic.id})  {probability:.2f}, threshold {topic.threshold:.2f}")
        click.echo(f"  for:     {_words(post, found[topic.id], 1) or '-'}")
        click.echo(f"  against: {_words(post, found[topic.id], -1) or '-'}")


def _words(post: "Post", pieces: "list[Piece]", sign: int) -> str:
    """The words that speak most for a topic, or with `sign` -1 against it."""
    chosen = sorted(
        (piece for piece in pieces if round(sign * piece.weight, 2) > 0), key=lambda one: -sign * one.weight
    )
    return ", ".join(
        f"{getattr(post, piece.field)[piece.start : piece.end]} {piece.weight:+.2f}" for piece in chosen[:SHOWN]
    )
