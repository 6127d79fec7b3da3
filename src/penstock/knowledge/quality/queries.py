"""All SQL of retrieval quality: measurements, comparisons, feedback, watches, and documents and passages of one generation."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, or_, select, update

from penstock.base.errors import InvalidInput
from penstock.knowledge.quality.report_types import TriadState
from penstock.knowledge.quality.types import Feedback, GenerationComparison, Measurement
from penstock.store.control.tables import knowledge as tables
from penstock.store.control.tables import knowledge_quality as own

measurements = tables.knowledge_measurements
feedback = tables.knowledge_feedback
generations = tables.knowledge_generations
members = tables.knowledge_members
documents = tables.knowledge_documents
passages = tables.knowledge_passages
tracks = tables.knowledge_tracks
items = tables.knowledge_items
sources = tables.knowledge_sources
comparisons = own.knowledge_comparisons
watches = own.knowledge_watches
_SLICE = 500
"""Values in one `IN`: well below the bound on parameters of both databases."""


# measurements and comparisons


def add_measurement(connection: Connection, made: Measurement) -> None:
    """Keep a measurement."""
    connection.execute(
        insert(measurements).values(
            id=made.id,
            base=made.base,
            generation=made.generation,
            questions=made.questions,
            actor=made.actor,
            content=msgspec.to_builtins(made),
            made_ns=made.made_ns,
        )
    )


def find_measurement(connection: Connection, measurement_id: str) -> Measurement | None:
    """Return a measurement, or None."""
    query = select(measurements.c.content).where(measurements.c.id == measurement_id)
    content = connection.execute(query).scalar_one_or_none()
    return None if content is None else msgspec.convert(content, Measurement)


def list_measurements(
    connection: Connection,
    base: str,
    *,
    generation: str | None,
    questions: str | None,
    cursor: str | None,
    limit: int,
) -> list[Measurement]:
    """Return measurements of a base, newest first."""
    query = select(measurements.c.content).where(measurements.c.base == base)
    if generation is not None:
        query = query.where(measurements.c.generation == generation)
    if questions is not None:
        name = questions.partition("@")[0]
        query = query.where(
            or_(
                measurements.c.questions == questions,
                measurements.c.questions.like(f"{_plain(name)}@%", escape="\\"),
            )
        )
    found = connection.execute(_page(query, measurements, cursor, limit)).scalars()
    return [msgspec.convert(content, Measurement) for content in found]


def add_comparison(connection: Connection, made: GenerationComparison) -> None:
    """Keep a comparison."""
    connection.execute(
        insert(comparisons).values(
            id=made.id,
            base=made.base,
            baseline=made.baseline,
            candidate=made.candidate,
            verdict=made.verdict,
            actor=made.actor,
            content=msgspec.to_builtins(made),
            made_ns=made.made_ns,
        )
    )


def find_comparison(connection: Connection, comparison_id: str) -> GenerationComparison | None:
    """Return a comparison, or None."""
    query = select(comparisons.c.content).where(comparisons.c.id == comparison_id)
    content = connection.execute(query).scalar_one_or_none()
    return None if content is None else msgspec.convert(content, GenerationComparison)


def list_comparisons(
    connection: Connection, base: str, *, cursor: str | None, limit: int
) -> list[GenerationComparison]:
    """Return comparisons of a base, newest first."""
    query = select(comparisons.c.content).where(comparisons.c.base == base)
    found = connection.execute(_page(query, comparisons, cursor, limit)).scalars()
    return [msgspec.convert(content, GenerationComparison) for content in found]


# feedback


def add_feedback(connection: Connection, made: Feedback) -> None:
    """Keep a judgement."""
    connection.execute(insert(feedback).values(**msgspec.structs.asdict(made)))


def list_feedback(
    connection: Connection,
    base: str,
    *,
    kinds: Sequence[str],
    since_ns: int | None,
    cursor: str | None,
    limit: int,
) -> list[Feedback]:
    """Return judgements of a base, newest first."""
    query = select(feedback).where(feedback.c.base == base)
    if kinds:
        query = query.where(feedback.c.kind.in_(kinds))
    if since_ns is not None:
        query = query.where(feedback.c.made_ns >= since_ns)
    rows = connection.execute(_page(query, feedback, cursor, limit)).mappings()
    return [msgspec.convert({str(name): value for name, value in row.items()}, Feedback) for row in rows]


def count_feedback(connection: Connection, base: str) -> dict[str, int]:
    """Return kind to number of judgements."""
    query = select(feedback.c.kind, func.count()).where(feedback.c.base == base).group_by(feedback.c.kind)
    return {kind: int(number) for kind, number in connection.execute(query)}


# watches


def list_watches(connection: Connection) -> list[TriadState]:
    """Return all watches by app."""
    query = select(watches.c.content).order_by(watches.c.app)
    return [msgspec.convert(content, TriadState) for content in connection.execute(query).scalars()]


def save_watch(connection: Connection, state: TriadState) -> None:
    """Create or renew the watch over an app."""
    content = msgspec.to_builtins(state)
    app = state.settings.app
    done = connection.execute(
        update(watches).where(watches.c.app == app).values(content=content, updated_ns=state.updated_ns)
    )
    if done.rowcount == 0:
        connection.execute(insert(watches).values(app=app, content=content, updated_ns=state.updated_ns))


def delete_watch(connection: Connection, app: str) -> bool:
    """Return whether there was a watch over the app; there is none now."""
    return connection.execute(delete(watches).where(watches.c.app == app)).rowcount > 0


# generations, documents, passages


def find_generation(connection: Connection, base: str, generation: str) -> Row[Any] | None:
    """Return a generation of a base, or None."""
    query = select(generations).where(generations.c.id == generation, generations.c.base == base)
    return connection.execute(query).one_or_none()


def list_tracks(connection: Connection, base: str) -> dict[str, Row[Any]]:
    """Return the tracks of a base by name."""
    return {row.name: row for row in connection.execute(select(tracks).where(tracks.c.base == base)).all()}


def list_generation_documents(connection: Connection, generation: str) -> Sequence[Row[Any]]:
    """Return the document versions of a generation by path."""
    query = select(documents).join(members, members.c.document_id == documents.c.id)
    return connection.execute(
        query.where(members.c.generation == generation).order_by(documents.c.path)
    ).all()


def list_document_versions(connection: Connection, base: str, path: str) -> Sequence[Row[Any]]:
    """Return every version of a document, newest first."""
    query = select(documents).where(documents.c.base == base, documents.c.path == path)
    return connection.execute(query.order_by(documents.c.created_ns.desc(), documents.c.id)).all()


def list_passages(connection: Connection, document_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Return the passages of document versions in reading order, by document id."""
    found: dict[str, list[Row[Any]]] = {}
    distinct = list(dict.fromkeys(document_ids))
    for start in range(0, len(distinct), _SLICE):
        query = (
            select(passages)
            .where(passages.c.document_id.in_(distinct[start : start + _SLICE]))
            .order_by(passages.c.document_id, passages.c.position)
        )
        for row in connection.execute(query):
            found.setdefault(row.document_id, []).append(row)
    return found


