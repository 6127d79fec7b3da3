"""Saved views of lists of traces and spans."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "saved_views",
        sa.Column("project", sa.String(80), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("columns", Json, nullable=False),
        sa.Column("ordering", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name="pk_saved_views"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("saved_views")
