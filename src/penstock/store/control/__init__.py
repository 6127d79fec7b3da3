"""Control tables: SQLAlchemy metadata, engine and migrations for SQLite and PostgreSQL."""
