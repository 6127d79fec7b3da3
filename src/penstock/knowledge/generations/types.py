"""The nouns of generations: tracks, what a build did, what a switch changed, what was thrown away."""

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from penstock.base.errors import InvalidInput

LIVE = "live"
PREVIOUS = "previous"
KEEP = 5
"""Newest generations of a base that are kept besides those of its tracks, when it is pruned."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class TrackRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A recipe of a base that is kept up to date: `live`, `previous`, or a candidate by its name."""

    base: str
    name: str
    generation: str | None
    """None for a track that could not be brought up to what the base holds now; `note` says why."""
    recipe: dict[str, Any]
    """As it was asked for; a generation's own holds numbers in place of what depends on the embedder."""
    embedder: str | None = None
    index_id: str | None = None
    n_documents: int | None = None
    n_passages: int | None = None
    version: str | None = None
    """The registry's name of what is live."""
    note: str = ""
    created_ns: int
    updated_ns: int


class BuildReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What building one generation took."""

    base: str
    track: str
    generation: str
    index_id: str
    embedder: str
    n_documents: int
    n_passages: int
    n_embedded: int = 0
    """Passages that were sent to the embedder; the others were in the cache."""
    is_new: bool = True
    """False when that generation was there already."""
    cost_nano_usd: int | None = None
    problems: list[str] = []
    seconds: dict[str, float] = {}
    """By stage: parse, chunk, embed, index."""


class SwitchReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is live now, and what was before."""

    base: str
    generation: str
    version: str | None
    was: str
    """The generation that was live."""
    evidence: dict[str, Any]
    note: str = ""


class PruneReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What nothing referred to any more and is gone."""

    base: str
    generations: int = 0
    documents: int = 0
    """Versions of documents, with their passages."""
    parses: int = 0
    blobs: int = 0
    vectors: int = 0
    indexes: int = 0


class EvidenceCheck(Protocol):
    """Decides whether evidence lets a candidate go live; `knowledge.quality` has one."""

    def check(
        self, base: str, *, live: str | None, candidate: str, evidence: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what to keep with the switch, or raise a `PolicyError`."""


def check_candidate_name(name: str) -> str:
    """Return the name of a candidate track; raise `InvalidInput` for one that cannot be."""
    if name in {LIVE, PREVIOUS}:
        raise InvalidInput(
            f"{name!r} is no name for a candidate.",
            hint="Build it under a name of its own, then switch to it.",
            param="track",
        )
    if not _NAME.fullmatch(name) or name.startswith(("gen_", "idx_")):
        raise InvalidInput(
            f"{name!r} is no name for a track: lower-case letters, digits, '.', '_' and '-', at most 63.",
            param="track",
        )
    return name
