"""Runs, deployments, load tests, measured figures of models."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0019"
down_revision: str | None = "0018"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tune_runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("frozen_digest", sa.Text),
        sa.Column("content", Json, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tune_runs"),
    )
    op.create_index("ix_tune_runs_created", "tune_runs", ["created_ns"])
    op.create_index("ix_tune_runs_name", "tune_runs", ["name", "created_ns"])
    op.create_table(
        "deployments",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_deployments"),
    )
    op.create_table(
        "deployment_events",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("deployment", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deployment_events"),
    )
    op.create_index("ix_deployment_events_deployment", "deployment_events", ["deployment", "id"])
    op.create_table(
        "load_tests",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("spec", Json, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_load_tests"),
    )
    op.create_index("ix_load_tests_created", "load_tests", ["created_ns"])
    op.create_index("ix_load_tests_route", "load_tests", ["route", "created_ns"])
    op.create_table(
        "model_measurements",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_measurements"),
    )
    op.create_index("ix_model_measurements_digest", "model_measurements", ["digest", "made_ns"])


def downgrade() -> None:
    """Drop them again."""
    for table in ("model_measurements", "load_tests", "deployment_events", "deployments", "tune_runs"):
        op.drop_table(table)
