"""Tables of the `jobs` room: the lease table, the step journal and the logs."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from penstock.store.control.metadata import Nanoseconds, Serial, metadata

_ACTIVE = text("state IN ('queued', 'running')")

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(80), nullable=False),
    # JSON as text here and below: what a step returned is given back exactly, whatever the database.
    Column("spec", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("progress", Float),
    Column("message", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("not_before_ns", Nanoseconds, nullable=False),
    Column("is_cancel_requested", Boolean, nullable=False),
    Column("dedupe_key", String(200)),
    Column("result", Text),
    Column("error", Text),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
    Column("started_ns", Nanoseconds),
    Column("finished_ns", Nanoseconds),
    # Who works on it, until when, and the fencing token: counted up by each claim, checked by each write.
    Column("worker_id", String(200)),
    Column("lease_until_ns", Nanoseconds),
    Column("fence", BigInteger, nullable=False),
    Index("ix_jobs_state_not_before_ns", "state", "not_before_ns"),
    Index("ix_jobs_created_ns", "created_ns"),
    Index(
        "uq_jobs_active_dedupe_key", "dedupe_key", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE
    ),
)

job_steps = Table(
    "job_steps",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("input_digest", String(71), primary_key=True),
    Column("output", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("started_ns", Nanoseconds, nullable=False),
    Column("finished_ns", Nanoseconds, nullable=False),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False),
    Column("at_ns", Nanoseconds, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_job_logs_job_id_id", "job_id", "id"),
)
