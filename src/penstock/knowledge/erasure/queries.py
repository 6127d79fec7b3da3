"""All SQL of erasing documents, but for what pruning has already."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, update

from penstock.knowledge.queries import (
    documents,
    embeddings,
    generations,
    insert_missing,
    members,
    passages,
    slices,
)
from penstock.knowledge.sources.queries import KEPT_STATES, items, sources
from penstock.store.control.tables import knowledge as tables
from penstock.store.control.tables.knowledge_erasure import knowledge_erasures as erasures
from penstock.store.control.tables.knowledge_erasure import knowledge_kept_out as kept_out

feedback = tables.knowledge_feedback
parses = tables.knowledge_parses
_OPEN = ("waiting", "running")


def add_erasure(connection: Connection, row: dict[str, Any]) -> None:
    """Write down what was asked."""
    connection.execute(insert(erasures).values(row))


def change_erasure(connection: Connection, erasure_id: str, values: dict[str, Any]) -> None:
    """Change some columns of an erasure."""
    connection.execute(update(erasures).where(erasures.c.id == erasure_id).values(values))


def find_erasure(connection: Connection, erasure_id: str) -> Row[Any] | None:
    """Return one erasure, or None."""
    return connection.execute(select(erasures).where(erasures.c.id == erasure_id)).one_or_none()


def list_erasures(connection: Connection, *, limit: int) -> Sequence[Row[Any]]:
    """Return the newest erasures."""
    return connection.execute(select(erasures).order_by(erasures.c.id.desc()).limit(limit)).all()


def list_open(connection: Connection) -> Sequence[Row[Any]]:
    """Return erasures that are not done, the oldest first."""
    return connection.execute(
        select(erasures).where(erasures.c.state.in_(_OPEN)).order_by(erasures.c.id)
    ).all()


def keep_out(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add digests to the list of what no ingest brings back."""
    insert_missing(connection, kept_out, rows)


def list_kept_out(connection: Connection, bases: Sequence[str] | None = None) -> Sequence[Row[Any]]:
    """Return what is kept out of these bases, or of all."""
    query = select(kept_out).order_by(kept_out.c.base, kept_out.c.erased_ns, kept_out.c.digest)
    return connection.execute(query if bases is None else query.where(kept_out.c.base.in_(bases))).all()


def let_in(connection: Connection, base: str, kinds: Sequence[str], digests: Sequence[str]) -> int:
    """Take digests from the list; return how many stood there."""
    found = connection.execute(
        delete(kept_out).where(
            kept_out.c.base == base, kept_out.c.kind.in_(kinds), kept_out.c.digest.in_(digests)
        )
    )
    return found.rowcount


def list_bases(connection: Connection) -> list[str]:
    """Return the names of all bases that hold, or held, documents."""
    found = set(connection.execute(select(tables.knowledge_bases.c.name)).scalars())
    return sorted(found | set(connection.execute(select(sources.c.base)).scalars()))


def iterate_documents(connection: Connection, base: str) -> Iterator[Row[Any]]:
    """Yield every version of every document of a base."""
    query = select(
        documents.c.id,
        documents.c.path,
        documents.c.title,
        documents.c.digest,
        documents.c.n_passages,
        documents.c.properties,
    ).where(documents.c.base == base)
    rows = connection.execute(query.order_by(documents.c.path).execution_options(yield_per=1000))
    yield from cast("Iterator[Row[Any]]", rows)


def iterate_items(connection: Connection, base: str) -> Iterator[Row[Any]]:
    """Yield what the sources of a base hold, each with the prefix of its source."""
    query = (
        select(items.c.source_id, items.c.path, items.c.digest, items.c.properties, sources.c.settings)
        .join(sources, sources.c.id == items.c.source_id)
        .where(sources.c.base == base)
    )
    yield from cast("Iterator[Row[Any]]", connection.execute(query.execution_options(yield_per=1000)))


def find_holding(connection: Connection, base: str, text: str) -> set[str]:
    """Return the document versions of a base in whose path, title, sections or passages a text stands."""
    is_sqlite = connection.dialect.name == "sqlite"
    place = func.instr if is_sqlite else func.strpos
    within = [place(column, text) > 0 for column in (passages.c.text, passages.c.section, passages.c.lead)]
    query = (
        select(passages.c.document_id)
        .join(documents, documents.c.id == passages.c.document_id)
        .where(documents.c.base == base, or_(*within))
        .distinct()
    )
    own = select(documents.c.id).where(
        documents.c.base == base, or_(place(documents.c.path, text) > 0, place(documents.c.title, text) > 0)
    )
    return {*connection.execute(query).scalars(), *connection.execute(own).scalars()}


def list_byte_digests(connection: Connection, base: str) -> list[str]:
    """Return the digests of all bytes of a base, of documents and of what its sources hold."""
    found = set(connection.execute(select(documents.c.digest).where(documents.c.base == base)).scalars())
    query = select(items.c.digest).join(sources, sources.c.id == items.c.source_id)
    found.update(
        connection.execute(query.where(sources.c.base == base, items.c.digest.is_not(None))).scalars()
    )
    return sorted(found)


def list_parse_blobs(connection: Connection, digests: Sequence[str]) -> list[str]:
    """Return the blobs of what parsers made of these bytes."""
    found: set[str] = set()
    for part in slices(digests):
        query = select(parses.c.blob).where(parses.c.digest.in_(part), parses.c.blob.is_not(None))
        found.update(connection.execute(query).scalars())
    return sorted(found)


