# ruff: noqa: S608 - names of tables are made by `servers.make_name`; values are always bound
"""Vectors in a table of PostgreSQL with the extension pgvector, one table a build.

pgvector filters after its index was scanned and stops early: with a filter of 1 % it may return 3 rows of 10
without a word. So narrow selections are scored exactly, wide ones use an iterative scan (pgvector 0.8), and what
still comes back short is asked again exactly. Texts, paths and properties never go there.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from penstock.knowledge.index.dense import best_places, check_query
from penstock.knowledge.index.errors import IndexServerFailed, MissingEngine, UnusableConnection
from penstock.knowledge.index.expansion import choose_expansion
from penstock.knowledge.index.probe import check_server_rows, probe_recall
from penstock.knowledge.index.types import (
    BuildContext,
    Finding,
    IndexStats,
    Matrix,
    Rows,
    RowSelection,
    Scores,
)
from penstock.spec.knowledge import IndexRecipe

if TYPE_CHECKING:
    import psycopg

NARROW_ROWS = 20_000
"""Selections up to this many rows are scored exactly, by row number."""
BATCH_ROWS = 2000
MAX_INDEXED_DIMS = {"vector": 2000, "halfvec": 4000}
LEAST_RECALL = 0.9
_TRIES = 2
Output = TypeVar("Output")


def check_connection(connection: str) -> None:
    """Raise `UnusableConnection` for what is no address of PostgreSQL, `MissingEngine` without a driver."""
    _driver()
    if urlsplit(connection).scheme not in {"postgresql", "postgres"}:
        raise UnusableConnection(
            "the connection of a pgvector index is no address of PostgreSQL.",
            hint="Write it as postgresql://user:{{secret:NAME}}@host:5432/database.",
        )


def upload(
    connection: str,
    name: str,
    *,
    matrix: Matrix,
    document_of: NDArray[np.int32],
    recipe: IndexRecipe,
    ctx: BuildContext,
) -> None:
    """Create the table, copy all rows into it, and index it."""
    kind = _column(recipe)
    n_rows, dims = matrix.shape

    def run(server: "psycopg.Connection[Any]") -> None:
        _require_extension(server, kind)
        with server.transaction(), server.cursor() as cursor:
            column = f"{kind}({dims})" if dims else kind
            cursor.execute(
                f'CREATE TABLE "{name}" (row integer NOT NULL, document integer NOT NULL, vector {column})'
            )
            with cursor.copy(f'COPY "{name}" (row, document, vector) FROM STDIN (FORMAT binary)') as copy:
                copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
                for start in range(0, n_rows, BATCH_ROWS):
                    ctx.check_cancelled()
                    part = slice(start, start + BATCH_ROWS)
                    copy.write(_encode(start, document_of[part], matrix[part], kind))
                    ctx.progress(0.5 * (start + 1) / n_rows, f"copied {start:,} of {n_rows:,} passages")
                copy.write(b"\xff\xff")
            cursor.execute(f'ALTER TABLE "{name}" ADD PRIMARY KEY (row)')
            cursor.execute(f'CREATE INDEX ON "{name}" (document)')
            ctx.check_cancelled()
            if 0 < dims <= MAX_INDEXED_DIMS[kind]:
                ctx.progress(0.5, "the server links the passages")
                cursor.execute(
                    f'CREATE INDEX ON "{name}" USING hnsw (vector {kind}_ip_ops) WITH '
                    f"(m = {int(recipe.connectivity)}, ef_construction = {int(recipe.expansion_add)})"
                )
        server.execute(f'ANALYZE "{name}"')

    with _connect(connection) as server:
        _guard(lambda: run(server))


def drop(connection: str, name: str) -> None:
    """Drop the table, if it is there."""
    with _connect(connection) as server:
        _guard(lambda: server.execute(f'DROP TABLE IF EXISTS "{name}"'))


def list_names(connection: str) -> list[str]:
    """Return the tables of the default schema."""
    query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    with _connect(connection) as server:
        return [str(row[0]) for row in _guard(lambda: server.execute(query).fetchall())]


class PgvectorIndex:
    """One table. See `VectorIndex`."""

    def __init__(self, connection: str, name: str, *, n_rows: int, dims: int, recipe: IndexRecipe) -> None:
        self._connection = connection
        self._name = name
        self._n_rows = n_rows
        self._dims = dims
        self._recipe = recipe
        self._kind = _column(recipe)
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._iterates: bool | None = None

    def search(
        self, vector: NDArray[np.float32], k: int, rows: RowSelection | None = None, *, exact: bool = False
    ) -> tuple[Rows, Scores]:
        """Ask the server; exactly where the selection is narrow or an approximate answer comes back short."""
        query = check_query(vector, self._dims, self._n_rows)
        count = self._n_rows if rows is None else rows.count
        wanted = min(k, count)
        if wanted == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        exact = exact or count <= max(NARROW_ROWS if rows is not None else 0, wanted)
        found = self._run(lambda server: self._ask(server, query, wanted, rows, exact=exact))
        if len(found) < wanted and not exact:
            found = self._run(lambda server: self._ask(server, query, wanted, rows, exact=True))
        numbers = np.array([row for row, _ in found], dtype=np.int64)
        scores = np.array([score for _, score in found], dtype=np.float32)
        order = np.argsort(numbers)
        numbers, scores = numbers[order], scores[order]
        places = best_places(scores, wanted)
        return numbers[places], scores[places]

    def vectors(self, rows: Rows | Sequence[int]) -> Matrix:
        """Fetch these rows."""
        wanted = [int(row) for row in rows]
        query = f'SELECT row, vector::real[] FROM "{self._name}" WHERE row = ANY(%s)'
        found = dict(self._run(lambda server: server.execute(query, (wanted,)).fetchall()))
        missing = [row for row in wanted if row not in found]
        if missing:
            raise IndexServerFailed(
                f"the table {self._name} lacks row {missing[0]}.", hint="Rebuild the index."
            )
        return np.array([found[row] for row in wanted], dtype=np.float32).reshape(len(wanted), self._dims)

    def stats(self) -> IndexStats:
        """Ask the server for rows, bytes and its version of pgvector."""
        query = (
            f'SELECT (SELECT count(*) FROM "{self._name}"), pg_total_relation_size(%s::regclass), '
            "(SELECT extversion FROM pg_extension WHERE extname = 'vector')"
        )
        n_rows, size, version = self._run(
            lambda server: server.execute(query, (f'"{self._name}"',)).fetchall()
        )[0]
        return IndexStats(
            kind="pgvector",
            n_rows=n_rows,
            dims=self._dims,
            precision="f16" if self._kind == "halfvec" else "f32",
            size_bytes=size,
            details={"table": self._name, "pgvector": version},
        )

    def verify(self, sample: int = 100) -> list[Finding]:
        """Check that every row is there once, and recall at 10 against an exact search on the server."""
        query = f'SELECT row FROM "{self._name}"'
        held = [int(row[0]) for row in self._run(lambda server: server.execute(query).fetchall())]
        rows = check_server_rows(held, self._n_rows)
        if rows.state != "ok":
            return [rows]
        return [rows, probe_recall(self, self._n_rows, sample, threshold=LEAST_RECALL)]

    def close(self) -> None:
        """Close the connections that no search is using."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def __del__(self) -> None:
        for server in getattr(self, "_idle", ()):
            server.close()

    def _ask(
        self,
        server: "psycopg.Connection[Any]",
        query: NDArray[np.float32],
        wanted: int,
        rows: RowSelection | None,
        *,
        exact: bool,
    ) -> list[tuple[int, float]]:
        condition, values = self._condition(rows)
        text = "[" + ",".join(map(repr, query.tolist())) + "]"
        if self._iterates is None:
            self._iterates = _can_iterate(server)
        sum_of = (
            " + 0" if exact else ""
        )  # a sum is nothing that the graph is ordered by, so every row is scored
        with server.transaction():
            if not exact:
                expansion = min(
                    1000,
                    max(choose_expansion(self._recipe, self._n_rows), int(wanted * self._recipe.oversample)),
                )
                server.execute(f"SET LOCAL hnsw.ef_search = {expansion}")
                if self._iterates:
                    server.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            found = server.execute(
                f'SELECT row, -(vector <#> %s::{self._kind}) FROM "{self._name}" {condition} '
                f"ORDER BY (vector <#> %s::{self._kind}){sum_of} LIMIT {int(wanted)}",
                (text, *values, text),
            ).fetchall()
        return [(int(row), float(score)) for row, score in found]

    def _condition(self, rows: RowSelection | None) -> tuple[str, tuple[Any, ...]]:
        if rows is None or rows.count == self._n_rows:
            return "", ()
        if rows.count <= NARROW_ROWS:
            return "WHERE row = ANY(%s)", (rows.rows.tolist(),)
        chosen, others = np.flatnonzero(rows.documents), np.flatnonzero(~rows.documents)
        if len(chosen) <= len(others):
            return "WHERE document = ANY(%s)", (chosen.tolist(),)
        return "WHERE document <> ALL(%s)", (others.tolist(),)

    def _run(self, ask: Callable[["psycopg.Connection[Any]"], Output]) -> Output:
        """Ask over a kept connection; one that broke meanwhile is replaced once."""
        with self._lock:
            server = self._idle.pop() if self._idle else None
        fresh = server is None
        server = server or _connect(self._connection)
        try:
            answer = _guard(lambda: ask(server))
        except BaseException as error:
            broken = server.broken
            server.close()
            if fresh or not broken or not isinstance(error, IndexServerFailed):
                raise
            self.close()
            return self._run(ask)
        with self._lock:
            if len(self._idle) < 8:
                self._idle.append(server)
                return answer
        server.close()
        return answer


