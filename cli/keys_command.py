"""`rubrika keys ...`: who may use the service, and whose data they see."""

import json
from dataclasses import asdict
from typing import Any

import click

from jobs.errors import UnavailableError
from jobs.settings import Settings


@click.group()
def keys() -> None:
    """Create, list and revoke the keys that people and programs come in with (RUBRIKA_AUTH=keys)."""


@keys.command()
@click.argument("name")
@click.option("--owner", help="Whose data it opens; the same as NAME unless given. Several keys may have one owner.")
@click.option("--role", type=click.Choice(["user", "admin"]), default="user", show_default=True)
def create(name: str, owner: str | None, role: str) -> None:
    """Make a key called NAME and print it: it is shown now and never again, since only its SHA-256 is kept."""
    from jobs import keys as store
    from jobs.states import Role

    whose = owner or name

    def make(connection: Any) -> tuple[str, int]:
        _, secret = store.create(connection, name, whose, Role(role))
        return secret, store.owners_data(connection, whose)

    secret, jobs = _ask(make)
    click.echo(secret)
    there = f" {whose} has {jobs} files and texts already, which it opens." if jobs else ""
    click.echo(f"This is the key {name!r} of {whose} ({role}). Keep it now: it cannot be shown again.{there}", err=True)


@keys.command("list")
@click.option("--all", "with_revoked", is_flag=True, help="Revoked keys as well.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_keys(with_revoked: bool, as_json: bool) -> None:
    """The keys by their first characters; when each was used last is known to ten minutes."""
    from jobs import keys as store

    found = [key for key in _ask(store.all_keys) if with_revoked or key.revoked_at is None]
    if as_json:
        click.echo(json.dumps([asdict(key) for key in found], ensure_ascii=False, indent=1, default=str))
        return
    if not found:
        click.echo("There is no key: rubrika keys create NAME makes one.")
    for key in found:
        used = f"used {key.used_at:%Y-%m-%d %H:%M}" if key.used_at else "never used"
        ended = f", revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        click.echo(
            f"{key.hint}…  {key.name}  owner {key.owner}, {key.role}, created {key.created_at:%Y-%m-%d}, {used}{ended}"
        )


@keys.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Let nobody in any more with the key called NAME; sessions of the page that it began are over at once.

    The data of its owner stays, and another key of the same owner opens it.
    """
    from jobs import keys as store

    key = _ask(lambda connection: store.revoke(connection, name))
    click.echo(f"The key {key.name!r} ({key.hint}…) of {key.owner} opens nothing any more.")


def _ask(question: Any) -> Any:
    from cli.servers import database_url, not_reached
    from jobs.database import make_engine, run

    settings = Settings.from_env()
    engine = make_engine(database_url(settings), pool_size=1, application="rubrika keys")
    try:
        return run(engine, question)
    except UnavailableError as error:
        raise not_reached(error, settings) from error
    finally:
        engine.dispose()
