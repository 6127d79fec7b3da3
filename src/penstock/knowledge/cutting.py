"""From bytes to document versions: parsed once for each parser, cut once for each way of cutting, kept for good.

Safe to stop at any point: a parse and a document version appear whole or not at all, and what is there is not made
again. Memory is bounded by what is parsed at the same time, not by the number or the size of documents.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine

from penstock.base.clock import now_ns
from penstock.base.errors import PenstockError
from penstock.knowledge import queries
from penstock.knowledge.chunk import Chunks, chunk_document
from penstock.knowledge.embedding.vectors import embed_digest
from penstock.knowledge.errors import UnreadableDocument
from penstock.knowledge.parse import ParserPool, pack_document, unpack_document
from penstock.knowledge.parse.text import clean_line
from penstock.knowledge.recipes import cut_digest, document_digest, document_id, parser_key
from penstock.knowledge.sources.properties import merge_properties
from penstock.knowledge.sources.types import ScannedItem
from penstock.knowledge.types import Embedder, IngestContext, ParsedDocument
from penstock.spec.knowledge import ParseRecipe, Recipe

SLICE = 256
"""Documents whose parses are looked up, and made, together."""
WRITE_ROWS = 500
"""Passages written in one transaction, about."""
_log = logging.getLogger(__name__)
Parsed = ParsedDocument | PenstockError | OSError


class Blobs(Protocol):
    """Keeps the bytes of every document version and of every parse."""

    def put_bytes(self, data: bytes, /) -> str:
        """Keep `data` and return its digest."""

    def get(self, digest: str, /) -> bytes:
        """Return the bytes again; raise a `PenstockError` when they are not there or damaged."""

    def exists(self, digest: str, /) -> bool:
        """Return whether the blob is there."""

    def delete(self, digest: str, /) -> None:
        """Remove the blob; nothing happens when there is none."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One way of making passages, with what counts tokens for it."""

    recipe: Recipe
    embedder: Embedder

    @property
    def key(self) -> str:
        """Names it: equal keys give equal passages."""
        return cut_digest(self.recipe, self.embedder.id)


