"""The tables, with the CHECK constraints that refuse impossible rows.

`texts` and `results` are partitioned by the day on which their job was created, so that retention drops a partition
instead of deleting rows. `jobs.day` and `chunks.day` name the partition, so that every query on them reads one.
The schema itself is built by Alembic (`migrations/`); a test holds the two equal.
"""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from jobs.states import TERMINAL_STATES, ChunkState, ExplanationState, JobKind, JobState, Role

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
)


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


_TERMINAL = _one_of("state", sorted(TERMINAL_STATES))

models = Table(
    "models",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("topics", JSONB, nullable=False, comment="[{id, name, name_en, threshold}] in the order of the network"),
    Column("topic_ids", ARRAY(Text), nullable=False),
    Column("thresholds", ARRAY(REAL), nullable=False),
    Column("card", JSONB, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("false")),
    Column("folder", Text, comment="where it was last loaded from; none: not known"),
    Column("registered_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("sha256"),
    CheckConstraint("cardinality(topic_ids) > 0 AND cardinality(topic_ids) = cardinality(thresholds)", name="topics"),
)
Index("uq_models_active", models.c.active, unique=True, postgresql_where=text("active"))

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True, comment="UUIDv7: sorts by time of creation"),
    Column("day", Date, nullable=False, comment="the partition of its texts and results"),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("filename", Text),
    Column("layout", JSONB, nullable=False, comment="format, encoding, delimiter, columns and mapping of a file"),
    Column("model_id", Integer, ForeignKey("models.id")),
    Column("rows_total", Integer, nullable=False),
    Column("rows_succeeded", Integer, nullable=False, server_default=text("0")),
    Column("rows_failed", Integer, nullable=False, server_default=text("0")),
    Column(
        "rows_cached",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="rows that were answered from texts seen before",
    ),
    Column(
        "failures",
        JSONB,
        nullable=False,
        server_default=text("'{}'"),
        comment="failed rows by the code of their error",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("idempotency_key", Text),
    Column("fingerprint", Text, comment="SHA-256 of the request that created it"),
    CheckConstraint(_one_of("kind", list(JobKind)), name="kind"),
    CheckConstraint(_one_of("state", list(JobState)), name="state"),
    CheckConstraint(f"(finished_at IS NOT NULL) = ({_TERMINAL})", name="finished"),
    CheckConstraint(
        "rows_total > 0 AND rows_succeeded >= 0 AND rows_failed >= 0 AND rows_succeeded + rows_failed <= rows_total",
        name="rows",
    ),
    CheckConstraint(
        "state NOT IN ('succeeded', 'partially_succeeded', 'failed') OR rows_succeeded + rows_failed = rows_total",
        name="complete",
    ),
    CheckConstraint("(idempotency_key IS NULL) = (fingerprint IS NULL)", name="idempotency"),
    UniqueConstraint("owner", "idempotency_key"),
)
Index("ix_jobs_owner_kind_id", jobs.c.owner, jobs.c.kind, jobs.c.id)
Index("ix_jobs_unfinished", jobs.c.id, postgresql_where=text(f"NOT ({_TERMINAL})"))
Index("ix_jobs_unfinished_owner", jobs.c.owner, postgresql_where=text(f"NOT ({_TERMINAL})"))
Index("ix_jobs_day", jobs.c.day)

