"""Tables of the `access` room."""

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables."""
