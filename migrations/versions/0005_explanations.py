"""Which words of a text speak for its topics.

Locks: a new table; of `jobs` only what a foreign key takes, which lets readers and writers go on.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE explanations (
        job_id UUID NOT NULL,
        row_no INTEGER NOT NULL,
        day DATE NOT NULL,
        with_text BOOLEAN NOT NULL,
        turn BIGINT DEFAULT '0' NOT NULL,
        state TEXT NOT NULL,
        model_id INTEGER,
        attempts SMALLINT DEFAULT '0' NOT NULL,
        asked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
        queued_at TIMESTAMP WITH TIME ZONE,
        lease UUID,
        lease_until TIMESTAMP WITH TIME ZONE,
        finished_at TIMESTAMP WITH TIME ZONE,
        fields TEXT[],
        starts INTEGER[],
        ends INTEGER[],
        weights REAL[],
        error_code TEXT,
        error_message TEXT,
        CONSTRAINT pk_explanations PRIMARY KEY (job_id, row_no),
        CONSTRAINT ck_explanations_state CHECK (state IN ('waiting', 'queued', 'running', 'done')),
        CONSTRAINT ck_explanations_model CHECK (state NOT IN ('queued', 'running') OR model_id IS NOT NULL),
        CONSTRAINT ck_explanations_queued CHECK (state <> 'queued' OR queued_at IS NOT NULL),
        CONSTRAINT ck_explanations_lease CHECK ((state = 'running') = (lease_until IS NOT NULL AND lease IS NOT NULL)),
        CONSTRAINT ck_explanations_finished CHECK ((state = 'done') = (finished_at IS NOT NULL)),
        CONSTRAINT ck_explanations_weights_or_error CHECK (
            (state = 'done') = ((weights IS NULL) <> (error_code IS NULL))),
        CONSTRAINT ck_explanations_places CHECK (
            (fields IS NULL) = (weights IS NULL) AND (starts IS NULL) = (fields IS NULL)
            AND (ends IS NULL) = (fields IS NULL) AND cardinality(starts) = cardinality(fields)
            AND cardinality(ends) = cardinality(fields)),
        CONSTRAINT fk_explanations_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
        CONSTRAINT fk_explanations_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)
    )
    """,
    "CREATE INDEX ix_explanations_queued ON explanations (turn, job_id, row_no) WHERE state = 'queued'",
    "CREATE INDEX ix_explanations_waiting ON explanations (job_id) WHERE state = 'waiting'",
    "CREATE INDEX ix_explanations_lease_until ON explanations (lease_until) WHERE state = 'running'",
    "COMMENT ON COLUMN explanations.day IS 'the partition of its text'",
    "COMMENT ON COLUMN explanations.with_text IS 'asked for together with the text: its job ends with it'",
    "COMMENT ON COLUMN explanations.turn IS 'virtual time: the smallest waiting turn is claimed first, whatever its job'",
    "COMMENT ON COLUMN explanations.model_id IS 'the model that classified the text, and alone may explain it; none: not yet'",
    "COMMENT ON COLUMN explanations.fields IS 'of each piece of the text'",
    "COMMENT ON COLUMN explanations.starts IS 'of each piece, in code points'",
    "COMMENT ON COLUMN explanations.weights IS 'topics x pieces, a topic after the other'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE explanations")
