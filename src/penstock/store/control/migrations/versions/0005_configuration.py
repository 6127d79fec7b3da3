"""Tables of the `deploy` room and secrets; keys that expire, belong to a person, and rotate."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Json, Nanoseconds, Serial

revision: str = "0005"
down_revision: str | None = "0004"

_KEY_COLUMNS = (
    sa.Column("user", sa.String(200)),
    sa.Column("expires_ns", Nanoseconds),
    sa.Column("previous_sha256", sa.String(64)),
    sa.Column("previous_until_ns", Nanoseconds),
    sa.Column("rotated_ns", Nanoseconds),
)


def upgrade() -> None:
    """Create the tables and add the columns."""
    op.create_table(
        "config_objects",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(400), nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_config_objects"),
    )
    op.create_table(
        "config_versions",
        sa.Column("number", Serial, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("snapshot_digest", sa.String(71), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_config_versions"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("origin", sa.String(400), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.Column("updated_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    for column in _KEY_COLUMNS:
        op.add_column("keys", column)
    op.create_index("ix_keys_previous_sha256", "keys", ["previous_sha256"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_keys_previous_sha256", "keys")
    for column in reversed(_KEY_COLUMNS):
        op.drop_column("keys", column.name)
    for table in ("secrets", "config_versions", "config_objects"):
        op.drop_table(table)