def _driver() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise MissingEngine(
            "the package psycopg, which speaks to PostgreSQL, is not installed.",
            hint="Install it with: pip install 'penstock[pgvector]'.",
        ) from error
    return psycopg


def _connect(connection: str) -> "psycopg.Connection[Any]":
    driver = _driver()
    try:
        server: psycopg.Connection[Any] = driver.connect(connection, autocommit=True, connect_timeout=10)
    except driver.ProgrammingError as error:
        raise UnusableConnection("the connection of the pgvector index cannot be read.") from error
    except driver.Error as error:
        raise IndexServerFailed(
            f"the PostgreSQL server of the index cannot be reached: {_first_line(error)}",
            hint="Check that it runs and that the connection's user and password are right.",
        ) from error
    return server


def _guard(ask: Callable[[], Output]) -> Output:
    driver = _driver()
    try:
        return ask()
    except driver.errors.UndefinedTable as error:
        raise IndexServerFailed("the table of the index is gone.", hint="Rebuild the index.") from error
    except driver.Error as error:
        raise IndexServerFailed(f"PostgreSQL refused: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _require_extension(server: "psycopg.Connection[Any]", kind: str) -> None:
    driver = _driver()
    try:
        server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except driver.Error as error:
        raise UnusableConnection(
            f"the database has no extension pgvector: {_first_line(error)}",
            hint="Let an administrator run: CREATE EXTENSION vector.",
        ) from error
    if kind == "halfvec" and _version(server) < (0, 7):
        raise UnusableConnection(
            "halves need pgvector 0.7 or newer.", hint="Set index.precision to f32, or update the extension."
        )


def _column(recipe: IndexRecipe) -> str:
    """Return the type of the vectors; bytes, which pgvector does not have, become halves."""
    return "vector" if recipe.precision in {None, "f32"} else "halfvec"


def _version(server: "psycopg.Connection[Any]") -> tuple[int, ...]:
    found = server.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return tuple(int(part) for part in str(found[0]).split(".")[:2]) if found else (0,)


def _can_iterate(server: "psycopg.Connection[Any]") -> bool:
    return _version(server) >= (0, 8)


def _encode(start: int, documents: NDArray[np.int32], vectors: Matrix, kind: str) -> bytes:
    """Return rows in COPY's binary form; a vector is its length, two zero bytes, and its numbers, big-endian."""
    n_rows, dims = vectors.shape
    number = ">f4" if kind == "vector" else ">f2"
    size = 4 + dims * np.dtype(number).itemsize
    row = np.dtype(
        {
            "names": ["n", "a", "row", "b", "document", "c", "dims", "zero", "vector"],
            "formats": [">i2", ">i4", ">i4", ">i4", ">i4", ">i4", ">i2", ">i2", (number, (dims,))],
        }
    )
    rows = np.zeros(n_rows, dtype=row)
    rows["n"], rows["a"], rows["b"], rows["c"], rows["dims"] = 3, 4, 4, size, dims
    rows["row"] = np.arange(start, start + n_rows)
    rows["document"] = documents
    rows["vector"] = vectors
    return rows.tobytes()
