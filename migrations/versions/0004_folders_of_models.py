"""Where a model lies, so that workers can change over to it.

Locks: a column without a default is added without rewriting the table, which has a few rows.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE models ADD COLUMN folder TEXT")
    op.execute("COMMENT ON COLUMN models.folder IS 'where it was last loaded from; none: not known'")


def downgrade() -> None:
    op.execute("ALTER TABLE models DROP COLUMN folder")
