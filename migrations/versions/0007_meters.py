"""Sums of what workers and sweepers have done.

Locks: a new table; nothing that exists is touched.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE meters (
        source TEXT NOT NULL,
        name TEXT NOT NULL,
        value DOUBLE PRECISION NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_meters PRIMARY KEY (source, name)
    ) WITH (fillfactor = 50)
    """,
    "COMMENT ON COLUMN meters.source IS 'the worker by its name; sweeper; or past: the sum of workers that are gone'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE meters")
