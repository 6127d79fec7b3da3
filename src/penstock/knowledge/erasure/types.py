"""What erasing documents is told and what it answers."""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

TargetKind = Literal["document", "subject", "text", "user"]
ErasureState = Literal["waiting", "running", "done"]
KeptOutKind = Literal["path", "bytes", "subject"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased: a document, documents about somebody, documents that hold a text."""

    kind: TargetKind
    value: str
    base: str | None = None
    """None: in every base. A document is always one of a base."""

    @property
    def name(self) -> str:
        """What the receipt's keyed digest is made of."""
        return f"{self.base}\x00{self.value}" if self.kind == "document" else self.value


class Gone(msgspec.Struct, kw_only=True):
    """Everything by which copies of what is erased are known. Lives in the erasure's row until it is done."""

    paths: list[str] = []
    """Of documents that nothing else names like that, so that they can be looked for."""
    passages: list[str] = []
    texts: list[str] = []
    """Sentences and lines that stand in no document that stays."""
    digests: list[str] = []
    """Of the bytes."""
    vectors: list[str] = []
    bases: list[str] = []

    def add(self, other: "Gone") -> None:
        """Take over what `other` knows."""
        for name in self.__struct_fields__:
            known = getattr(self, name)
            setattr(self, name, list(dict.fromkeys([*known, *getattr(other, name)])))

    def needles(self) -> list[str]:
        """Return what copies are looked for by: it stands nowhere by chance."""
        return [*self.passages, *self.texts, *self.paths]


class FoundDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a base that is to be erased, with all of its versions."""

    base: str
    path: str
    versions: list[str]
    digests: list[str]
    n_passages: int = 0
    n_generations: int = 0
    same_bytes: list[str] = []
    """Other documents with the same bytes, as `BASE/PATH`; they stay."""


class FoundTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to be erased."""

    documents: list[FoundDocument]
    n_judgements: int = 0
    """Judgements of search results that a user made, or that name the documents."""


class PlaceDone(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in one place."""

    place: str
    removed: dict[str, int] = {}
    note: str | None = None


Place = Callable[[Target, Gone], PlaceDone]
"""Removes copies from one place beside the knowledge bases; doing it twice changes nothing."""


class KnowledgeErasure(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure that was asked for."""

    id: str
    state: ErasureState
    kind: str
    base: str | None
    digest: str
    """Keyed digest of what was named; the name itself is gone once it is done."""
    reason: str
    actor: str
    created_ns: int
    updated_ns: int
    attempts: int = 0
    error: str | None = None
    receipt: int | None = None


class KeptOutRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that no ingest brings back. It names nothing."""

    base: str
    """Empty: in every base."""
    kind: str
    digest: str
    erasure: str
    erased_ns: int


class Finish(Protocol):
    """Looks through the files and writes the receipt; returns its number."""

    def __call__(
        self, erasure: KnowledgeErasure, places: list[PlaceDone], gone: Gone | None, literals: list[str]
    ) -> int:
        """`gone` is None when what was looked for is not known any more: a process ended in between."""
        ...
