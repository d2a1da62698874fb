"""`rubrika ...`: every command of the project. Heavy imports happen inside the commands, so that `--help` is quick."""

import os
import signal
import sys
import threading
from types import FrameType

import click

from cli.backup_command import backup, restore
from cli.bench_command import bench
from cli.calibrate_command import calibrate
from cli.classify_command import classify
from cli.compare_command import compare
from cli.data_commands import data
from cli.explain_command import explain
from cli.keys_command import keys
from cli.model_commands import COMMANDS as MODEL_COMMANDS
from cli.models_command import models
from cli.predict_command import predict
from cli.ranges_command import ranges
from cli.tune_command import tune
from cli.up_command import up
from jobs import logs
from jobs.errors import RubrikaError
from jobs.settings import Settings

PARTS = frozenset({"api", "local", "migrations", "ml", "rubrika_client", "web", "worker"})
"""Packages of Rubrika that some images leave out: each holds what it runs."""

EXTRAS = dict.fromkeys(("torch", "transformers", "sklearn", "optuna", "yaml"), "train")
"""What the default install leaves out, by the name under which it is imported, with the extra that brings it."""


class Rubrika(click.Group):
    """Ends with one sentence on stderr, and no traceback, for every error that Rubrika raises on purpose, and for what
    is not installed on purpose."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RubrikaError as error:
            reason = str(error)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in PARTS | set(EXTRAS):
                raise
            reason = _not_here(ctx.invoked_subcommand or "", missing)
        click.echo(f"rubrika: {reason}", err=True)
        sys.exit(2)


def _not_here(command: str, missing: str) -> str:
    """Why a command cannot run, and where it can."""
    if missing in EXTRAS:
        extra = f".venv/bin/pip install -c constraints.txt -e '.[{EXTRAS[missing]}]'"
        return f"`{command}` needs {missing}, which is not installed here. In a checkout: {extra}."
    return (
        f"`{command}` needs the part `{missing}` of Rubrika, which this image leaves out. Run it from a checkout "
        "(make up), or in the image that has it: rubrika-api has api and web, rubrika-worker has ml."
    )


@click.group(cls=Rubrika, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rubrika")
def main() -> None:
    """Topics for Russian social-media posts: the service, its parts, and its model."""


@main.command()
def migrate() -> None:
    """Bring the database at DATABASE_URL to the newest schema."""
    from jobs.migrate import upgrade

    settings = Settings.from_env()
    if not settings.database_url:
        raise RubrikaError("DATABASE_URL must be set; `rubrika up` migrates the database that it brings.")
    logs.configure(settings)
    upgrade(settings.database_url)


@main.command()
def api() -> None:
    """Serve the REST API and the page."""
    settings = _with_servers()
    from api.server import serve

    logs.configure(settings)
    serve(settings)


@main.command()
def worker() -> None:
    """Run one worker: load the model and answer bells."""
    settings = _with_servers()  # What is wrong with them is said at once: the libraries below take seconds to load.
    from ml.errors import MlError
    from worker.main import run_worker

    logs.configure(settings)
    try:
        another = run_worker(settings)
    except MlError as error:
        raise RubrikaError(str(error)) from error
    if another:
        # The same process, so that whoever started it need not notice; its memory and threads are new.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (our own command line)


@main.command()
def sweeper() -> None:
    """Run the sweeper: bring back what dead workers left, ring for what nobody heard."""
    settings = _with_servers()
    from worker.sweeper import run_sweeper

    logs.configure(settings)
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    run_sweeper(settings, stopping)


def _with_servers() -> Settings:
    """The settings of a process that cannot run without Postgres and Redis: those that are named, else those of the
    `rubrika up` that runs here."""
    from cli.servers import joined

    return joined(Settings.from_env())


main.add_command(up)
main.add_command(bench)
main.add_command(data)
main.add_command(compare)
main.add_command(tune)
main.add_command(calibrate)
main.add_command(ranges)
main.add_command(predict)
main.add_command(classify)
main.add_command(explain)
main.add_command(models)
main.add_command(keys)
main.add_command(backup)
main.add_command(restore)
for command in MODEL_COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
