"""Finds what is to be erased: documents of one or all bases, every version of each, and how copies are known."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
from sqlalchemy import Engine

from penstock.base.errors import PenstockError
from penstock.knowledge.erasure import queries
from penstock.knowledge.erasure.errors import BadTarget
from penstock.knowledge.erasure.texts import choose_texts
from penstock.knowledge.erasure.types import FoundDocument, FoundTarget, Gone, Target

KINDS = ("document", "subject", "text", "user")
MAX_VALUE = 4000
MIN_TEXT = 6
"""Shorter texts stand in documents by chance."""
MIN_PATH = 6


class BlobReader(Protocol):
    """Reads blobs."""

    def get(self, digest: str, /) -> bytes:
        """Return the bytes."""


@dataclass(kw_only=True)
class Chosen:
    """What of one base is to be erased."""

    base: str
    ids: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    items: list[tuple[str, str]] = field(default_factory=list)
    """(source, path within the source)."""

    def __bool__(self) -> bool:
        return bool(self.ids or self.items)


class Finder:
    """Looks through the control tables and the blobs. Changes nothing."""

    def __init__(self, engine: Engine, blobs: BlobReader) -> None:
        self._engine = engine
        self._blobs = blobs

    def list_bases(self, target: Target) -> list[str]:
        """Return the bases to look through."""
        with self._engine.connect() as connection:
            bases = queries.list_bases(connection)
        return [each for each in bases if target.base in (None, each)]

    def choose(self, base: str, target: Target, *, check: Callable[[], None] = lambda: None) -> Chosen:
        """Return what of a base is the target's."""
        is_wanted = self._make_test(base, target, check)
        chosen = Chosen(base=base)
        with self._engine.connect() as connection:
            for row in queries.iterate_documents(connection, base):
                if is_wanted(row.id, row.path, row.digest, row.properties):
                    chosen.ids.add(row.id)
                    chosen.paths.add(row.path)
                    chosen.digests.add(row.digest)
            for item in queries.iterate_items(connection, base):
                path = item.settings.get("prefix", "") + item.path
                if path in chosen.paths or is_wanted(None, path, item.digest, item.properties):
                    chosen.items.append((item.source_id, item.path))
                    chosen.paths.add(path)
                    if item.digest is not None:
                        chosen.digests.add(item.digest)
            # A path that was found for one of its versions goes with all of them.
            for row in queries.iterate_documents(connection, base):
                if row.path in chosen.paths:
                    chosen.ids.add(row.id)
                    chosen.digests.add(row.digest)
        return chosen

    def describe(self, target: Target) -> FoundTarget:
        """Return what there is to be erased, for people."""
        found: list[FoundDocument] = []
        chosen = [each for base in self.list_bases(target) if (each := self.choose(base, target))]
        every = [own for each in chosen for own in each.ids]
        with self._engine.connect() as connection:
            for each in chosen:
                rows = [row for row in queries.iterate_documents(connection, each.base) if row.id in each.ids]
                for path in sorted(each.paths):
                    own = [row for row in rows if row.path == path]
                    ids, digests = [row.id for row in own], sorted({row.digest for row in own})
                    same = queries.find_same_bytes(connection, digests, every)
                    found.append(
                        FoundDocument(
                            base=each.base,
                            path=path,
                            versions=ids,
                            digests=digests,
                            n_passages=sum(row.n_passages for row in own),
                            n_generations=queries.count_generations(connection, ids),
                            same_bytes=[f"{base}/{other}" for base, other in same],
                        )
                    )
            n = queries.count_feedback(connection, target.value) if target.kind == "user" else 0
        return FoundTarget(documents=found, n_judgements=n)

    def list_targets(self, kind: str) -> list[Target]:
        """Return every document, or everybody whom documents name, as something that could be erased."""
        found: set[tuple[str | None, str]] = set()
        with self._engine.connect() as connection:
            for base in queries.list_bases(connection):
                for row in queries.iterate_documents(connection, base):
                    if kind == "document":
                        found.add((base, row.path))
                    for each in (row.properties or {}).get("subjects", ()) if kind != "document" else ():
                        found.add((None, each.removeprefix("user:") if kind == "user" else each))
        return [
            msgspec.convert({"kind": kind, "value": value, "base": base}, Target)
            for base, value in sorted(found, key=lambda pair: (pair[0] or "", pair[1]))
        ]

    def gather(self, chosen: Chosen) -> Gone:
        """Return by what copies of the chosen documents are known."""
        gone = Gone(bases=[chosen.base], digests=sorted(chosen.digests))
        texts: list[str] = []
        ids = sorted(chosen.ids)
        with self._engine.connect() as connection:
            for row in queries.iterate_passages(connection, ids):
                gone.passages.append(row.id)
                gone.vectors.append(row.embed_digest)
                texts += [part for part in (row.text, row.lead, row.section) if part]
            gone.texts = choose_texts(texts, _texts(queries.iterate_other_texts(connection, ids)))
            others = _list_other_paths(connection, chosen)
        gone.passages = sorted(set(gone.passages))
        gone.vectors = sorted(set(gone.vectors))
        gone.paths = sorted(
            path
            for path in chosen.paths
            if len(path) >= MIN_PATH and not any(path in other for other in others)
        )
        return gone

    def _make_test(
        self, base: str, target: Target, check: Callable[[], None]
    ) -> Callable[[str | None, str, str | None, Any], bool]:
        if target.kind == "document":
            return lambda _id, path, _digest, _properties: path == target.value
        if target.kind == "text":
            with self._engine.connect() as connection:
                ids = queries.find_holding(connection, base, target.value)
            digests = self._find_bytes_holding(base, target.value, check)
            return lambda own, path, digest, _: own in ids or digest in digests or target.value in path
        names = {target.value, f"user:{target.value}"} if target.kind == "user" else {target.value}
        return lambda _id, _path, _digest, known: not names.isdisjoint((known or {}).get("subjects", ()))

    def _find_bytes_holding(self, base: str, text: str, check: Callable[[], None]) -> set[str]:
        """Return digests of bytes that hold the text, or of which a parser made a text that holds it.

        A text may lie across two passages, or in what a parser left out.
        """
        found: set[str] = set()
        with self._engine.connect() as connection:
            digests = queries.list_byte_digests(connection, base)
            made = {each: queries.list_parse_blobs(connection, [each]) for each in digests}
        plain = {text.encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
        for digest in digests:
            check()
            for blob in (digest, *made[digest]):
                data = self._read(blob)
                if any(each in data for each in plain):
                    found.add(digest)
                    break
        return found

    def _read(self, digest: str) -> bytes:
        try:
            return self._blobs.get(digest)
        except (PenstockError, OSError):  # lost bytes hold nothing
            return b""


def check_target(target: Target) -> Target:
    """Return the target; raise `BadTarget` for one that cannot be looked for."""
    if target.kind not in KINDS:
        raise BadTarget(f"{target.kind!r} cannot be erased.", hint=f"Name one of: {', '.join(KINDS)}.")
    if not target.value.strip() or len(target.value) > MAX_VALUE:
        raise BadTarget(f"What is to be erased has 1 to {MAX_VALUE} characters.")
    if target.kind == "document" and not target.base:
        raise BadTarget("A document is one of a knowledge base.", hint="Name the base.")
    if target.kind == "text" and len(target.value) < MIN_TEXT:
        raise BadTarget(
            f"Texts of fewer than {MIN_TEXT} characters stand in documents by chance.",
            hint="Name the documents, or a longer text.",
        )
    return target


def _texts(rows: Iterator[Any]) -> Iterator[str]:
    for row in rows:
        for part in (row.text, row.lead, row.section):
            if part:
                yield part


def _list_other_paths(connection: Any, chosen: Chosen) -> Sequence[str]:
    """Return the paths of all documents of all bases that are not erased."""
    found: set[str] = set()
    for base in queries.list_bases(connection):
        for row in queries.iterate_documents(connection, base):
            if row.id not in chosen.ids:
                found.add(row.path)
        for item in queries.iterate_items(connection, base):
            if (item.source_id, item.path) not in chosen.items:
                found.add(item.settings.get("prefix", "") + item.path)
    return sorted(found)
