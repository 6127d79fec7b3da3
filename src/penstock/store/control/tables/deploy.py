"""Tables of the `deploy` room: configuration objects, and every configuration that was published."""

from sqlalchemy import Column, Integer, String, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, Serial, metadata

config_objects = Table(
    "config_objects",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(400), primary_key=True),
    Column("content", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)

config_versions = Table(
    "config_versions",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("snapshot_digest", String(71), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("note", Text, nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    # Text, not JSON: what was digested is kept byte for byte.
    Column("content", Text, nullable=False),
)
