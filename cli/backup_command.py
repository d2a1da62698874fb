"""`rubrika backup` and `rubrika restore`: the whole record in one file, and back."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Write everything that was accepted and computed into FILE, while the service runs or not.

    The database is that of DATABASE_URL, else the one in the data folder. The file has every text: keep it safe.
    """
    from jobs.settings import Settings
    from local.backup import backup as write

    size = write(Settings.from_env(), file)
    click.echo(f"{file}: {size / 1e6:,.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def restore(file: Path) -> None:
    """Fill an empty database from FILE, which `rubrika backup` has made, while nothing of Rubrika runs on it.

    The database is that of DATABASE_URL, else the one in the data folder, which is made when there is none. Work that
    was not finished goes on when the service is started. Keys are those of the day of the backup, nobody is signed in.
    """
    from jobs.settings import Settings
    from local.backup import restore as read

    keys = read(Settings.from_env(), file)
    click.echo(f"{file}: restored")
    if keys:
        click.echo(
            f"{keys} keys open it, those of the day of the backup: `rubrika keys list` shows them. "
            "One that was revoked since then opens it again until you revoke it again.",
            err=True,
        )
