"""Tables of the `access` room."""

from sqlalchemy import Column, Index, Integer, String, Table

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
    Index("uq_keys_secret_sha256", "secret_sha256", unique=True),
)
