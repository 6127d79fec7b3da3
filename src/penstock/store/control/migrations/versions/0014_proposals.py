"""Rows of datasets that a model proposed."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds

revision: str = "0014"
down_revision: str | None = "0012"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "dataset_proposals",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("dataset", sa.String(200), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("decided_ns", Nanoseconds),
        sa.PrimaryKeyConstraint("id", name="pk_dataset_proposals"),
    )
    op.create_index("ix_dataset_proposals_dataset_state", "dataset_proposals", ["dataset", "state"])
    op.create_index("ix_dataset_proposals_batch", "dataset_proposals", ["batch"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("dataset_proposals")
