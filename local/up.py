"""`rubrika up`: everything on one machine, from the first check to the last goodbye."""

import errno
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TextIO

from jobs import keys
from jobs.cores import available_cores
from jobs.database import make_engine, run
from jobs.errors import StartError, UnavailableError
from jobs.settings import Settings
from local import checks
from local.postgres import EmbeddedPostgres
from local.processes import Child, StopOrder
from local.secret import secret_environment
from local.supervisor import StopRequestedError, Supervisor
from local.valkey import EmbeddedValkey

_READY_SECONDS = 180.0
_SERVER_SECONDS = 120.0
_MIGRATE_SECONDS = 600.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # A proxy has no say in loopback.


@dataclass(frozen=True)
class UpCommands:
    """The commands of Rubrika's own processes, as argument lists."""

    migrate: tuple[str, ...]
    api: tuple[str, ...]
    worker: tuple[str, ...]
    sweeper: tuple[str, ...]


def run_up(settings: Settings, commands: UpCommands, free_bytes: checks.FreeBytes = checks.free_bytes) -> int:
    """Start Rubrika, say when it is ready, keep it running until somebody asks to stop, and stop it in order.

    Returns the exit code: 0 after a wanted stop, 2 when something was in the way, which one sentence on stderr names.
    Call it from the main thread.
    """
    try:
        checks.check_exposure(settings)
        checks.check_trial(settings)
        checks.check_model(settings)
        with checks.locked(settings.data_dir, settings):
            checks.check_disk(settings.data_dir, free_bytes)
            checks.check_port(settings)
            with ExitStack() as afterwards, Supervisor(settings.data_dir / "logs", _warn) as supervisor:
                _serve(supervisor, settings, commands, afterwards)
        _say("Рубрика остановлена, всё принятое сохранено · Rubrika has stopped, everything accepted is kept")
        return 0
    except StartError as error:
        _warn(str(error))
    except OSError as error:
        _warn(_sentence(error, settings))
    return 2


def _serve(supervisor: Supervisor, settings: Settings, commands: UpCommands, afterwards: ExitStack) -> None:
    """Start everything in order and supervise it; returns when somebody asks to stop, whenever that is."""
    try:
        env = _start_servers(supervisor, settings, afterwards)
        supervisor.run_once(Child("migrate", commands.migrate, env), _MIGRATE_SECONDS)
        children = _processes(settings, commands, env)
        supervisor.start(*children)
        url = checks.local_url(settings)
        # Ready means that somebody classifies. Without workers of its own, whether others do is not waited for.
        probe = f"{url}/readyz" if settings.workers else f"{url}/healthz"
        workers = [child.name for child in children if child.rank == StopOrder.WORKERS]

        def warms_up() -> bool:
            # On a GPU the first start compiles for minutes, with a line in the log for each step.
            news = [name for name in workers if supervisor.has_news(name)]
            return bool(news) and _lacks_only_workers(probe)

        supervisor.wait(lambda: _answers(probe), _READY_SECONDS, "Rubrika", every=0.1, at_work=warms_up)
        _say(f"Рубрика готова: {url} (Ctrl-C останавливает) · Rubrika is ready")
        if settings.auth == "keys" and not _has_keys(env["DATABASE_URL"]):
            _say("Ключей ещё нет, создайте первый: rubrika keys create ИМЯ · No key yet: rubrika keys create NAME")
        supervisor.run()
    except StopRequestedError:
        return


def _start_servers(supervisor: Supervisor, settings: Settings, afterwards: ExitStack) -> dict[str, str]:
    """Start the servers that the settings do not name; returns the environment of Rubrika's own processes."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "RUBRIKA_DATA_DIR": str(settings.data_dir)}
    env |= secret_environment(settings)
    postgres = EmbeddedPostgres(settings.data_dir, {"max_connections": str(_connections(settings))})
    valkey = EmbeddedValkey(settings.data_dir)
    # Both are started before either is waited for.
    if not settings.database_url:
        supervisor.start(postgres.prepare())
        afterwards.callback(postgres.clean_up)
    if not settings.redis_url:
        supervisor.start(valkey.prepare())
        afterwards.callback(valkey.clean_up)
    if not settings.database_url:
        supervisor.wait(postgres.is_ready, _SERVER_SECONDS, "PostgreSQL", at_work=postgres.is_recovering)
    if not settings.redis_url:
        supervisor.wait(valkey.is_ready, _SERVER_SECONDS, "Valkey")
    env["DATABASE_URL"] = settings.database_url or postgres.url
    env["REDIS_URL"] = settings.redis_url or valkey.url
    # The addresses have their passwords now.
    env["DATABASE_PASSWORD_FILE"] = env["REDIS_PASSWORD_FILE"] = ""
    return env


def _connections(settings: Settings) -> int:
    """How many connections PostgreSQL must allow, so that every pool of `jobs.database` can be full at once.

    Each pool goes four beyond its size: that of an API process is its threads, that of a worker 4. The rest is for the
    sweeper, commands and backups, and for the three that PostgreSQL keeps for itself.
    """
    return max(100, settings.api_processes * (settings.api_threads + 4) + settings.workers * 8 + 20)


def _processes(settings: Settings, commands: UpCommands, env: Mapping[str, str]) -> list[Child]:
    """Rubrika's own processes. A worker may take long to stop: it finishes the chunk that it holds."""
    threads = settings.threads or max(1, available_cores() // max(1, settings.workers))
    worker_env = {**env, "RUBRIKA_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    names = ["worker"] if settings.workers == 1 else [f"worker-{n}" for n in range(1, settings.workers + 1)]
    return [
        Child("sweeper", commands.sweeper, env, StopOrder.SWEEPER),
        *(Child(name, commands.worker, worker_env, StopOrder.WORKERS, grace=60.0) for name in names),
        Child("api", commands.api, env, StopOrder.API, grace=30.0),
    ]


def _has_keys(database_url: str) -> bool:
    """Whether anybody could come in. A database that is away just now is no reason to say that nobody can."""
    engine = make_engine(database_url, pool_size=1, application="rubrika up")
    try:
        return any(key.revoked_at is None for key in run(engine, keys.all_keys))
    except UnavailableError:
        return True
    finally:
        engine.dispose()


def _answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _lacks_only_workers(url: str) -> bool:
    """Whether the API at this address of /readyz is up and finds that everything else is, too.

    A worker also prints something again and again while it cannot reach a server.
    """
    try:
        try:
            answer = _OPENER.open(url, timeout=2)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            checks = json.load(answer)["checks"]
            return bool(checks["postgres"]["ok"] and checks["redis"]["ok"] and not checks["worker"]["ok"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _sentence(error: OSError, settings: Settings) -> str:
    """What to say when the system refuses something during the start."""
    where = error.filename or settings.data_dir
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full ({where}): make room, or set RUBRIKA_DATA_DIR to a folder on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Rubrika may not write to {where}: set RUBRIKA_DATA_DIR to a folder of your own."
    return f"Rubrika cannot start ({error})."


def _say(text: str, stream: TextIO | None = None) -> None:
    """Print a line now. The terminal may be gone, which is no reason to stop less orderly."""
    try:
        print(text, file=stream or sys.stdout, flush=True)
    except OSError:
        return


def _warn(text: str) -> None:
    _say(f"rubrika: {text}", sys.stderr)