def count_generations(connection: Connection, ids: Sequence[str]) -> int:
    """Return how many generations hold one of these versions."""
    return len(find_generations(connection, ids))


def find_generations(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Return the generations that hold one of these versions."""
    found: set[str] = set()
    for part in slices(ids):
        query = select(members.c.generation).where(members.c.document_id.in_(part)).distinct()
        found.update(connection.execute(query).scalars())
    return found


def list_members(connection: Connection, generation: str) -> dict[str, int]:
    """Return the document versions of a generation with their numbers of passages."""
    query = select(documents.c.id, documents.c.n_passages).join(
        members, members.c.document_id == documents.c.id
    )
    return {
        row.id: row.n_passages for row in connection.execute(query.where(members.c.generation == generation))
    }


def find_generation_rows(connection: Connection, ids: Sequence[str]) -> list[Row[Any]]:
    """Return these generations."""
    found: list[Row[Any]] = []
    for part in slices(ids):
        found += connection.execute(select(generations).where(generations.c.id.in_(part))).all()
    return found


def iterate_passages(connection: Connection, ids: Sequence[str]) -> Iterator[Row[Any]]:
    """Yield the passages of these versions."""
    columns = (passages.c.id, passages.c.text, passages.c.section, passages.c.lead, passages.c.embed_digest)
    for part in slices(ids):
        query = select(*columns).where(passages.c.document_id.in_(part))
        yield from cast("Iterator[Row[Any]]", connection.execute(query))


def iterate_other_texts(connection: Connection, ids: Sequence[str]) -> Iterator[Row[Any]]:
    """Yield text and lead of every passage, of all bases, that is of none of these versions."""
    gone = set(ids)
    query = select(passages.c.document_id, passages.c.text, passages.c.section, passages.c.lead)
    for row in connection.execute(query.execution_options(yield_per=1000)):
        if row.document_id not in gone:
            yield cast("Row[Any]", row)


def find_same_bytes(
    connection: Connection, digests: Sequence[str], ids: Sequence[str]
) -> list[tuple[str, str]]:
    """Return (base, path) of documents that have the same bytes and are none of these versions."""
    gone = set(ids)
    found: set[tuple[str, str]] = set()
    for part in slices(digests):
        query = select(documents.c.id, documents.c.base, documents.c.path).where(documents.c.digest.in_(part))
        found.update((row.base, row.path) for row in connection.execute(query) if row.id not in gone)
    return sorted(found)


def delete_items(connection: Connection, keys: Sequence[tuple[str, str]]) -> int:
    """Forget items by (source, path)."""
    n = 0
    for source_id, path in keys:
        n += connection.execute(
            delete(items).where(items.c.source_id == source_id, items.c.path == path)
        ).rowcount
    return n


def forget_moves(connection: Connection, paths: Sequence[str]) -> None:
    """Forget of other items that they had one of these paths before."""
    for part in slices(paths):
        connection.execute(update(items).where(items.c.moved_from.in_(part)).values(moved_from=None))


def delete_vectors(connection: Connection, digests: Sequence[str]) -> int:
    """Delete vectors of texts that no passage has any more."""
    n = 0
    for part in slices(digests):
        unused = ~exists().where(passages.c.embed_digest == embeddings.c.embed_digest)
        n += connection.execute(
            delete(embeddings).where(embeddings.c.embed_digest.in_(part), unused)
        ).rowcount
    return n


def delete_parses(connection: Connection, digests: Sequence[str]) -> tuple[int, list[str]]:
    """Delete what was kept of parsing bytes that nothing refers to any more; return how many, and their blobs."""
    n, blobs = 0, []
    for part in slices(digests):
        used = set(
            connection.execute(select(documents.c.digest).where(documents.c.digest.in_(part))).scalars()
        )
        kept = select(items.c.digest).where(items.c.digest.in_(part), items.c.state.in_(KEPT_STATES))
        used.update(connection.execute(kept).scalars())
        free = [digest for digest in part if digest not in used]
        query = select(parses.c.blob).where(parses.c.digest.in_(free), parses.c.blob.is_not(None))
        blobs += list(connection.execute(query).scalars())
        n += connection.execute(delete(parses).where(parses.c.digest.in_(free))).rowcount
    return n, blobs


def delete_feedback(
    connection: Connection,
    *,
    actor: str | None,
    bases: Sequence[str],
    passage_ids: Sequence[str],
    paths: Sequence[str],
) -> int:
    """Delete judgements that somebody made, or that name passages or documents."""
    n = 0
    if actor is not None:
        n += connection.execute(
            delete(feedback).where(feedback.c.actor.in_([actor, f"user:{actor}"]))
        ).rowcount
    for part in slices(passage_ids):
        n += connection.execute(delete(feedback).where(feedback.c.passage_id.in_(part))).rowcount
    for part in slices(paths):
        named = feedback.c.document.in_(part)
        n += connection.execute(delete(feedback).where(feedback.c.base.in_(bases), named)).rowcount
    return n


def count_feedback(connection: Connection, actor: str) -> int:
    """Return how many judgements somebody made."""
    query = select(func.count()).select_from(feedback).where(feedback.c.actor.in_([actor, f"user:{actor}"]))
    return int(connection.execute(query).scalar() or 0)