@dataclass(kw_only=True)
class CutTally:
    """What was done, and how long it took."""

    n_parsed: int = 0
    n_cut: int = 0
    by_format: dict[str, int] = field(default_factory=dict)
    """Documents that were parsed, by media type."""
    seconds: dict[str, float] = field(default_factory=dict)

    def spend(self, stage: str, since: float) -> None:
        """Add the time since `since` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + monotonic() - since


@dataclass(frozen=True, kw_only=True)
class _Missing:
    item: ScannedItem
    cuts: tuple[Cut, ...]


class Cutter:
    """Makes document versions. `make_pool` opens the processes that parse; it is called only when one is needed."""

    def __init__(
        self, engine: Engine, blobs: Blobs, *, make_pool: Callable[[], ParserPool] = ParserPool
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._make_pool = make_pool

    def name_versions(self, base: str, items: Sequence[ScannedItem], cut: Cut) -> dict[str, str]:
        """Return the id that each document's version has under a cut, by path."""
        key = cut.key
        return {
            item.path: document_id(
                base, item.path, item.digest, document_digest(key, item.properties, item.source)
            )
            for item in items
        }

    def bring_up(
        self,
        base: str,
        items: Sequence[ScannedItem],
        cuts: Sequence[Cut],
        ctx: IngestContext,
        tally: CutTally,
    ) -> dict[str, dict[str, str]]:
        """Make what is missing of these documents under these cuts; return version ids by path by cut's key.

        A document that cannot be parsed has a version too, without passages and with the reason. One whose bytes
        are lost has none.
        """
        distinct = {cut.key: cut for cut in cuts}
        ids = {key: self.name_versions(base, items, cut) for key, cut in distinct.items()}
        lacking: dict[str, list[Cut]] = {}
        for key, cut in distinct.items():
            with self._engine.connect() as connection:
                known = queries.find_known_documents(connection, list(ids[key].values()))
            for path, each in ids[key].items():
                if each not in known:
                    lacking.setdefault(path, []).append(cut)
        missing = [
            _Missing(item=item, cuts=tuple(lacking[item.path])) for item in items if item.path in lacking
        ]
        if missing:
            self._make(base, missing, ids, ctx, tally)
        return ids

    def _make(
        self,
        base: str,
        missing: Sequence[_Missing],
        ids: Mapping[str, Mapping[str, str]],
        ctx: IngestContext,
        tally: CutTally,
    ) -> None:
        parsers: dict[str, list[_Missing]] = {}
        for each in missing:
            for cut in each.cuts:
                same = tuple(other for other in each.cuts if other.recipe.parse == cut.recipe.parse)
                if same[0] is cut:
                    parsers.setdefault(parser_key(cut.recipe.parse, ""), []).append(replace(each, cuts=same))
        n_all, n_done = sum(map(len, parsers.values())), 0
        waiting = _Waiting(self._engine)
        with _LazyPool(self._make_pool) as pool:
            for group in parsers.values():
                for each, parsed in self._parse(group, pool, ctx, tally):
                    ctx.check_cancelled()
                    if not isinstance(parsed, ParsedDocument | UnreadableDocument):
                        self._read_again(each.item, parsed, ctx)
                        continue
                    for cut in each.cuts:
                        begun = monotonic()
                        waiting.add(*_cut(base, each.item, parsed, cut, ids[cut.key][each.item.path]))
                        tally.spend("chunk", begun)
                        tally.n_cut += 1
                    n_done += 1
                    ctx.progress(n_done / n_all, f"read {n_done} of {n_all} new documents")
        waiting.write()

    def _parse(
        self, group: Sequence[_Missing], pool: "_LazyPool", ctx: IngestContext, tally: CutTally
    ) -> Iterator[tuple[_Missing, Parsed]]:
        recipe = group[0].cuts[0].recipe.parse
        for start in range(0, len(group), SLICE):
            part = group[start : start + SLICE]
            keys = {each.item.path: (each.item.digest, parser_key(recipe, each.item.path)) for each in part}
            with self._engine.connect() as connection:
                kept = queries.find_parses(connection, set(keys.values()))
            # Of several documents with the same bytes the first is parsed; the others find its parse.
            firsts: dict[tuple[str, str], str] = {}
            for each in part:
                if keys[each.item.path] not in kept:
                    firsts.setdefault(keys[each.item.path], each.item.path)
            outcomes = pool.parse_all(
                [
                    (each.item.path, partial(self._blobs.get, each.item.digest))
                    for each in part
                    if firsts.get(keys[each.item.path]) == each.item.path
                ],
                recipe,
            )
            done: dict[tuple[str, str], str | Parsed] = dict(kept)
            for each in part:
                key = keys[each.item.path]
                if firsts.get(key) == each.item.path:
                    begun = monotonic()
                    _, outcome = next(outcomes)
                    tally.spend("parse", begun)
                    tally.n_parsed += 1
                    done[key] = self._keep(key, outcome, tally)
                    yield each, outcome
                    continue
                found = done[key]
                yield each, self._open_parse(each.item, found, recipe) if isinstance(found, str) else found
            ctx.check_cancelled()

    def _open_parse(self, item: ScannedItem, blob: str, recipe: ParseRecipe) -> Parsed:
        """Return a kept parse; one that is lost or damaged is made again."""
        try:
            return unpack_document(self._blobs.get(blob))
        except (PenstockError, OSError, msgspec.MsgspecError):
            _log.warning("a kept parse is lost, parsing again", extra={"path": item.path})
        with _LazyPool(self._make_pool) as pool:
            read = partial(self._blobs.get, item.digest)
            _, outcome = next(pool.parse_all([(item.path, read)], recipe))
        if isinstance(outcome, ParsedDocument):
            self._blobs.put_bytes(pack_document(outcome))
        return outcome

    def _read_again(self, item: ScannedItem, error: PenstockError | OSError, ctx: IngestContext) -> None:
        """Have the next scan read the document, whose bytes are not where they were kept; no version is made."""
        ctx.log(f"the bytes of {item.path} are lost and are read again by the next ingest: {error}")
        with self._engine.begin() as connection:
            queries.forget_token(connection, item.source_id, item.digest)

    def _keep(self, key: tuple[str, str], outcome: Parsed, tally: CutTally) -> str | Parsed:
        if not isinstance(outcome, ParsedDocument):
            return outcome
        tally.by_format[outcome.media_type] = tally.by_format.get(outcome.media_type, 0) + 1
        blob = self._blobs.put_bytes(pack_document(outcome))
        row = {
            "digest": key[0],
            "parse_digest": key[1],
            "blob": blob,
            "title": outcome.title,
            "media_type": outcome.media_type,
            "language": outcome.language,
            "n_chars": outcome.n_chars,
            "n_pages": outcome.n_pages,
            "properties": msgspec.to_builtins(outcome.properties),
            "problems": list(outcome.problems),
            "error": None,
            "created_ns": now_ns(),
        }
        with self._engine.begin() as connection:
            queries.add_parse(connection, row)
        return blob


