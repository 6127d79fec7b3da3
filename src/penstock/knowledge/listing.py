"""What is in a knowledge base: bases, documents, passages, as lists show them, to those who may see them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import PenstockError
from penstock.knowledge import queries
from penstock.knowledge.errors import UnknownDocument, UnknownKnowledge
from penstock.knowledge.index.types import IndexDocument
from penstock.knowledge.living import Living
from penstock.knowledge.parse import unpack_document
from penstock.knowledge.recipes import parser_key, read_recipe
from penstock.knowledge.retrieval.conditions import meets
from penstock.knowledge.retrieval.filters import may_read
from penstock.knowledge.types import BaseRow, DocumentRow, DocumentText, Passage
from penstock.spec.knowledge import ChosenScope, Properties

EVERYTHING = ChosenScope()
KEPT_COUNTS = 64


class BlobReader(Protocol):
    """Reads blobs."""

    def get(self, digest: str, /) -> bytes:
        """Return the bytes; raise a `PenstockError` when they are not there or damaged."""


class Listing:
    """Reads the control tables. Every method that takes a base may raise `UnknownKnowledge`.

    What a scope may not see is not there: it is not listed, and asking for it is `UnknownDocument`.
    """

    def __init__(self, engine: Engine, living: Living, blobs: BlobReader | None = None) -> None:
        """Without `blobs` a document's text is put together from its passages."""
        self._engine = engine
        self._blobs = blobs
        self._living = living
        self._kinds: dict[tuple[str, int, int], dict[tuple[str, ...] | None, tuple[int, int]]] = {}
        """By generation and its size: readers to the counts of documents and passages that have them."""

    def list_bases(self, *, scope: ChosenScope = EVERYTHING) -> list[BaseRow]:
        """Return every base that has a live generation, by name, with counts of what the scope's principals may see."""
        with self._engine.connect() as connection:
            rows = queries.list_bases(connection)
        bases = [base for base in map(self._describe_base, rows) if base.generation is not None]
        if scope.principals is None:
            return bases
        return [self._with_seen(base, scope.principals) for base in bases]

    def list_documents(self, name: str, *, scope: ChosenScope = EVERYTHING) -> list[DocumentRow]:
        """Return the documents of the live generation by path, unreadable ones included where nobody asks for
        somebody: who may know of those cannot be told.
        """
        generation = self._find_live(name)[0]
        with self._engine.connect() as connection:
            rows = queries.list_generation_documents(connection, generation)
        by_path: dict[str, list[Any]] = {}
        for row in rows:
            if _is_seen(row, scope):
                by_path.setdefault(row.path, []).append(row)
        return [_document_row(versions) for versions in by_path.values()]

    def page_documents(
        self,
        name: str,
        *,
        after: str | None,
        limit: int,
        is_down: bool = False,
        scope: ChosenScope = EVERYTHING,
    ) -> list[DocumentRow]:
        """Return at most `limit` documents of the live generation that follow `after` by path (or go before it, backwards)."""
        generation = self._find_live(name)[0]
        found: list[DocumentRow] = []
        with self._engine.connect() as connection:
            rows = queries.iterate_documents_from(connection, name, generation, after=after, is_down=is_down)
            for _, versions in groupby(rows, key=attrgetter("path")):
                if len(found) == limit:
                    break
                seen = [row for row in versions if _is_seen(row, scope)]
                if seen:
                    found.append(_document_row(seen))
        return found

    def find_document(self, name: str, path: str, *, scope: ChosenScope = EVERYTHING) -> DocumentRow:
        """Return one live document as `list_documents` would; raise `UnknownDocument`."""
        return _document_row(self._find_versions(name, path, self._find_live(name)[0], scope))

    def count_unreadable(self, name: str) -> int:
        """Return how many documents of the live generation could not be read, or not in their newest version."""
        generation, _ = self._find_live(name)
        with self._engine.connect() as connection:
            return queries.count_failed_documents(connection, generation)

    def list_passages(self, name: str, path: str, *, scope: ChosenScope = EVERYTHING) -> list[Passage]:
        """Return the passages of one live document in reading order; raise `UnknownDocument`."""
        row = self._find(name, path, self._find_live(name)[0], scope)
        with self._engine.connect() as connection:
            passages = queries.list_document_passages(connection, row.id)
        return [
            Passage(
                id=each.id,
                section=each.section,
                anchor=each.anchor,
                start=each.start_char,
                end=each.end_char,
                text=each.text,
                headings=tuple(each.headings or ()),
                lead=each.lead,
                parent_start=each.parent_start,
                parent_end=each.parent_end,
                n_tokens=each.n_tokens,
            )
            for each in passages
        ]

    def read_document(self, name: str, path: str, *, scope: ChosenScope = EVERYTHING) -> DocumentText:
        """Return the whole text of a live document, as it was parsed; raise `UnknownDocument`."""
        generation, version = self._find_live(name)
        row = self._find(name, path, generation, scope)
        properties = _properties(row)
        return DocumentText(
            path=row.path,
            title=row.title,
            media_type=row.media_type,
            language=properties.language,
            url=properties.url,
            modified_ns=properties.modified_ns,
            properties=properties,
            text=self._read_text(row, generation),
            generation=generation,
            version=version,
        )

    def _find_live(self, name: str) -> tuple[str, str | None]:
        """Return the live generation and its version; raise `DamagedIndex` rather than list nothing when it is gone."""
        generation, version = self._living.find(name)
        self._living.row(name, generation)
        return generation, version

    def _with_seen(self, base: BaseRow, principals: Sequence[str]) -> BaseRow:
        """Return a base with the counts of what these may see. Counted once for each kind of readers."""
        generation = str(base.generation)
        kept = generation, base.n_documents, base.n_passages
        kinds = self._kinds.get(kept)
        if kinds is None:
            kinds = {}
            with self._engine.connect() as connection:
                for row in queries.iterate_readers(connection, generation):
                    try:
                        readers = msgspec.convert(row.properties or {}, Properties).readers
                    except msgspec.ValidationError:
                        continue  # who may read it cannot be told
                    key = None if readers is None else tuple(readers)
                    n_documents, n_passages = kinds.get(key, (0, 0))
                    kinds[key] = n_documents + 1, n_passages + row.n_passages
            while len(self._kinds) >= KEPT_COUNTS:
                self._kinds.pop(next(iter(self._kinds)), None)
            self._kinds[kept] = kinds
        seen = [counts for readers, counts in kinds.items() if may_read(readers, principals)]
        return replace(base, n_documents=sum(n for n, _ in seen), n_passages=sum(n for _, n in seen))

    def _find(self, name: str, path: str, generation: str, scope: ChosenScope) -> Any:
        """Return the version of a document that is searched."""
        return max(self._find_versions(name, path, generation, scope), key=lambda row: int(row.n_passages))

    def _find_versions(self, name: str, path: str, generation: str, scope: ChosenScope) -> Sequence[Any]:
        with self._engine.connect() as connection:
            rows = queries.find_member_documents(connection, name, generation, path)
        seen = [row for row in rows if _is_seen(row, scope)]
        if not seen:
            raise UnknownDocument(f"{name!r} holds no document {path!r}.")
        return seen

    def _read_text(self, row: Any, generation: str) -> str:
        with self._engine.connect() as connection:
            made = queries.find_generation(connection, generation)
            passages = queries.list_document_passages(connection, row.id)
            key = (row.digest, parser_key(read_recipe(made.recipe).parse, row.path)) if made else ("", "")
            kept = queries.find_parses(connection, [key])
        if key in kept and self._blobs is not None:
            try:
                return unpack_document(self._blobs.get(kept[key])).text
            except (PenstockError, OSError, ValueError):
                pass  # the passages hold the same text, but for what was dropped
        return _join(passages)

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


