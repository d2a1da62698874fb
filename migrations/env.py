"""Alembic's entry: it migrates the database that `jobs.migrate` hands over, or the one in DATABASE_URL."""

from alembic import context

from jobs.database import make_engine
from jobs.migrate import is_ours
from jobs.schema import metadata
from jobs.settings import Settings


def run() -> None:
    """Run the migrations on the connection given by `jobs.migrate`, or on one of our own."""
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    engine = make_engine(Settings.from_env().database_url, pool_size=1, application="rubrika migrate")
    with engine.connect() as connection:
        _migrate(connection)
        connection.commit()
    engine.dispose()


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=is_ours,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
