"""Tables of `traces.measures`: dashboards that people made."""

from sqlalchemy import Column, Integer, String, Table

from penstock.store.control.metadata import Json, Nanoseconds, metadata

dashboards = Table(
    "dashboards",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("content", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("updated_ns", Nanoseconds, nullable=False),
)
