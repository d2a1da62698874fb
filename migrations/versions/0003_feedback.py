"""What people say is right.

Locks: a new table; nothing that exists is touched.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE feedback (
        job_id UUID NOT NULL,
        row_no INTEGER NOT NULL,
        owner TEXT NOT NULL,
        topics TEXT[] NOT NULL,
        doc_text TEXT NOT NULL,
        image2text TEXT NOT NULL,
        speech2text TEXT NOT NULL,
        model_id INTEGER,
        given_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        CONSTRAINT pk_feedback PRIMARY KEY (job_id, row_no),
        CONSTRAINT fk_feedback_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)
    )
    """,
    "CREATE INDEX ix_feedback_given_at ON feedback (given_at)",
    "COMMENT ON COLUMN feedback.topics IS 'the right ones; empty: none of the topics'",
    "COMMENT ON COLUMN feedback.doc_text IS 'a copy: the text itself expires with its day'",
    "COMMENT ON COLUMN feedback.model_id IS 'the model whose answer was judged; none: there was none yet'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE feedback")
