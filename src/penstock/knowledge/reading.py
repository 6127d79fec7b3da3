"""What documents of a base say, for those who may read them. Fail closed: what may not be seen is as if it were not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Engine

from penstock.knowledge import queries
from penstock.knowledge.errors import UnknownDocument
from penstock.knowledge.listing import Listing
from penstock.knowledge.living import Living
from penstock.knowledge.retrieval.filters import may_read
from penstock.knowledge.types import BaseRow, VersionKeeper
from penstock.spec.knowledge import ChosenScope, Properties


@dataclass(frozen=True, kw_only=True)
class ReadableDocument:
    """A document of the live generation, for a list that readers see."""

    path: str
    title: str | None
    media_type: str | None
    size_bytes: int
    error: str | None
    created_ns: int
    properties: Properties


@dataclass(frozen=True, kw_only=True)
class DocumentText:
    """What a document says, put together from its passages."""

    path: str
    title: str | None
    media_type: str | None
    url: str | None
    text: str
    properties: Properties
    version: str | None
    """The registry's name for the version of the base that it was read from."""


class Reading:
    """Reads the control tables. Every method that takes a base may raise `UnknownKnowledge`."""

    def __init__(self, engine: Engine, versions: VersionKeeper | None) -> None:
        self._engine = engine
        self._living = Living(engine, versions)
        self._listing = Listing(engine, self._living)

    def list_bases(self) -> list[BaseRow]:
        """Return every base that has a live generation, by name."""
        return self._listing.list_bases()

    def list_documents(self, name: str, *, scope: ChosenScope) -> list[ReadableDocument]:
        """Return the live documents that the scope's principals may see, by path. Its conditions are for searches."""
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, self._living.find(name)[0])
        return [found for row in rows if (found := _readable(row, scope)) is not None]

    def read_document(self, name: str, path: str, *, scope: ChosenScope) -> DocumentText:
        """Return the text of one live document; raise `UnknownDocument` also for one that may not be seen."""
        generation, version = self._living.find(name)
        with self._engine.connect() as connection:
            for row in queries.list_generation_documents(connection, generation):
                if row.path == path and (found := _readable(row, scope)) is not None:
                    passages = queries.list_document_passages(connection, row.id)
                    return DocumentText(
                        path=path,
                        title=found.title,
                        media_type=found.media_type,
                        url=found.properties.url,
                        text=join_passages([(each.start_char, each.text) for each in passages]),
                        properties=found.properties,
                        version=version,
                    )
        raise UnknownDocument(f"{name!r} holds no document {path!r}.")


def join_passages(passages: Sequence[tuple[int, str]]) -> str:
    """Return the text of passages that begin at these offsets: what two have in common once, gaps as a blank line."""
    pieces: list[str] = []
    reached = 0
    for start, text in sorted(passages):
        if pieces and start > reached:
            pieces.append("\n\n")
        begins = max(0, reached - start)
        pieces.append(text[begins:])
        reached = max(reached, start + len(text))
    return "".join(pieces)


def _readable(row: Any, scope: ChosenScope) -> ReadableDocument | None:
    try:
        properties = msgspec.convert(row.properties or {}, Properties)
    except msgspec.ValidationError:
        return None  # who may read it cannot be told
    if not may_read(properties.readers, scope.principals):
        return None
    return ReadableDocument(
        path=row.path,
        title=row.title,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        error=row.error,
        created_ns=row.created_ns,
        properties=properties,
    )
