"""Where the database is, for commands that look at it from beside the service."""

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


def not_reached(error: UnavailableError, settings: Settings) -> RubrikaError:
    """The sentence for a database that does not answer."""
    where = "DATABASE_URL" if settings.database_url else f"the service that keeps its data in {settings.data_dir}"
    return RubrikaError(f"The database of {where} cannot be reached: is it running? {error}")
