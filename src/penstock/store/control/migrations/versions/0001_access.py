"""Tables of the `access` room."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("hint", sa.String(16), nullable=False),
        sa.Column("project", sa.String(80), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.Integer),
        sa.Column("routes", Json),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("last_used_ns", Nanoseconds),
        sa.Column("revoked_ns", Nanoseconds),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_index("uq_keys_secret_sha256", "keys", ["secret_sha256"], unique=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("keys")
