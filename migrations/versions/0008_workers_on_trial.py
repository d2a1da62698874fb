"""Which workers are on trial, so that nobody counts on them for new texts.

Locks: a column with a constant default is added without rewriting the table, which has a row for each worker.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workers ADD COLUMN trial BOOLEAN DEFAULT false NOT NULL")
    op.execute("COMMENT ON COLUMN workers.trial IS 'computes only what names its model'")


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN trial")
