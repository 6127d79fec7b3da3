"""What is in a knowledge base: bases, documents, passages, as lists show them."""

from typing import Any

from sqlalchemy import Engine

from penstock.knowledge import queries
from penstock.knowledge.errors import UnknownDocument, UnknownKnowledge
from penstock.knowledge.living import Living
from penstock.knowledge.types import BaseRow, DocumentRow, Passage


class Listing:
    """Reads the control tables. Every method that takes a base may raise `UnknownKnowledge`."""

    def __init__(self, engine: Engine, living: Living) -> None:
        self._engine = engine
        self._living = living

    def list_bases(self) -> list[BaseRow]:
        """Return every base that has a live generation, by name."""
        with self._engine.connect() as connection:
            rows = queries.list_bases(connection)
        return [base for base in map(self._describe_base, rows) if base.generation is not None]

    def list_documents(self, name: str) -> list[DocumentRow]:
        """Return the documents of the live generation by path, unreadable ones included."""
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, self._living.find(name)[0])
        return [
            DocumentRow(
                path=row.path,
                title=row.title,
                media_type=row.media_type,
                digest=row.digest,
                size_bytes=row.size_bytes,
                n_passages=row.n_passages,
                n_dropped_chars=row.n_dropped_chars,
                problems=tuple(row.problems),
                error=row.error,
                created_ns=row.created_ns,
            )
            for row in rows
        ]

    def list_passages(self, name: str, path: str) -> list[Passage]:
        """Return the passages of one live document in reading order; raise `UnknownDocument`."""
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, self._living.find(name)[0])
            for row in rows:
                if row.path == path:
                    passages = queries.list_document_passages(connection, row.id)
                    break
            else:
                raise UnknownDocument(f"{name!r} holds no document {path!r}.")
        return [
            Passage(
                id=each.id,
                section=each.section,
                anchor=each.anchor,
                start=each.start_char,
                end=each.end_char,
                text=each.text,
            )
            for each in passages
        ]

    def _describe_base(self, row: Any) -> BaseRow:
        generation: str | None = None
        version: str | None = None
        found: Any = None
        try:
            generation, version = self._living.find(row.name)
        except UnknownKnowledge:
            pass
        else:
            with self._engine.connect() as connection:
                found = queries.find_generation(connection, generation)
        return BaseRow(
            name=row.name,
            source=row.source,
            generation=generation,
            version=version,
            embedder=found.embedder if found else None,
            n_documents=found.n_documents if found else 0,
            n_passages=found.n_passages if found else 0,
            updated_ns=row.updated_ns,
        )
