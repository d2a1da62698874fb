"""Where the servers are, for commands that look at the database from beside the service, and processes that join it."""

from dataclasses import replace

from jobs.errors import RubrikaError, UnavailableError
from jobs.settings import Settings


def database_url(settings: Settings) -> str:
    """The database of DATABASE_URL, else the one that `rubrika up` keeps in the data folder.

    Raises `RubrikaError` when there is neither. Whether the server answers shows when it is asked.
    """
    if settings.database_url:
        return settings.database_url
    # Not sooner: the images of containers have no embedded server, and there the database is always named.
    from local.postgres import EmbeddedPostgres

    try:
        return EmbeddedPostgres(settings.data_dir).url
    except RubrikaError as error:
        raise RubrikaError(
            f"There is no database in {settings.data_dir}: start the service (`make up`), or set DATABASE_URL or "
            "RUBRIKA_DATA_DIR to those of the service."
        ) from error


def joined(settings: Settings) -> Settings:
    """The settings with both servers: those that are named, else those of a `rubrika up` that runs on the data folder.

    Nothing is started, made or locked for that. Raises `RubrikaError` when nothing runs there.
    """
    if settings.database_url and settings.redis_url:
        return settings
    try:
        from local.postgres import EmbeddedPostgres
        from local.valkey import EmbeddedValkey
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "local":
            raise
        raise RubrikaError("DATABASE_URL and REDIS_URL must be set: this image has no servers of its own.") from error

    folder = settings.data_dir
    nobody = RubrikaError(
        f"No service runs on {folder}: start it (`make up`), set RUBRIKA_DATA_DIR to the folder of one that runs, or "
        "set DATABASE_URL and REDIS_URL."
    )
    if not settings.database_url:
        try:
            settings = replace(settings, database_url=EmbeddedPostgres(folder).url)
        except (RubrikaError, OSError) as error:
            raise nobody from error
        if not _answers(settings.database_url):
            raise nobody
    if not settings.redis_url:
        valkey = EmbeddedValkey(folder)
        if not valkey.is_ready():
            raise nobody
        settings = replace(settings, redis_url=valkey.url)
    return settings


def _answers(database_url: str) -> bool:
    from sqlalchemy import text

    from jobs.database import make_engine, run

    engine = make_engine(database_url, pool_size=1, application="rubrika joins")
    try:
        return bool(run(engine, lambda connection: connection.execute(text("SELECT true")).scalar_one()))
    except UnavailableError:
        return False
    finally:
        engine.dispose()


def not_reached(error: UnavailableError, settings: Settings) -> RubrikaError:
    """The sentence for a database that does not answer."""
    where = "DATABASE_URL" if settings.database_url else f"the service that keeps its data in {settings.data_dir}"
    return RubrikaError(f"The database of {where} cannot be reached: is it running? {error}")