def iterate_passages(connection: Connection, generation: str) -> Iterator[Row[Any]]:
    """Yield id, path and text of all passages of a generation."""
    query = (
        select(passages.c.id, passages.c.text, documents.c.path)
        .join(documents, documents.c.id == passages.c.document_id)
        .join(members, members.c.document_id == documents.c.id)
        .where(members.c.generation == generation)
        .order_by(documents.c.path, passages.c.position)
        .execution_options(yield_per=1000)
    )
    yield from cast("Iterator[Row[Any]]", connection.execute(query))


def find_any_passage(connection: Connection, base: str, passage_id: str) -> Any:
    """Return a passage of any version of any document of a base, the newest, with the document's path."""
    query = (
        select(passages.c.text, passages.c.section, documents.c.path)
        .join(documents, documents.c.id == passages.c.document_id)
        .where(documents.c.base == base, passages.c.id == passage_id)
        .order_by(documents.c.created_ns.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def find_passage_texts(connection: Connection, generation: str, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Return passages of a generation by id, with the path of their documents."""
    found: dict[str, Row[Any]] = {}
    distinct = list(dict.fromkeys(ids))
    for start in range(0, len(distinct), _SLICE):
        query = (
            select(passages, documents.c.path, documents.c.title)
            .join(documents, documents.c.id == passages.c.document_id)
            .join(members, members.c.document_id == documents.c.id)
            .where(members.c.generation == generation, passages.c.id.in_(distinct[start : start + _SLICE]))
        )
        found.update((row.id, row) for row in connection.execute(query))
    return found


def list_items(connection: Connection, base: str) -> Sequence[Row[Any]]:
    """Return what the sources of a base hold, with name, kind and settings of the source."""
    query = (
        select(items, sources.c.name.label("source"), sources.c.settings, sources.c.ended_ns, sources.c.kind)
        .join(sources, sources.c.id == items.c.source_id)
        .where(sources.c.base == base)
        .order_by(sources.c.name, items.c.path)
    )
    return connection.execute(query).all()


def list_source_names(connection: Connection, base: str) -> dict[str, str]:
    """Return id to name of the sources of a base."""
    query = select(sources.c.id, sources.c.name).where(sources.c.base == base)
    return {row.id: row.name for row in connection.execute(query)}


def list_prefixes(connection: Connection, base: str) -> list[str]:
    """Return what the sources of a base, ended ones too, put before the paths of their documents, each once."""
    query = select(sources.c.settings).where(sources.c.base == base).order_by(sources.c.created_ns)
    told = [str((row.settings or {}).get("prefix", "")) for row in connection.execute(query)]
    return list(dict.fromkeys(told))


def _page(query: Any, table: Table, cursor: str | None, limit: int) -> Any:
    if cursor is not None:
        time, _, last_id = cursor.partition(".")
        if not time.isascii() or not time.isdigit() or len(time) > 19 or not last_id:
            raise InvalidInput("This is no cursor of such a list.", where="cursor")
        before = int(time)
        query = query.where(
            or_(table.c.made_ns < before, and_(table.c.made_ns == before, table.c.id < last_id))
        )
    return query.order_by(table.c.made_ns.desc(), table.c.id.desc()).limit(limit)


def cursor_of(rows: Sequence[Any], limit: int) -> str | None:
    """Return where the next page begins, when `rows` (one more than asked for) says that there is one."""
    return f"{rows[limit - 1].made_ns}.{rows[limit - 1].id}" if len(rows) > limit else None


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
