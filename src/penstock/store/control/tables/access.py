"""Tables of the `access` room."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from penstock.store.control.metadata import Json, Nanoseconds, metadata

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("hint", String(16), nullable=False),
    Column("project", String(80), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("routes", Json),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("last_used_ns", Nanoseconds),
    Column("revoked_ns", Nanoseconds),
    Column("user", String(200)),
    Column("expires_ns", Nanoseconds),
    Column("previous_sha256", String(64)),
    Column("previous_until_ns", Nanoseconds),
    Column("rotated_ns", Nanoseconds),
    Index("uq_keys_secret_sha256", "secret_sha256", unique=True),
    Index("ix_keys_previous_sha256", "previous_sha256"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("origin", String(400), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("created_ns", Nanoseconds, nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)
