"""All SQL of tracks, and of what nothing refers to any more."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, exists, func, select, update

from penstock.knowledge.queries import (
    bases,
    documents,
    embeddings,
    generations,
    insert_missing,
    members,
    passages,
    slices,
)
from penstock.knowledge.sources.queries import KEPT_STATES
from penstock.store.control.tables import knowledge as tables

tracks = tables.knowledge_tracks
parses = tables.knowledge_parses
items = tables.knowledge_items
sources = tables.knowledge_sources


def list_tracks(connection: Connection, base: str) -> Sequence[Row[Any]]:
    """Return the tracks of a base by name."""
    return connection.execute(select(tracks).where(tracks.c.base == base).order_by(tracks.c.name)).all()


def save_track(connection: Connection, row: dict[str, Any]) -> None:
    """Create a track or renew its recipe, generation and note."""
    insert_missing(connection, tracks, [row])
    values = {name: row[name] for name in ("recipe", "generation", "note", "updated_ns")}
    connection.execute(
        update(tracks).where(tracks.c.base == row["base"], tracks.c.name == row["name"]).values(values)
    )


def drop_track(connection: Connection, base: str, name: str) -> bool:
    """Forget a track; return whether there was one."""
    done = connection.execute(delete(tracks).where(tracks.c.base == base, tracks.c.name == name))
    return bool(done.rowcount)


def set_base_recipe(connection: Connection, base: str, recipe: dict[str, Any], *, now_ns: int) -> None:
    """Make `recipe` the one that the base's next ingests use."""
    connection.execute(update(bases).where(bases.c.name == base).values(recipe=recipe, updated_ns=now_ns))


def delete_generations(connection: Connection, ids: Sequence[str]) -> int:
    """Delete generations; their documents stay."""
    n = 0
    for part in slices(ids):
        connection.execute(delete(members).where(members.c.generation.in_(part)))
        n += connection.execute(delete(generations).where(generations.c.id.in_(part))).rowcount
    return n


def list_unused_documents(connection: Connection, base: str, *, limit: int) -> Sequence[Row[Any]]:
    """Return id and digest of document versions that no generation holds."""
    query = select(documents.c.id, documents.c.digest).where(
        documents.c.base == base, ~exists().where(members.c.document_id == documents.c.id)
    )
    return cast("Sequence[Row[Any]]", connection.execute(query.order_by(documents.c.id).limit(limit)).all())


def delete_documents(connection: Connection, ids: Sequence[str]) -> int:
    """Delete document versions that no generation holds, with their passages; return how many."""
    n = 0
    for part in slices(ids):
        free = list(
            connection.execute(
                select(documents.c.id).where(
                    documents.c.id.in_(part), ~exists().where(members.c.document_id == documents.c.id)
                )
            ).scalars()
        )
        connection.execute(delete(passages).where(passages.c.document_id.in_(free)))
        n += connection.execute(delete(documents).where(documents.c.id.in_(free))).rowcount
    return n


def list_unused_parses(connection: Connection, *, before_ns: int, limit: int) -> Sequence[Row[Any]]:
    """Return parses of bytes that no document version of any base has, and no source holds."""
    query = select(parses.c.digest, parses.c.parse_digest, parses.c.blob).where(
        parses.c.created_ns < before_ns,
        ~exists().where(documents.c.digest == parses.c.digest),
        ~exists().where(items.c.digest == parses.c.digest, items.c.state.in_(KEPT_STATES)),
    )
    rows = connection.execute(query.order_by(parses.c.digest, parses.c.parse_digest).limit(limit)).all()
    return cast("Sequence[Row[Any]]", rows)


def delete_parse(connection: Connection, digest: str, parse_digest: str) -> None:
    """Delete a kept parse."""
    connection.execute(delete(parses).where(parses.c.digest == digest, parses.c.parse_digest == parse_digest))


def is_blob_used(connection: Connection, digest: str) -> bool:
    """Return whether a document version, a source or a parse needs the blob."""
    uses = (
        select(documents.c.id).where(documents.c.digest == digest),
        select(items.c.path).where(items.c.digest == digest, items.c.state.in_(KEPT_STATES)),
        select(parses.c.digest).where(parses.c.blob == digest),
    )
    return any(connection.execute(use.limit(1)).first() is not None for use in uses)


def delete_unused_vectors(connection: Connection) -> int:
    """Delete cached vectors that no generation needs: of texts that are gone, or of an embedder that is; return how many."""
    unused = ~exists(
        select(passages.c.id)
        .join(members, members.c.document_id == passages.c.document_id)
        .join(generations, generations.c.id == members.c.generation)
        .where(
            passages.c.embed_digest == embeddings.c.embed_digest,
            generations.c.embedder == embeddings.c.embedder,
        )
    )
    return connection.execute(delete(embeddings).where(unused)).rowcount


def delete_orphan_passages(connection: Connection) -> int:
    """Delete passages of documents that are not there; return how many."""
    orphan = ~exists().where(documents.c.id == passages.c.document_id)
    return connection.execute(delete(passages).where(orphan)).rowcount


def count_stored_passages(connection: Connection, generation: str) -> int:
    """Return how many passages of a generation the table holds."""
    query = select(func.count()).select_from(passages)
    query = query.join(members, members.c.document_id == passages.c.document_id)
    return int(connection.execute(query.where(members.c.generation == generation)).scalar() or 0)


def count_missing_vectors(connection: Connection, generation: str, embedder: str) -> int:
    """Return how many passages of a generation have no vector in the cache."""
    query = select(func.count()).select_from(passages)
    query = query.join(members, members.c.document_id == passages.c.document_id)
    cached = exists().where(
        embeddings.c.embedder == embedder, embeddings.c.embed_digest == passages.c.embed_digest
    )
    return int(connection.execute(query.where(members.c.generation == generation, ~cached)).scalar() or 0)


def count_unused_documents(connection: Connection, base: str) -> int:
    """Return how many document versions no generation holds."""
    query = select(func.count()).select_from(documents)
    unused = ~exists().where(members.c.document_id == documents.c.id)
    return int(connection.execute(query.where(documents.c.base == base, unused)).scalar() or 0)


def count_orphan_passages(connection: Connection) -> int:
    """Return how many passages belong to no document."""
    query = select(func.count()).select_from(passages)
    return int(
        connection.execute(query.where(~exists().where(documents.c.id == passages.c.document_id))).scalar()
        or 0
    )
