"""Labels of people, verdicts of judges on what was labelled, and calibrations."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds

revision: str = "0011"
down_revision: str | None = "0010"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "label_items",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("evaluation_id", sa.String(64)),
        sa.Column("case_id", sa.Text),
        sa.Column("repeat", sa.Integer),
        sa.Column("trace_id", sa.String(64)),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_label_items"),
    )
    op.create_index("ix_label_items_evaluation_id", "label_items", ["evaluation_id"])
    op.create_index("ix_label_items_trace_id", "label_items", ["trace_id"])
    op.create_table(
        "labels",
        sa.Column("item_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("rater", sa.String(200), nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("label", sa.String(200)),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("drawn", sa.String(16), nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("item_id", "name", "rater", name="pk_labels"),
    )
    op.create_index("ix_labels_name_made_ns", "labels", ["name", "made_ns"])
    op.create_table(
        "judge_verdicts",
        sa.Column("stamp", sa.String(300), nullable=False),
        sa.Column("item_id", sa.String(64), nullable=False),
        sa.Column("latency_ms", sa.Float),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("stamp", "item_id", name="pk_judge_verdicts"),
    )
    op.create_table(
        "judge_calibrations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("stamp", sa.String(300), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("made_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judge_calibrations"),
    )
    op.create_index("ix_judge_calibrations_stamp", "judge_calibrations", ["stamp"])
    op.create_index("ix_judge_calibrations_name", "judge_calibrations", ["name"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("judge_calibrations", "judge_verdicts", "labels", "label_items"):
        op.drop_table(table)
