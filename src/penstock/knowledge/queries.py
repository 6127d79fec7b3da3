"""All SQL of the knowledge room on the control tables. Index files have their own store in `index/`."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.store.control.tables import knowledge as tables

bases = tables.knowledge_bases
documents = tables.knowledge_documents
passages = tables.knowledge_passages
embeddings = tables.knowledge_embeddings
generations = tables.knowledge_generations
members = tables.knowledge_members
_SLICE = 500
"""Values in one `IN`: well below the bound on parameters of both databases."""


def insert_missing(connection: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def save_base(connection: Connection, *, name: str, recipe: dict[str, Any], source: str, now_ns: int) -> None:
    """Create the base or renew its recipe and source."""
    row = {"name": name, "recipe": recipe, "source": source, "created_ns": now_ns, "updated_ns": now_ns}
    insert_missing(connection, bases, [row])
    connection.execute(
        update(bases).where(bases.c.name == name).values(recipe=recipe, source=source, updated_ns=now_ns)
    )


def set_live(connection: Connection, *, name: str, generation: str, now_ns: int) -> None:
    """Make `generation` the one that is searched."""
    values = {"live_generation": generation, "updated_ns": now_ns}
    connection.execute(update(bases).where(bases.c.name == name).values(values))


def find_base(connection: Connection, name: str) -> Row[Any] | None:
    """Return the base's row, or None."""
    return connection.execute(select(bases).where(bases.c.name == name)).one_or_none()


def list_bases(connection: Connection) -> Sequence[Row[Any]]:
    """Return all bases by name."""
    return connection.execute(select(bases).order_by(bases.c.name)).all()


def find_generation(connection: Connection, generation: str) -> Row[Any] | None:
    """Return the generation's row, or None."""
    return connection.execute(select(generations).where(generations.c.id == generation)).one_or_none()


def list_generations(connection: Connection, base: str) -> Sequence[Row[Any]]:
    """Return the generations of a base, newest first."""
    query = select(generations).where(generations.c.base == base)
    return connection.execute(query.order_by(generations.c.created_ns.desc(), generations.c.id)).all()


def find_documents(connection: Connection, base: str, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the document versions with these ids, by id."""
    found: dict[str, Row[Any]] = {}
    for part in slices(ids):
        query = select(documents).where(documents.c.base == base, documents.c.id.in_(part))
        found.update((row.id, row) for row in connection.execute(query))
    return found


def list_generation_documents(connection: Connection, generation: str) -> Sequence[Row[Any]]:
    """Return the document versions of a generation by path."""
    query = select(documents).join(members, members.c.document_id == documents.c.id)
    return connection.execute(
        query.where(members.c.generation == generation).order_by(documents.c.path)
    ).all()


def iterate_generation_passages(connection: Connection, generation: str) -> Iterator[Row[Any]]:
    """Yield the passages of a generation in its index order: by path, then by position."""
    query = (
        select(
            passages.c.document_id,
            passages.c.position,
            passages.c.id,
            passages.c.section,
            passages.c.text,
            passages.c.embed_digest,
            documents.c.title,
        )
        .join(documents, documents.c.id == passages.c.document_id)
        .join(members, members.c.document_id == documents.c.id)
        .where(members.c.generation == generation)
        .order_by(documents.c.path, passages.c.position)
        .execution_options(yield_per=1000)
    )
    yield from cast("Iterator[Row[Any]]", connection.execute(query))


def find_passages(
    connection: Connection, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Row[Any]]:
    """Return passages with path and title of their documents, by (document id, position)."""
    found: dict[tuple[str, int], Row[Any]] = {}
    for start in range(0, len(places), _SLICE // 2):
        query = (
            select(passages, documents.c.path, documents.c.title)
            .join(documents, documents.c.id == passages.c.document_id)
            .where(
                tuple_(passages.c.document_id, passages.c.position).in_(places[start : start + _SLICE // 2])
            )
        )
        found.update(((row.document_id, row.position), row) for row in connection.execute(query))
    return found


def list_document_passages(connection: Connection, document_id: str) -> Sequence[Row[Any]]:
    """Return the passages of one document version in reading order."""
    query = select(passages).where(passages.c.document_id == document_id)
    return connection.execute(query.order_by(passages.c.position)).all()


def list_passage_digests(connection: Connection, document_ids: Sequence[str]) -> dict[str, None]:
    """Return the digests of what is to be embedded for these documents, in order, each once."""
    digests: dict[str, None] = {}
    for part in slices(document_ids):
        query = select(passages.c.embed_digest).where(passages.c.document_id.in_(part))
        ordered = query.order_by(passages.c.document_id, passages.c.position)
        digests.update((row.embed_digest, None) for row in connection.execute(ordered))
    return digests


def find_texts(connection: Connection, digests: Sequence[str]) -> dict[str, Row[Any]]:
    """Return title, section, headings, lead and text of one passage per digest."""
    found: dict[str, Row[Any]] = {}
    for part in slices(digests):
        query = (
            select(
                passages.c.embed_digest,
                documents.c.title,
                passages.c.section,
                passages.c.text,
                passages.c.headings,
                passages.c.lead,
            )
            .join(documents, documents.c.id == passages.c.document_id)
            .where(passages.c.embed_digest.in_(part))
        )
        found.update(
            (str(row.embed_digest), row) for row in cast("Iterator[Row[Any]]", connection.execute(query))
        )
    return found


def find_vectors(connection: Connection, embedder: str, digests: Sequence[str]) -> dict[str, bytes]:
    """Return the cached vectors (little-endian float32) by digest."""
    found: dict[str, bytes] = {}
    for part in slices(digests):
        query = select(embeddings.c.embed_digest, embeddings.c.vector).where(
            embeddings.c.embedder == embedder, embeddings.c.embed_digest.in_(part)
        )
        found.update((row.embed_digest, row.vector) for row in connection.execute(query))
    return found


def find_cached(connection: Connection, embedder: str, digests: Sequence[str]) -> set[str]:
    """Return which of the digests have a cached vector."""
    found: set[str] = set()
    for part in slices(digests):
        query = select(embeddings.c.embed_digest).where(
            embeddings.c.embedder == embedder, embeddings.c.embed_digest.in_(part)
        )
        found.update(connection.execute(query).scalars())
    return found


def add_document(
    connection: Connection, document: dict[str, Any], document_passages: Sequence[dict[str, Any]]
) -> None:
    """Add a document version with its passages, if it is not there yet."""
    insert_missing(connection, documents, [document])
    insert_missing(connection, passages, document_passages)


def add_generation(connection: Connection, generation: dict[str, Any], document_ids: Sequence[str]) -> None:
    """Add a generation with its documents, if it is not there yet."""
    insert_missing(connection, generations, [generation])
    insert_missing(
        connection, members, [{"generation": generation["id"], "document_id": each} for each in document_ids]
    )


def count_passages(connection: Connection, document_ids: Sequence[str]) -> int:
    """Return how many passages these documents have."""
    total = 0
    for part in slices(document_ids):
        query = select(func.sum(documents.c.n_passages)).where(documents.c.id.in_(part))
        total += int(connection.execute(query).scalar() or 0)
    return total


def slices(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the distinct values in pieces that fit into one `IN`."""
    distinct = list(dict.fromkeys(values))
    for start in range(0, len(distinct), _SLICE):
        yield distinct[start : start + _SLICE]
