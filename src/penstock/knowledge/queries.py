"""All SQL of the knowledge room on the control tables. Index files have their own store in `index/`."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.store.control.tables import knowledge as tables

bases = tables.knowledge_bases
documents = tables.knowledge_documents
passages = tables.knowledge_passages
embeddings = tables.knowledge_embeddings
generations = tables.knowledge_generations
members = tables.knowledge_members
parses = tables.knowledge_parses
_SLICE = 500
"""Values in one `IN`: well below the bound on parameters of both databases."""


def insert_missing(connection: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def add_base(connection: Connection, *, name: str, recipe: dict[str, Any], now_ns: int) -> None:
    """Create the base, if it is not there yet."""
    row = {"name": name, "recipe": recipe, "source": None, "created_ns": now_ns, "updated_ns": now_ns}
    insert_missing(connection, bases, [row])


def set_source(connection: Connection, name: str, source: str, *, now_ns: int) -> None:
    """Note the folder that the base was ingested from last."""
    connection.execute(update(bases).where(bases.c.name == name).values(source=source, updated_ns=now_ns))


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


def find_document_states(connection: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Return what came of these document versions, by id."""
    query = select(
        documents.c.id,
        documents.c.path,
        documents.c.n_passages,
        documents.c.n_dropped_chars,
        documents.c.problems,
        documents.c.error,
    )
    found: dict[str, Row[Any]] = {}
    for part in slices(ids):
        rows = cast("Iterator[Row[Any]]", connection.execute(query.where(documents.c.id.in_(part))))
        found.update((row.id, row) for row in rows)
    return found


def list_member_states(connection: Connection, generation: str) -> Sequence[Row[Any]]:
    """Return path, digest and counts of a generation's document versions."""
    query = select(
        documents.c.id, documents.c.path, documents.c.digest, documents.c.size_bytes, documents.c.n_passages
    ).join(members, members.c.document_id == documents.c.id)
    rows = connection.execute(query.where(members.c.generation == generation)).all()
    return cast("Sequence[Row[Any]]", rows)


def find_known_documents(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return which of these document versions are there with every passage."""
    stored = (
        select(func.count())
        .select_from(passages)
        .where(passages.c.document_id == documents.c.id)
        .scalar_subquery()
    )
    whole = select(documents.c.id).where(documents.c.n_passages == stored)
    found: set[str] = set()
    for part in slices(ids):
        found.update(connection.execute(whole.where(documents.c.id.in_(part))).scalars())
    return found


def find_parses(connection: Connection, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the blobs of kept parses by (digest of the bytes, digest of the parser)."""
    query = select(parses.c.digest, parses.c.parse_digest, parses.c.blob).where(parses.c.blob.is_not(None))
    found: dict[tuple[str, str], str] = {}
    for part in slices([digest for digest, _ in keys]):
        for row in connection.execute(query.where(parses.c.digest.in_(part))):
            found[row.digest, row.parse_digest] = row.blob
    return {key: found[key] for key in keys if key in found}


def add_parse(connection: Connection, row: dict[str, Any]) -> None:
    """Keep what a parser made of bytes, if it is not there yet."""
    insert_missing(connection, parses, [row])


def list_generation_documents(connection: Connection, generation: str) -> Sequence[Row[Any]]:
    """Return the document versions of a generation by path, each with the name of its source."""
    return connection.execute(
        _with_source().where(members.c.generation == generation).order_by(documents.c.path)
    ).all()


def count_failed_documents(connection: Connection, generation: str) -> int:
    """Return how many documents of a generation have bytes that could not be read."""
    query = (
        select(func.count())
        .select_from(members)
        .join(documents, documents.c.id == members.c.document_id)
        .where(members.c.generation == generation, documents.c.error.is_not(None))
    )
    return int(connection.execute(query).scalar_one())


def find_member_documents(
    connection: Connection, base: str, generation: str, path: str
) -> Sequence[Row[Any]]:
    """Return the versions of one document in a generation, each with the name of its source."""
    query = _with_source().where(
        documents.c.base == base, documents.c.path == path, members.c.generation == generation
    )
    return connection.execute(query).all()


def iterate_documents_from(
    connection: Connection, base: str, generation: str, *, after: str | None, is_down: bool
) -> Iterator[Row[Any]]:
    """Yield the document versions of a generation by path, those behind `after`; read from the database as they are taken."""
    path = documents.c.path
    query = _with_source().where(documents.c.base == base, members.c.generation == generation)
    if after is not None:
        query = query.where(path < after if is_down else path > after)
    query = query.order_by(path.desc() if is_down else path).execution_options(yield_per=200)
    yield from cast("Iterator[Row[Any]]", connection.execute(query))


def _with_source() -> Select[Any]:
    sources = tables.knowledge_sources
    return (
        select(documents, sources.c.name.label("source"))
        .join(members, members.c.document_id == documents.c.id)
        .join(sources, sources.c.id == documents.c.source_id, isouter=True)
    )


def iterate_generation_documents(connection: Connection, generation: str) -> Iterator[Row[Any]]:
    """Yield the document versions of a generation that hold passages, in the order of its index: by path."""
    query = select(documents).join(members, members.c.document_id == documents.c.id)
    query = query.where(members.c.generation == generation, documents.c.n_passages > 0)
    yield from cast(
        "Iterator[Row[Any]]",
        connection.execute(query.order_by(documents.c.path).execution_options(yield_per=500)),
    )


def iterate_readers(connection: Connection, generation: str) -> Iterator[Row[Any]]:
    """Yield properties and number of passages of each document of a generation that can be found."""
    query = select(documents.c.properties, documents.c.n_passages)
    query = query.join(members, members.c.document_id == documents.c.id)
    query = query.where(members.c.generation == generation, documents.c.n_passages > 0)
    yield from cast("Iterator[Row[Any]]", connection.execute(query.execution_options(yield_per=2000)))


def forget_token(connection: Connection, source: str, digest: str) -> None:
    """Let the next scan of a source read what has these bytes, whatever its token says."""
    items = tables.knowledge_items
    connection.execute(
        update(items).where(items.c.source_id == source, items.c.digest == digest).values(token=None)
    )


def list_source_names(connection: Connection) -> dict[str, str]:
    """Return the names of all sources by id."""
    sources = tables.knowledge_sources
    return {row.id: row.name for row in connection.execute(select(sources.c.id, sources.c.name))}


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
            select(passages, documents.c.path, documents.c.title, documents.c.properties)
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