class _LazyPool:
    """Opens the processes that parse when the first document comes."""

    def __init__(self, make: Callable[[], ParserPool]) -> None:
        self._make = make
        self._pool: ParserPool | None = None

    def __enter__(self) -> "_LazyPool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def parse_all(
        self, items: Sequence[tuple[str, Callable[[], bytes]]], recipe: ParseRecipe
    ) -> Iterator[tuple[str, Parsed]]:
        if not items:
            return iter(())
        return self._open().parse_all(items, recipe)

    def _open(self) -> ParserPool:
        if self._pool is None:
            self._pool = self._make()
        return self._pool


class _Waiting:
    """Collects document versions and writes several in one transaction, each whole."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._documents: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        self._n_rows = 0

    def add(self, document: dict[str, Any], passages: list[dict[str, Any]]) -> None:
        self._documents.append((document, passages))
        self._n_rows += 1 + len(passages)
        if self._n_rows >= WRITE_ROWS:
            self.write()

    def write(self) -> None:
        with self._engine.begin() as connection:
            for document, passages in self._documents:
                queries.add_document(connection, document, passages)
        self._documents.clear()
        self._n_rows = 0


def _cut(
    base: str, item: ScannedItem, parsed: Parsed, cut: Cut, own_id: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the rows of one document version."""
    chunks = Chunks(passages=(), n_dropped_chars=0)
    error: str | None = None
    if isinstance(parsed, ParsedDocument):
        try:
            chunks = chunk_document(
                parsed,
                path=item.path,
                recipe=cut.recipe.chunk,
                count=cut.embedder.count,
                max_tokens=cut.embedder.max_tokens,
            )
        except Exception as problem:  # whatever one hostile document does, the other documents go on
            _log.exception("cutting failed", extra={"path": item.path})
            error = f"the document could not be cut: {type(problem).__name__}: {problem}"[:500]
    else:
        error = _reason(parsed)
    document = parsed if isinstance(parsed, ParsedDocument) else None
    properties = merge_properties(document.properties, item.properties) if document else item.properties
    if document is not None and document.language and not properties.language:
        properties = msgspec.structs.replace(properties, language=document.language)
    told = properties.values.get("title")
    title = told if isinstance(told, str) and told.strip() else (document.title if document else None)
    row = {
        "id": own_id,
        "base": base,
        "path": item.path,
        "digest": item.digest,
        "parse_digest": document_digest(cut.key, item.properties, item.source),
        "title": title,
        "media_type": document.media_type if document else None,
        "size_bytes": item.size_bytes,
        "n_passages": len(chunks.passages),
        "n_dropped_chars": chunks.n_dropped_chars,
        "problems": [*(document.problems if document else ()), *chunks.problems],
        "error": clean_line(error) if error else None,
        "source_id": item.source_id,
        "properties": msgspec.to_builtins(properties),
        "created_ns": now_ns(),
    }
    return row, [
        {
            "document_id": own_id,
            "position": position,
            "id": each.id,
            "section": each.section,
            "anchor": each.anchor,
            "start_char": each.start,
            "end_char": each.end,
            "text": each.text,
            "embed_digest": embed_digest(
                title=title, section=each.section, text=each.text, headings=each.headings, lead=each.lead
            ),
            "parent_start": each.parent_start,
            "parent_end": each.parent_end,
            "n_tokens": each.n_tokens,
            "headings": list(each.headings) or None,
            "lead": each.lead,
        }
        for position, each in enumerate(chunks.passages)
    ]


def _reason(error: PenstockError | OSError) -> str:
    if isinstance(error, PenstockError):
        return f"{error.message} {error.hint}" if error.hint else error.message
    return f"cannot be read: {error.strerror or error}"