def _properties(row: Any) -> Properties:
    return msgspec.convert(row.properties or {}, Properties)


def _is_seen(row: Any, scope: ChosenScope) -> bool:
    if scope.principals is None and not scope.conditions:
        return True
    try:
        properties = _properties(row)
    except msgspec.ValidationError:
        return False  # who may read it cannot be told
    if not may_read(properties.readers, scope.principals):
        return False
    if scope.principals is not None and row.error and not row.n_passages:
        return False  # who may read it is told in its text, and that cannot be read
    document = IndexDocument(
        id=row.id,
        path=row.path,
        title=row.title,
        media_type=row.media_type,
        source=row.source,
        added_ns=row.created_ns,
        properties=properties,
    )
    return all(meets(document, condition) for condition in scope.conditions)


def _document_row(versions: Sequence[Any]) -> DocumentRow:
    """Return one line a document: of two versions the one that is searched, with why the newer one is not."""
    row = max(versions, key=lambda each: each.n_passages)
    error = next((each.error for each in versions if each.error), None)
    if row.n_passages and error:
        error = f"{error} The version before it is still searched."
    return DocumentRow(
        path=row.path,
        title=row.title,
        media_type=row.media_type,
        digest=row.digest,
        size_bytes=row.size_bytes,
        n_passages=row.n_passages,
        n_dropped_chars=row.n_dropped_chars,
        problems=tuple(row.problems),
        error=error,
        created_ns=row.created_ns,
        source=row.source,
        properties=_properties(row),
    )


def _join(passages: Sequence[Any]) -> str:
    """Return the text that passages cover, each character once."""
    parts: list[str] = []
    end = 0
    for each in passages:
        if each.end_char <= end:
            continue
        if each.start_char > end and parts:
            parts.append("\n\n")
        parts.append(each.text[max(0, end - each.start_char) :])
        end = each.end_char
    return "".join(parts)
