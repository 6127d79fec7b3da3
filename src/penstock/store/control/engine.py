"""Opens the control database: SQLite in WAL mode or PostgreSQL, migrated to the newest revision.

Two rules for callers. Write inside `engine.begin()`: on SQLite that is `BEGIN IMMEDIATE`, so a
transaction that reads and then writes can never fail half-way because somebody else wrote in between.
Read inside `engine.connect()`: on SQLite that sees one consistent state and blocks nobody.
The surprise: Alembic (0.5 s) is imported only to bring an older database forward, never for a new or current one.
"""

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from penstock.base.errors import InvalidInput
from penstock.spec.home import Home
from penstock.store.control.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 15_000
_MIGRATION_LOCK = 0x70656E73746F636B  # "penstock", the advisory lock id on PostgreSQL
_alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
)
"""As Alembic itself makes it; apart from `metadata`, which is what Alembic compares."""


class ControlEngine(Engine):
    """An engine whose `begin()` takes the write lock at once; on PostgreSQL it is a plain engine."""

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a connection in a write transaction; commit at the end, roll back on any exception."""
        with self.connect() as connection:
            connection.execution_options(penstock_write=True)
            with connection.begin():
                yield connection


def control_url(home: Home) -> str:
    """Return the URL of the SQLite file in `home`."""
    return f"sqlite:///{home.control_db}"


def open_control(url: str) -> Engine:
    """Return an engine on `url`, migrated. The first process migrates, others wait for it.

    Raises `InvalidInput` when the URL names a database that Penstock cannot use.
    """
    parsed = _parse_url(url)
    engine = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _open_postgres(parsed)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def newest_revision() -> str:
    """Return the revision that this program's tables have (`versions/NNNN_room.py`)."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]


def current_revision(engine: Engine) -> str | None:
    """Return the revision of the database, or None when it was never migrated."""
    try:
        with engine.connect() as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        if _is_missing_table(error):
            return None
        raise


def migrate(engine: Engine, *, is_stepwise: bool = False) -> None:
    """Bring the database to the newest revision; one SELECT when it is there already.

    An empty database gets the declared tables at once, which a test holds equal to what the revisions
    make; `is_stepwise` runs the revisions even then.
    """
    newest = newest_revision()
    if current_revision(engine) == newest:
        return
    with _migration_lock(engine):
        found = current_revision(engine)
        if found == newest:
            return
        if found is not None and found > newest:
            raise InvalidInput(
                f"The control database has revision {found}, newer than this program's {newest}.",
                hint="Run the version of Penstock that wrote it, or a newer one.",
            )
        if found is None and not is_stepwise and not inspect(engine).get_table_names():
            _create_newest(engine, newest)
        else:
            _upgrade(engine)


def _create_newest(engine: Engine, newest: str) -> None:
    with engine.begin() as connection:
        metadata.create_all(connection)
        _alembic_version.create(connection)
        connection.execute(_alembic_version.insert().values(version_num=newest))


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _parse_url(url: str) -> sqlalchemy.URL:
    hint = "Write sqlite:////path/control.db or postgresql://user@host/database."
    try:
        parsed = make_url(url)
    except sqlalchemy.exc.ArgumentError as error:
        raise InvalidInput("The control database URL cannot be read.", hint=hint) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite+pysqlite")
    raise InvalidInput(f"Penstock cannot keep its control tables in {backend!r} at this URL.", hint=hint)


def _open_sqlite(url: sqlalchemy.URL) -> Engine:
    assert url.database is not None
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = _as_control_engine(
        sqlalchemy.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, in `_begin`
        _write_ahead(connection)
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("penstock_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _write_ahead(connection: Any) -> None:
    """Put the file into WAL mode, waiting for others who do the same.

    SQLite does not call its busy handler when two connections turn a new file at once: one is told
    "database is locked" without having waited, so we wait here.
    """
    give_up_at = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            # The primary code of BUSY, BUSY_RECOVERY and BUSY_SNAPSHOT alike.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
            time.sleep(0.01)


def _open_postgres(url: sqlalchemy.URL) -> Engine:
    return _as_control_engine(sqlalchemy.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15))


def _as_control_engine(engine: Engine) -> ControlEngine:
    return ControlEngine(engine.pool, engine.dialect, engine.url)


@contextmanager
def _migration_lock(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        assert engine.url.database is not None
        with Path(f"{engine.url.database}.migrate.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": _MIGRATION_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": _MIGRATION_LOCK})


def _is_missing_table(error: DBAPIError) -> bool:
    return "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01"
