"""Tables of the `registry` room. Versions and moves are only ever inserted."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from penstock.store.control.metadata import Nanoseconds, Serial, metadata

assets = Table(
    "assets",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("created_ns", Nanoseconds, nullable=False),
)

asset_versions = Table(
    "asset_versions",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False, unique=True),
    # Text, not JSON: what was digested is kept byte for byte.
    Column("content", Text, nullable=False),
    Column("artefacts", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    ForeignKeyConstraint(["kind", "name"], ["assets.kind", "assets.name"], name="fk_asset_versions_assets"),
)

version_parents = Table(
    "version_parents",
    metadata,
    Column("child", String(71), ForeignKey("asset_versions.digest"), primary_key=True),
    Column("parent", String(71), ForeignKey("asset_versions.digest"), primary_key=True),
    Column("position", Integer, nullable=False),
    Index("ix_version_parents_parent", "parent"),
)

asset_aliases = Table(
    "asset_aliases",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("alias", String(80), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(
        ["kind", "name", "number"],
        ["asset_versions.kind", "asset_versions.name", "asset_versions.number"],
        name="fk_asset_aliases_asset_versions",
    ),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("name", String(80), nullable=False),
    Column("alias", String(80), nullable=False),
    Column("from_number", Integer),
    Column("to_number", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("moved_ns", Nanoseconds, nullable=False),
    Column("evidence", Text),
    Column("reason", Text),
    Column("is_override", Boolean, nullable=False),
    # The move that this one took back; set exactly on rollbacks.
    Column("undoes", BigInteger, ForeignKey("alias_moves.id")),
    ForeignKeyConstraint(
        ["kind", "name", "to_number"],
        ["asset_versions.kind", "asset_versions.name", "asset_versions.number"],
        name="fk_alias_moves_asset_versions",
    ),
    Index("ix_alias_moves_kind_name_alias", "kind", "name", "alias"),
)
