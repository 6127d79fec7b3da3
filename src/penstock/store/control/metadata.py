"""The one `MetaData` of all control tables, its naming rule, and column types that fit both databases.

Table modules below `tables/` import from here and declare their tables; nobody else makes a MetaData.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, MetaData
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON value. Python `None` is SQL NULL."""

Nanoseconds = BigInteger()
"""A moment or a span of time in nanoseconds."""

Serial: Any = BigInteger().with_variant(Integer(), "sqlite")
"""An auto-incrementing key: SQLite only counts up plain INTEGER primary keys."""
