"""Fair turns between jobs, running sums for summaries, a cache of answers, and jobs that ask for one model.

Locks: the columns with constant defaults are added without rewriting a table; the index over waiting chunks is small,
because it covers only what waits. The index over failed rows reads all results once; until it is there nothing else
writes results.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "SET LOCAL lock_timeout = '10s'",
    "ALTER TABLE jobs ADD COLUMN rows_cached INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE jobs ADD COLUMN failures JSONB DEFAULT '{}' NOT NULL",
    "ALTER TABLE chunks ADD COLUMN turn BIGINT DEFAULT 0 NOT NULL",
    "ALTER TABLE chunks ADD COLUMN model_id INTEGER",
    "ALTER TABLE chunks ADD CONSTRAINT fk_chunks_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)",
    # Chunks that wait keep the order that they had: by row, then by job.
    "UPDATE chunks SET turn = first_row WHERE state IN ('queued', 'running')",
    """
    UPDATE jobs SET failures = counted.failures FROM (
        SELECT job_id, jsonb_object_agg(error_code, rows) AS failures
        FROM (SELECT job_id, error_code, count(*) AS rows FROM results WHERE error_code IS NOT NULL GROUP BY 1, 2) AS one
        GROUP BY 1) AS counted
    WHERE counted.job_id = jobs.id
    """,
    "DROP INDEX ix_chunks_waiting",
    "CREATE INDEX ix_chunks_waiting ON chunks (lane, turn, job_id) WHERE state = 'queued'",
    """
    CREATE TABLE tallies (
        job_id UUID NOT NULL,
        model_id INTEGER NOT NULL,
        thresholds REAL[] NOT NULL,
        computed INTEGER NOT NULL,
        truncated INTEGER NOT NULL,
        none_assigned INTEGER NOT NULL,
        probability_sums DOUBLE PRECISION[] NOT NULL,
        histogram INTEGER[] NOT NULL,
        assigned_together INTEGER[] NOT NULL,
        CONSTRAINT pk_tallies PRIMARY KEY (job_id, model_id),
        CONSTRAINT fk_tallies_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
        CONSTRAINT fk_tallies_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)
    )
    """,
    """
    CREATE UNLOGGED TABLE answers (
        model_id INTEGER NOT NULL,
        digest BYTEA NOT NULL,
        probabilities REAL[] NOT NULL,
        truncated BOOLEAN NOT NULL,
        used_on DATE DEFAULT CURRENT_DATE NOT NULL,
        CONSTRAINT pk_answers PRIMARY KEY (model_id, digest)
    )
    """,
    "CREATE INDEX ix_answers_used_on ON answers (used_on)",
    "CREATE INDEX ix_results_failed ON results (job_id, error_code, row_no) WHERE error_code IS NOT NULL",
    "COMMENT ON COLUMN jobs.rows_cached IS 'rows that were answered from texts seen before'",
    "COMMENT ON COLUMN jobs.failures IS 'failed rows by the code of their error'",
    "COMMENT ON COLUMN chunks.turn IS 'virtual time: the smallest waiting turn is claimed first, whatever its job'",
    "COMMENT ON COLUMN chunks.model_id IS 'the only model that may compute it; none: any'",
    "COMMENT ON COLUMN tallies.thresholds IS 'those that the counts were made with'",
    "COMMENT ON COLUMN tallies.histogram IS 'topics x bins, a topic after the other'",
    "COMMENT ON COLUMN tallies.assigned_together IS 'topics x topics, symmetric; the diagonal counts each topic'",
    "COMMENT ON COLUMN answers.digest IS 'of the three fields of a text'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP INDEX ix_results_failed",
        "DROP TABLE answers",
        "DROP TABLE tallies",
        "DROP INDEX ix_chunks_waiting",
        "CREATE INDEX ix_chunks_waiting ON chunks (lane, first_row, job_id) WHERE state = 'queued'",
        "ALTER TABLE chunks DROP COLUMN model_id, DROP COLUMN turn",
        "ALTER TABLE jobs DROP COLUMN failures, DROP COLUMN rows_cached",
    ):
        op.execute(statement)
