"""Tables of the `jobs` room."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds, Serial

revision: str = "0003"
down_revision: str | None = "0002"

_ACTIVE = sa.text("state IN ('queued', 'running')")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(80), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("not_before_ns", Nanoseconds, nullable=False),
        sa.Column("is_cancel_requested", sa.Boolean, nullable=False),
        sa.Column("dedupe_key", sa.String(200)),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.Column("started_ns", Nanoseconds),
        sa.Column("finished_ns", Nanoseconds),
        sa.Column("worker_id", sa.String(200)),
        sa.Column("lease_until_ns", Nanoseconds),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state_not_before_ns", "jobs", ["state", "not_before_ns"])
    op.create_index("ix_jobs_created_ns", "jobs", ["created_ns"])
    op.create_index(
        "uq_jobs_active_dedupe_key",
        "jobs",
        ["dedupe_key"],
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    )
    op.create_table(
        "job_steps",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("input_digest", sa.String(71), nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("started_ns", Nanoseconds, nullable=False),
        sa.Column("finished_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "name", "input_digest", name="pk_job_steps"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_steps_job_id_jobs"),
    )
    op.create_table(
        "job_logs",
        sa.Column("id", Serial, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("at_ns", Nanoseconds, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_logs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_logs_job_id_jobs"),
    )
    op.create_index("ix_job_logs_job_id_id", "job_logs", ["job_id", "id"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("job_logs", "job_steps", "jobs"):
        op.drop_table(table)
