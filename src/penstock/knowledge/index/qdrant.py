"""Vectors in a collection of Qdrant, one collection a build. Its points hold a document number and nothing else.

Qdrant filters inside its graph; narrow selections are scored exactly all the same, and what comes back short is
asked again exactly. `path:FOLDER` and `memory:NAME` as connection run Qdrant's own local mode, which is for tests and
small trials: it scores every point in Python.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

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
    from qdrant_client import QdrantClient
    from qdrant_client.models import Filter

NARROW_ROWS = 10_000
"""Selections up to this many rows are scored exactly, by row number."""
BATCH_ROWS = 500
TIMEOUT_S = 60
LEAST_RECALL = 0.9
DOCUMENT = "d"
_LOCAL = ("path:", "memory:")
Output = TypeVar("Output")
_clients: dict[str, "_Server"] = {}
_clients_lock = threading.Lock()


class _Server:
    """A client and, in local mode, the lock it needs: that mode is not made for threads."""

    def __init__(self, client: "QdrantClient", *, is_local: bool) -> None:
        self._client = client
        self._lock = threading.Lock() if is_local else None
        self.is_local = is_local

    def ask(self, question: Callable[["QdrantClient"], Output]) -> Output:
        """Ask, and raise `IndexServerFailed` for whatever goes wrong."""
        try:
            if self._lock is None:
                return question(self._client)
            with self._lock:
                return question(self._client)
        except IndexServerFailed:
            raise
        except _failures() as error:
            raise IndexServerFailed(
                f"Qdrant refused or cannot be reached: {str(error).strip().partition(chr(10))[0][:300]}",
                hint="Check that it runs and that the connection's key is right; rebuild an index that is gone.",
            ) from error


def check_connection(connection: str) -> None:
    """Raise `UnusableConnection` for what is no address of Qdrant, `MissingEngine` without its client."""
    _library()
    if connection.startswith(_LOCAL) and connection not in _LOCAL:
        return
    parts = urlsplit(connection)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UnusableConnection(
            "the connection of a Qdrant index is no address of it.",
            hint="Write it as http://host:6333, with a key as https://{{secret:NAME}}@host:6333.",
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
    """Create the collection, put all rows into it, and wait until it is indexed."""
    models = _library().models
    server = _connect(connection)
    n_rows, dims = matrix.shape
    quantised = models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    )
    server.ask(
        lambda client: client.create_collection(
            name,
            vectors_config=models.VectorParams(
                size=dims,
                distance=models.Distance.DOT,
                on_disk=True,
                datatype=models.Datatype.FLOAT16 if recipe.precision == "f16" else models.Datatype.FLOAT32,
            ),
            hnsw_config=models.HnswConfigDiff(m=recipe.connectivity, ef_construct=recipe.expansion_add),
            quantization_config=quantised if recipe.precision == "i8" else None,
            timeout=TIMEOUT_S,
        )
    )
    if not server.is_local:
        server.ask(
            lambda client: client.create_payload_index(
                name, DOCUMENT, field_schema=models.PayloadSchemaType.INTEGER, wait=True
            )
        )
    for start in range(0, n_rows, BATCH_ROWS):
        ctx.check_cancelled()
        part = slice(start, start + BATCH_ROWS)
        points = models.Batch(
            ids=list(range(start, start + len(matrix[part]))),
            vectors=matrix[part].tolist(),
            payloads=[{DOCUMENT: int(each)} for each in document_of[part]],
        )
        server.ask(lambda client, points=points: client.upsert(name, points, wait=True))  # type: ignore[misc]
        ctx.progress(0.7 * (start + 1) / n_rows, f"sent {start:,} of {n_rows:,} passages")
    while not server.is_local and _is_indexing(server, name):
        ctx.check_cancelled()
        ctx.progress(0.7, "the server links the passages")
        time.sleep(0.5)


def drop(connection: str, name: str) -> None:
    """Delete the collection, if it is there."""
    server = _connect(connection)
    if name in list_names(connection):
        server.ask(lambda client: client.delete_collection(name, timeout=TIMEOUT_S))


def list_names(connection: str) -> list[str]:
    """Return the names of all collections."""
    found = _connect(connection).ask(lambda client: client.get_collections())
    return [each.name for each in found.collections]


def forget(connection: str) -> None:
    """Close the client of this connection; local mode lets go of its folder."""
    with _clients_lock:
        server = _clients.pop(connection, None)
    if server is not None:
        server.ask(lambda client: client.close())


class QdrantIndex:
    """One collection. See `VectorIndex`."""

    def __init__(self, connection: str, name: str, *, n_rows: int, dims: int, recipe: IndexRecipe) -> None:
        self._connection = connection
        self._name = name
        self._n_rows = n_rows
        self._dims = dims
        self._recipe = recipe

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
        numbers, scores = self._ask(query, wanted, rows, exact=exact)
        if len(numbers) < wanted and not exact:
            numbers, scores = self._ask(query, wanted, rows, exact=True)
        order = np.argsort(numbers)
        numbers, scores = numbers[order], scores[order]
        places = best_places(scores, wanted)
        return numbers[places], scores[places]

    def vectors(self, rows: Rows | Sequence[int]) -> Matrix:
        """Fetch these rows."""
        wanted = [int(row) for row in rows]
        found = {
            point.id: point.vector
            for point in self._server.ask(
                lambda client: client.retrieve(self._name, wanted, with_payload=False, with_vectors=True)
            )
        }
        missing = [row for row in wanted if row not in found]
        if missing:
            raise IndexServerFailed(
                f"the collection {self._name} lacks row {missing[0]}.", hint="Rebuild the index."
            )
        return np.array([found[row] for row in wanted], dtype=np.float32).reshape(len(wanted), self._dims)

    def stats(self) -> IndexStats:
        """Ask the server for its number of points."""
        found = self._server.ask(lambda client: client.get_collection(self._name))
        counted = self._server.ask(lambda client: client.count(self._name, exact=True))
        return IndexStats(
            kind="qdrant",
            n_rows=counted.count,
            dims=self._dims,
            precision=self._recipe.precision or "f32",
            details={"collection": self._name, "status": str(found.status.value)},
        )

    def verify(self, sample: int = 100) -> list[Finding]:
        """Check that every row is there once, and recall at 10 against an exact search on the server."""
        held: list[int] = []
        offset: Any = None
        while True:
            points, offset = self._server.ask(
                lambda client, offset=offset: client.scroll(  # type: ignore[misc]
                    self._name, limit=10_000, offset=offset, with_payload=False, with_vectors=False
                )
            )
            held.extend(int(point.id) for point in points)
            if offset is None:
                break
        rows = check_server_rows(held, self._n_rows)
        if rows.state != "ok":
            return [rows]
        return [rows, probe_recall(self, self._n_rows, sample, threshold=LEAST_RECALL)]

    def close(self) -> None:
        """Keep the client, which other indexes of the server share; `forget` closes it."""

    @property
    def _server(self) -> _Server:
        return _connect(self._connection)

    def _ask(
        self, query: NDArray[np.float32], wanted: int, rows: RowSelection | None, *, exact: bool
    ) -> tuple[Rows, Scores]:
        models = _library().models
        quantised = None
        if self._recipe.precision == "i8" and not exact:
            quantised = models.QuantizationSearchParams(
                rescore=True, oversampling=max(1.0, self._recipe.oversample)
            )
        elif self._recipe.precision == "i8":
            quantised = models.QuantizationSearchParams(ignore=True)
        params = models.SearchParams(
            exact=exact,
            hnsw_ef=max(choose_expansion(self._recipe, self._n_rows), int(wanted * self._recipe.oversample)),
            quantization=quantised,
        )
        server, chosen = self._server, self._filter(rows)
        answer = server.ask(
            lambda client: client.query_points(
                self._name,
                query=query.tolist(),
                query_filter=chosen,
                search_params=None if server.is_local else params,  # which is always exact
                limit=wanted,
                with_payload=False,
                timeout=TIMEOUT_S,
            )
        )
        numbers = np.array([point.id for point in answer.points], dtype=np.int64)
        return numbers, np.array([point.score for point in answer.points], dtype=np.float32)

    def _filter(self, rows: RowSelection | None) -> "Filter | None":
        models = _library().models
        if rows is None or rows.count == self._n_rows:
            return None
        if rows.count <= NARROW_ROWS:
            by_row: Filter = models.Filter(must=[models.HasIdCondition(has_id=rows.rows.tolist())])
            return by_row
        chosen, others = np.flatnonzero(rows.documents), np.flatnonzero(~rows.documents)
        fewer = chosen if len(chosen) <= len(others) else others
        condition = models.FieldCondition(key=DOCUMENT, match=models.MatchAny(any=fewer.tolist()))
        by_document: Filter = models.Filter(**{"must" if fewer is chosen else "must_not": [condition]})
        return by_document


def _connect(connection: str) -> _Server:
    with _clients_lock:
        server = _clients.get(connection)
        if server is None:
            server = _clients[connection] = _make_server(connection)
        return server


def _make_server(connection: str) -> _Server:
    client = _library().QdrantClient
    if connection.startswith(_LOCAL):
        scheme, _, path = connection.partition(":")
        place = {"location": ":memory:"} if scheme == "memory" else {"path": path}
        try:
            return _Server(client(**place, force_disable_check_same_thread=True), is_local=True)
        except (RuntimeError, OSError) as error:
            raise IndexServerFailed(f"Qdrant's folder cannot be opened: {error}") from error
    parts = urlsplit(connection)
    key = parts.password or parts.username
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return _Server(
        client(
            url=url,
            port=parts.port or (443 if parts.scheme == "https" else 6333),
            api_key=unquote(key) if key else None,
            timeout=TIMEOUT_S,
            check_compatibility=False,
        ),
        is_local=False,
    )


def _is_indexing(server: _Server, name: str) -> bool:
    return str(server.ask(lambda client: client.get_collection(name)).status.value) == "yellow"


def _library() -> Any:
    try:
        import qdrant_client
    except ImportError as error:
        raise MissingEngine(
            "the package qdrant-client is not installed.",
            hint="Install it with: pip install 'penstock[qdrant]'.",
        ) from error
    return qdrant_client


def _failures() -> tuple[type[Exception], ...]:
    from qdrant_client.http.exceptions import ApiException

    return (ApiException, ValueError, RuntimeError, OSError)
