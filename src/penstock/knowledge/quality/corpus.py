"""The documents and passages of one generation out of the control tables, read as labels ask for them.

Runs of words over the whole generation are only gathered when a label names no document or one that moved.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Engine

from penstock.knowledge.quality import queries
from penstock.knowledge.quality.labels import PassageText
from penstock.knowledge.quality.words import SHINGLE, shingles, split_words


class StoredCorpus:
    """`quality.labels.Corpus` over the control tables. For one thread."""

    def __init__(self, engine: Engine, base: str, generation: str) -> None:
        self._engine = engine
        self._base = base
        self._generation = generation
        with engine.connect() as connection:
            rows = queries.list_generation_documents(connection, generation)
        self.documents: dict[str, Any] = {row.path: row for row in rows}
        self._passages: dict[str, list[PassageText]] = {}

    @property
    def paths(self) -> Sequence[str]:
        """Of all documents."""
        return list(self.documents)

    def passages(self, path: str) -> Sequence[PassageText]:
        """Return the passages of a document; none when it is unknown or could not be read."""
        if path not in self._passages:
            row = self.documents.get(path)
            self._passages[path] = [] if row is None else self._read(row.id)
        return self._passages[path]

    def error(self, path: str) -> str | None:
        """Return why a document could not be read, or None."""
        row = self.documents.get(path)
        return None if row is None else row.error

    def find_text(self, passage_id: str) -> tuple[str, str] | None:
        """Return path and text of a passage of any generation of this base."""
        with self._engine.connect() as connection:
            row = queries.find_any_passage(connection, self._base, passage_id)
        return None if row is None else (row.path, row.text)

    def find_section(self, path: str, section: str) -> str | None:
        """Return the text of a section as another version of the document was cut, or None."""
        wanted = split_words(section)
        with self._engine.connect() as connection:
            versions = queries.list_document_versions(connection, self._base, path)
        for version in versions[:10]:
            texts = [
                each.text for each in self._read(version.id) if split_words(each.section or "") == wanted
            ]
            if texts:
                return "\n".join(texts)
        return None

    def find_older(self, path: str) -> str | None:
        """Return the text of the newest version of a document that any generation of this base held, or None."""
        with self._engine.connect() as connection:
            versions = queries.list_document_versions(connection, self._base, path)
        for version in versions[:10]:
            texts = [each.text for each in self._read(version.id)]
            if texts:
                return "\n".join(texts)
        return None

    def add_prefixes(self, path: str) -> Sequence[str]:
        """Return the documents that a path means when it was told as its source tells it; none where a source has no prefix."""
        if "" in self._prefixes:
            return []
        return [prefix + path for prefix in self._prefixes if prefix + path in self.documents]

    def find_shingle(self, words: Sequence[str]) -> Sequence[str]:
        """Return the documents that hold most runs of these words, at most ten."""
        counts: Counter[str] = Counter()
        if len(words) < SHINGLE:
            return self._find_few(words)
        for each in shingles(words):
            counts.update(self._by_shingle.get(hash(each), ()))
        return [path for path, _ in counts.most_common(10)]

    def _find_few(self, words: Sequence[str]) -> list[str]:
        wanted = f" {' '.join(words)} "
        counts: Counter[str] = Counter()
        with self._engine.connect() as connection:
            for row in queries.iterate_passages(connection, self._generation):
                counts[row.path] += wanted in f" {' '.join(split_words(row.text))} "
        return [path for path, number in counts.most_common(10) if number]

    @cached_property
    def _prefixes(self) -> list[str]:
        with self._engine.connect() as connection:
            return queries.list_prefixes(connection, self._base)

    @cached_property
    def _by_shingle(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        with self._engine.connect() as connection:
            for row in queries.iterate_passages(connection, self._generation):
                words = split_words(row.text)
                for each in shingles(words, SHINGLE):
                    found[hash(each)].add(row.path)
        return found

    def _read(self, document_id: str) -> list[PassageText]:
        with self._engine.connect() as connection:
            rows = queries.list_passages(connection, [document_id]).get(document_id, [])
        return [
            PassageText(
                id=row.id,
                section=row.section,
                anchor=row.anchor,
                text=row.text,
                position=row.position,
                document_id=document_id,
            )
            for row in rows
        ]
