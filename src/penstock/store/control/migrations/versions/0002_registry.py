"""Tables of the `registry` room."""

import sqlalchemy as sa
from alembic import op

from penstock.store.control.metadata import Nanoseconds, Serial

revision: str = "0002"
down_revision: str | None = "0001"

_VERSION = ["asset_versions.kind", "asset_versions.name", "asset_versions.number"]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "assets",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_assets"),
    )
    op.create_table(
        "asset_versions",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("artefacts", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("created_ns", Nanoseconds, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "number", name="pk_asset_versions"),
        sa.UniqueConstraint("digest", name="uq_asset_versions_digest"),
        sa.ForeignKeyConstraint(
            ["kind", "name"], ["assets.kind", "assets.name"], name="fk_asset_versions_assets"
        ),
    )
    op.create_table(
        "version_parents",
        sa.Column("child", sa.String(71), nullable=False),
        sa.Column("parent", sa.String(71), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("child", "parent", name="pk_version_parents"),
        sa.ForeignKeyConstraint(
            ["child"], ["asset_versions.digest"], name="fk_version_parents_child_asset_versions"
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["asset_versions.digest"], name="fk_version_parents_parent_asset_versions"
        ),
    )
    op.create_index("ix_version_parents_parent", "version_parents", ["parent"])
    op.create_table(
        "asset_aliases",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("alias", sa.String(80), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "alias", name="pk_asset_aliases"),
        sa.ForeignKeyConstraint(["kind", "name", "number"], _VERSION, name="fk_asset_aliases_asset_versions"),
    )
    op.create_table(
        "alias_moves",
        sa.Column("id", Serial, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("alias", sa.String(80), nullable=False),
        sa.Column("from_number", sa.Integer),
        sa.Column("to_number", sa.Integer, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("moved_ns", Nanoseconds, nullable=False),
        sa.Column("evidence", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("is_override", sa.Boolean, nullable=False),
        sa.Column("undoes", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
        sa.ForeignKeyConstraint(["undoes"], ["alias_moves.id"], name="fk_alias_moves_undoes_alias_moves"),
        sa.ForeignKeyConstraint(
            ["kind", "name", "to_number"], _VERSION, name="fk_alias_moves_asset_versions"
        ),
    )
    op.create_index("ix_alias_moves_kind_name_alias", "alias_moves", ["kind", "name", "alias"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("alias_moves", "asset_aliases", "version_parents", "asset_versions", "assets"):
        op.drop_table(table)
