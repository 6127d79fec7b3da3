"""Evaluations: their cases, outputs and scores, and experiments."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds

revision: str = "0010"
down_revision: str | None = "0008"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "evaluation_case_sets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(71)),
        sa.Column("n_cases", sa.Integer, nullable=False),
        sa.Column("n_groups", sa.Integer, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation_case_sets"),
    )
    op.create_index("ix_evaluation_case_sets_digest", "evaluation_case_sets", ["digest"])
    op.create_table(
        "evaluation_cases",
        sa.Column("set_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("cluster", sa.Text),
        sa.Column("slices", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("set_id", "position", name="pk_evaluation_cases"),
    )
    op.create_index(
        "ix_evaluation_cases_set_id_case_id", "evaluation_cases", ["set_id", "case_id"], unique=True
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("target_stamp", sa.String(200), nullable=False),
        sa.Column("dataset", sa.String(300)),
        sa.Column("dataset_stamp", sa.String(200), nullable=False),
        sa.Column("set_id", sa.String(64)),
        sa.Column("n_cases", sa.Integer),
        sa.Column("experiment_id", sa.String(64)),
        sa.Column("is_local", sa.Boolean, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("started_ns", Nanoseconds),
        sa.Column("finished_ns", Nanoseconds),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_created_ns", "evaluations", ["created_ns"])
    op.create_index("ix_evaluations_experiment_id", "evaluations", ["experiment_id"])
    op.create_index("ix_evaluations_set_id", "evaluations", ["set_id"])
    _create_results()


def _create_results() -> None:
    op.create_table(
        "evaluation_outputs",
        sa.Column("evaluation_id", sa.String(64), nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("request_key", sa.String(64)),
        sa.Column("text_digest", sa.String(64)),
        sa.Column("error_code", sa.String(100)),
        sa.Column("latency_ms", sa.Float),
        sa.Column("ttft_ms", sa.Float),
        sa.Column("cost_usd", sa.Text),
        sa.Column("original_cost_usd", sa.Text),
        sa.Column("input_tokens", sa.Integer),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("is_cached", sa.Boolean, nullable=False),
        sa.Column("trace_id", sa.String(64)),
        sa.Column("finished_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "case_id", "repeat", name="pk_evaluation_outputs"),
    )
    op.create_index(
        "ix_evaluation_outputs_evaluation_id_position", "evaluation_outputs", ["evaluation_id", "position"]
    )
    op.create_index("ix_evaluation_outputs_request_key", "evaluation_outputs", ["request_key"])
    op.create_table(
        "evaluation_scores",
        sa.Column("evaluation_id", sa.String(64), nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("repeat", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("stamp", sa.String(300), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("statistics", sa.Text),
        sa.Column("fault", sa.String(16)),
        sa.Column("cost_usd", sa.Text),
        sa.Column("is_free", sa.Boolean, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "case_id", "repeat", "name", name="pk_evaluation_scores"),
    )
    op.create_index("ix_evaluation_scores_evaluation_id_name", "evaluation_scores", ["evaluation_id", "name"])
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("finished_ns", Nanoseconds),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
    )
    op.create_index("ix_experiments_created_ns", "experiments", ["created_ns"])
    op.create_index("ix_experiments_name", "experiments", ["name"])


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        "experiments",
        "evaluation_scores",
        "evaluation_outputs",
        "evaluations",
        "evaluation_cases",
        "evaluation_case_sets",
    ):
        op.drop_table(table)