chunks = Table(
    "chunks",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("first_row", Integer, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column(
        "turn",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="virtual time: the smallest waiting turn is claimed first, whatever its job",
    ),
    Column(
        "model_id",
        Integer,
        ForeignKey("models.id"),
        comment="the only model that may compute it; none: any",
    ),
    Column("state", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0"), comment="begun so often"),
    Column("queued_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("lease", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("job_id", "first_row"),
    CheckConstraint(_one_of("state", list(ChunkState)), name="state"),
    CheckConstraint("first_row > 0 AND row_count > 0", name="rows"),
    CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="lease_until"),
    CheckConstraint("lease IS NOT NULL OR state IN ('queued', 'cancelled')", name="lease"),
    CheckConstraint("(state IN ('done', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"),
)
Index(
    "ix_chunks_waiting",
    chunks.c.lane,
    chunks.c.turn,
    chunks.c.job_id,
    postgresql_where=text("state = 'queued'"),
)
Index("ix_chunks_lease_until", chunks.c.lease_until, postgresql_where=text("state = 'running'"))
Index("ix_chunks_lease", chunks.c.lease, postgresql_where=text("lease IS NOT NULL"))
Index("ix_chunks_open", chunks.c.job_id, postgresql_where=text("state IN ('queued', 'running')"))
Index("ix_chunks_job_id_finished_at", chunks.c.job_id, chunks.c.finished_at)

texts = Table(
    "texts",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("row_no", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("doc_text", Text, nullable=False),
    Column("image2text", Text, nullable=False),
    Column("speech2text", Text, nullable=False),
    Column("custom_id", Text),
    Column("extra", JSONB, comment="the other columns of the file"),
    Column("error_code", Text, comment="why this row cannot be given to a model, found when it was read"),
    Column("error_message", Text),
    Column("error_column", Text),
    PrimaryKeyConstraint("job_id", "row_no", "day"),
    postgresql_partition_by="RANGE (day)",
)

results = Table(
    "results",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("row_no", Integer, nullable=False),
    Column("day", Date, nullable=False),
    Column("model_id", Integer, comment="the model that made it; none for a row that never reached one"),
    Column("probabilities", ARRAY(REAL), comment="in the order of the model's topics"),
    Column("truncated", Boolean, nullable=False, server_default=text("false")),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_column", Text),
    PrimaryKeyConstraint("job_id", "row_no", "day"),
    CheckConstraint("(probabilities IS NULL) = (error_code IS NOT NULL)", name="result_or_error"),
    CheckConstraint("probabilities IS NULL OR model_id IS NOT NULL", name="model"),
    postgresql_partition_by="RANGE (day)",
)

Index(
    "ix_results_failed",
    results.c.job_id,
    results.c.error_code,
    results.c.row_no,
    postgresql_where=text("error_code IS NOT NULL"),
)

explanations = Table(
    "explanations",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("row_no", Integer, nullable=False),
    Column("day", Date, nullable=False, comment="the partition of its text"),
    Column("with_text", Boolean, nullable=False, comment="asked for together with the text: its job ends with it"),
    Column(
        "turn",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="virtual time: the smallest waiting turn is claimed first, whatever its job",
    ),
    Column("state", Text, nullable=False),
    Column(
        "model_id",
        Integer,
        ForeignKey("models.id"),
        comment="the model that classified the text, and alone may explain it; none: not yet",
    ),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("queued_at", DateTime(timezone=True)),
    Column("lease", Uuid),
    Column("lease_until", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("fields", ARRAY(Text), comment="of each piece of the text"),
    Column("starts", ARRAY(Integer), comment="of each piece, in code points"),
    Column("ends", ARRAY(Integer)),
    Column("weights", ARRAY(REAL), comment="topics x pieces, a topic after the other"),
    Column("error_code", Text),
    Column("error_message", Text),
    PrimaryKeyConstraint("job_id", "row_no"),
    CheckConstraint(_one_of("state", list(ExplanationState)), name="state"),
    CheckConstraint("state NOT IN ('queued', 'running') OR model_id IS NOT NULL", name="model"),
    CheckConstraint("state <> 'queued' OR queued_at IS NOT NULL", name="queued"),
    CheckConstraint("(state = 'running') = (lease_until IS NOT NULL AND lease IS NOT NULL)", name="lease"),
    CheckConstraint("(state = 'done') = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint("(state = 'done') = ((weights IS NULL) <> (error_code IS NULL))", name="weights_or_error"),
    CheckConstraint(
        "(fields IS NULL) = (weights IS NULL) AND (starts IS NULL) = (fields IS NULL) "
        "AND (ends IS NULL) = (fields IS NULL) AND cardinality(starts) = cardinality(fields) "
        "AND cardinality(ends) = cardinality(fields)",
        name="places",
    ),
)
"""Which words speak for the topics of a text: both the queue of what is asked for and the record of what was found.

A row is changed three times and read by its key. There are few of them, because each costs a hundred times what its
text cost: so they need no partitions, and go with their job when its day is over."""
Index(
    "ix_explanations_queued",
    explanations.c.turn,
    explanations.c.job_id,
    explanations.c.row_no,
    postgresql_where=text("state = 'queued'"),
)
Index("ix_explanations_waiting", explanations.c.job_id, postgresql_where=text("state = 'waiting'"))
Index("ix_explanations_lease_until", explanations.c.lease_until, postgresql_where=text("state = 'running'"))

feedback = Table(
    "feedback",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("row_no", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("topics", ARRAY(Text), nullable=False, comment="the right ones; empty: none of the topics"),
    Column("doc_text", Text, nullable=False, comment="a copy: the text itself expires with its day"),
    Column("image2text", Text, nullable=False),
    Column("speech2text", Text, nullable=False),
    Column(
        "model_id",
        Integer,
        ForeignKey("models.id"),
        comment="the model whose answer was judged; none: there was none yet",
    ),
    Column("given_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("job_id", "row_no"),
)
Index("ix_feedback_given_at", feedback.c.given_at)

tallies = Table(
    "tallies",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("model_id", Integer, ForeignKey("models.id"), nullable=False),
    Column("thresholds", ARRAY(REAL), nullable=False, comment="those that the counts were made with"),
    Column("computed", Integer, nullable=False),
    Column("truncated", Integer, nullable=False),
    Column("none_assigned", Integer, nullable=False),
    Column("probability_sums", ARRAY(Double), nullable=False),
    Column("histogram", ARRAY(Integer), nullable=False, comment="topics x bins, a topic after the other"),
    Column(
        "assigned_together",
        ARRAY(Integer),
        nullable=False,
        comment="topics x topics, symmetric; the diagonal counts each topic",
    ),
    PrimaryKeyConstraint("job_id", "model_id"),
)
"""Running sums over the results of a job, so that its summary does not read a million rows."""

answers = Table(
    "answers",
    metadata,
    # No foreign key: models are never removed, and checking it would cost each of a million rows some microseconds.
    Column("model_id", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="of the three fields of a text"),
    Column("probabilities", ARRAY(REAL), nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("used_on", Date, nullable=False, server_default=func.current_date()),
    PrimaryKeyConstraint("model_id", "digest"),
    prefixes=["UNLOGGED"],
)
"""What a model has said of texts before. Unlogged: a crash of Postgres empties it, which costs only time."""
Index("ix_answers_used_on", answers.c.used_on)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True, comment="host:pid:start"),
    Column("model_id", Integer, ForeignKey("models.id"), nullable=False),
    Column("device", Text, nullable=False),
    Column(
        "trial", Boolean, nullable=False, server_default=text("false"), comment="computes only what names its model"
    ),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the key, which itself is kept nowhere"),
    Column("hint", Text, nullable=False, comment="the first characters of the key, to tell it from others"),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False, comment="whose data it opens; several keys may have one owner"),
    Column("role", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("used_at", DateTime(timezone=True), comment="ten minutes behind at most"),
    Column("revoked_at", DateTime(timezone=True)),
    UniqueConstraint("digest"),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
    CheckConstraint("name <> '' AND owner <> ''", name="names"),
    CheckConstraint(_one_of("role", list(Role)), name="role"),
)
Index("uq_api_keys_name", api_keys.c.name, unique=True, postgresql_where=text("revoked_at IS NULL"))

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the token in the cookie"),
    Column("key_id", Integer, ForeignKey("api_keys.id"), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=func.now(), comment="a minute behind"),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
)
"""Browsers that are signed in. A session ends with its key, at its time, or when its row is deleted."""
Index("ix_sessions_key_id", sessions.c.key_id)

meters = Table(
    "meters",
    metadata,
    Column(
        "source",
        Text,
        nullable=False,
        comment="the worker by its name; sweeper; or past: the sum of workers that are gone",
    ),
    Column("name", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("source", "name"),
    # Every row is written again and again, and an update that finds room in its page touches no index.
    postgresql_with={"fillfactor": 50},
)
"""Sums of what was done, a row per worker so that no two wait for each other. Read by `jobs.meters`."""
