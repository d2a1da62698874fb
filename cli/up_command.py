"""`rubrika up`: the command line of one-machine mode."""

import sys

import click


@click.command("up")
def up() -> None:
    """Start Rubrika on this machine: servers, API, workers. Ctrl-C stops all of it.

    PostgreSQL and Redis are embedded unless DATABASE_URL or REDIS_URL name others.
    """
    from jobs.settings import Settings
    from local.up import UpCommands, run_up

    def rubrika(command: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "cli.main", command)

    commands = UpCommands(
        migrate=rubrika("migrate"), api=rubrika("api"), worker=rubrika("worker"), sweeper=rubrika("sweeper")
    )
    sys.exit(run_up(Settings.from_env(), commands))
