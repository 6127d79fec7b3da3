"""Documents that are rows of a database, by a query of the reader's own in a transaction that cannot write.

Rows are streamed. A query that fails in the middle leaves the scan incomplete, so nothing is deleted by it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from penstock.base.errors import InvalidInput
from penstock.knowledge.credentials import (
    Credentials,
    bound_address,
    is_confidential,
    replace_secrets,
    without_secrets,
)
from penstock.knowledge.sources.errors import (
    InvalidSource,
    MissingReader,
    SourceUnavailable,
    UnreadableProperties,
)
from penstock.knowledge.sources.patterns import reason_against
from penstock.knowledge.sources.records import RecordSettings, make_record
from penstock.knowledge.sources.types import KnownItem, LeftOut, SourceItem, note_problem

PAGE_ROWS = 500
_DRIVERS = {
    "postgresql": "penstock[postgres]",
    "mysql": "pymysql",
    "mariadb": "pymysql",
    "mssql": "pyodbc",
    "oracle": "oracledb",
    "snowflake": "snowflake-sqlalchemy",
    "bigquery": "sqlalchemy-bigquery",
}
_READ_ONLY = {
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
_CANNOT_WRITE = frozenset({"postgresql", "duckdb", *_READ_ONLY})
"""Here a transaction can be made that writes nothing, whatever the query says."""
_CONNECT: dict[str, dict[str, Any]] = {
    # Its queries could read any file of this machine otherwise.
    "duckdb": {"read_only": True, "config": {"enable_external_access": "false"}},
    # A server may ask it for any file otherwise.
    "mysql+mysqlconnector": {"allow_local_infile": False},
    "mariadb+mysqlconnector": {"allow_local_infile": False},
}
_READS_FILES = ("infile", "read_default", "init_command", "plugin")
"""Parts of parameters by which a server, or what it is told at once, could ask for files of this machine."""
_WRITES_NOTHING = ("select", "with", "values", "table")


class DatabaseSettings(RecordSettings, frozen=True, kw_only=True):
    """`location` is an address such as `postgresql://reader:{{secret:wiki_db}}@db.example/wiki`."""

    query: str
    """A query whose rows are the documents; its columns are named in the other settings."""
    timeout_s: float = 300.0
    """How long the database may take until the first row, where it can be told."""
    read_only_account: bool = False
    """The account of the address cannot write: must be said of databases that Penstock cannot hold back from it."""

    def local_places(self) -> list[str]:
        """Return the file, where the database is one."""
        address = _read_address(self.location)
        is_file = address.get_backend_name() in {"sqlite", "duckdb"}
        return [address.database] if is_file and address.database else []

    def bytes_come_from(self) -> list[str]:
        """Return also the query."""
        return [*super().bytes_come_from(), self.query]

    def secret_address(self) -> str:
        """Return scheme, host and port, where a secret is to be sent there."""
        try:
            return bound_address(self.location)
        except InvalidInput as error:
            raise InvalidSource(error.message, hint=error.hint) from None

    def check(self) -> None:
        """Also refuse plain passwords and what is plainly no query."""
        super().check()
        address = _read_address(self.location)
        password = _read_address(_marked(self.location)).password
        if (password and password != _MARK) or any(is_confidential(name) for name in address.query):
            raise InvalidSource(
                "A password stands in the address.",
                hint="Put it into the vault: penstock secret set NAME; then write {{secret:NAME}} in its place, "
                "as user:{{secret:NAME}}@host.",
            )
        for name, value in address.query.items():
            if any(part in name for part in _READS_FILES) or (name == "driver" and "/" in str(value)):
                raise InvalidSource(f"The address of a database cannot have the parameter {name!r} here.")
        self.secret_address()
        backend = address.get_backend_name()
        is_file = backend in {"sqlite", "duckdb"}
        if is_file and (address.query or (address.database or "").startswith("file:")):
            raise InvalidSource(
                "A database file is named by its path.",
                hint="Such as sqlite:////data/wiki.db; it takes no parameters.",
            )
        if backend not in _CANNOT_WRITE and not self.read_only_account:
            raise InvalidSource(
                f"Nothing keeps a query of {backend} from writing but the rights of its account.",
                hint="When that account can only read, say so: --set read_only_account=true",
            )
        words = self.query.strip().split(None, 1)
        if not words or words[0].lower() not in _WRITES_NOTHING:
            raise InvalidSource("`query` must be a query: SELECT … or WITH ….")


class DatabaseSource:
    """Rows of a query."""

    def __init__(self, source_id: str, settings: DatabaseSettings, credentials: Credentials) -> None:
        self.complete = False
        self.problems: list[str] = []
        self._source_id = source_id
        self._settings = settings
        self._credentials = credentials

    def scan(self, known: Mapping[str, KnownItem]) -> Iterator[SourceItem | LeftOut]:
        """Yield one document a row; raise `MissingReader`, `InvalidSource`, `SourceUnavailable`."""
        del known
        engine = self._create_engine()
        n_rows = 0
        try:
            query = text(_without_binds(self._settings.query))
            with _open(engine, self._settings.timeout_s) as connection, connection.execute(query) as result:
                self._check_columns(list(result.keys()))
                for row in result.mappings():
                    n_rows += 1
                    yield self._make(f"row {n_rows}", dict(row))
        except SQLAlchemyError as error:
            told = self._told(error)
            if n_rows == 0:
                raise SourceUnavailable(f"The query failed: {told}.") from None
            self.problems.append(f"the query failed after {n_rows} rows: {told}")
        finally:
            engine.dispose()
        self.complete = not self.problems

    def _create_engine(self) -> Engine:
        address = self._credentials.fill_address(self._settings.location)
        scheme = address.partition(":")[0]
        dialect = scheme.partition("+")[0]
        if scheme == "postgresql":
            address = address.replace("postgresql:", "postgresql+psycopg:", 1)
        try:
            engine = sqlalchemy.create_engine(
                address,
                poolclass=sqlalchemy.NullPool,
                connect_args=_CONNECT.get(scheme) or _CONNECT.get(dialect, {}),
            )
        except (ImportError, NoSuchModuleError) as error:
            package = _DRIVERS.get(dialect)
            raise MissingReader(
                f"Reading {dialect} needs a driver that is not installed.",
                hint=f"Install it: pip install {package}"
                if package
                else "Install a SQLAlchemy driver for it.",
            ) from error
        except (SQLAlchemyError, ValueError) as error:
            raise InvalidSource(f"The address cannot be used: {self._told(error)}.") from None
        file = engine.url.database
        if dialect == "sqlite" and file and not Path(file).is_file():
            raise SourceUnavailable(f"There is no database file {file!r}.")  # opening it would make one
        return engine

    def _check_columns(self, columns: list[str]) -> None:
        settings = self._settings
        one = [settings.title, settings.modified, settings.url, settings.version]
        access = [settings.readers_from, settings.subjects_from]
        wanted = [settings.id, settings.text, *one, *access, *settings.keep]
        missing = [name for name in wanted if name is not None and name not in columns]
        if missing:
            raise InvalidSource(
                f"The query has no column {missing[0]!r}.", hint=f"It has: {', '.join(columns)}."
            )

    def _make(self, where: str, row: Mapping[str, Any]) -> SourceItem | LeftOut:
        try:
            found = make_record(self._source_id, row, self._settings, where=where)
        except UnreadableProperties as error:
            note_problem(self.problems, error.message)
            return LeftOut(path=where, reason=error.message, is_unreadable=True)
        if isinstance(found, SourceItem):
            reason = reason_against(found.path, self._settings.include, self._settings.exclude)
            return found if reason is None else LeftOut(path=found.path, reason=reason)
        return found

    def _told(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        return self._credentials.hide(str(cause).strip().partition("\n")[0])[:500]


_MARK = "a-secret-of-the-vault"


def _marked(location: str) -> str:
    return replace_secrets(location, _MARK)


def _read_address(location: str) -> sqlalchemy.URL:
    try:
        return sqlalchemy.make_url(without_secrets(location))
    except (SQLAlchemyError, ValueError) as error:
        raise InvalidSource(
            "`location` is no address of a database.", hint="Such as postgresql://user@host/name."
        ) from error


@contextmanager
def _open(engine: Engine, timeout_s: float) -> Iterator[Connection]:
    """A connection that can only read, streamed where its database can."""
    name = engine.dialect.name
    access = {"postgresql_readonly": True} if name == "postgresql" else {}
    with engine.connect().execution_options(**access) as connection:
        if name in _READ_ONLY:
            connection.exec_driver_sql(_READ_ONLY[name])
        if name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}")
        connection.execution_options(stream_results=True, yield_per=PAGE_ROWS)
        yield connection


def _without_binds(query: str) -> str:
    """Return the query as SQLAlchemy takes it when a colon is a colon."""
    return query.replace(":", "\\:")
