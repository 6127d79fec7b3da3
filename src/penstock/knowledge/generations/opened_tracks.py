"""The embedder that a track is brought up to date with: the one that its generation was made with, while it is served.

Vectors of two embedders never meet in one index. Where a track's own embedder is gone, the track can still lose
documents and keep those whose vectors are there; what is new to it cannot be embedded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from penstock.base.errors import PenstockError, UpstreamUnavailable
from penstock.knowledge.chunk import estimate_tokens
from penstock.knowledge.cutting import Cut
from penstock.knowledge.generations.tracks import Track
from penstock.knowledge.generations.types import LIVE
from penstock.knowledge.types import Embedder, EmbedderSource, EmbedUsage, TextKind

NO_EMBEDDER = "none"
"""In place of an embedder's id where none was served and none was needed."""


@dataclass(frozen=True, kw_only=True)
class OpenTrack:
    """A track with the embedder that it takes."""

    track: Track
    embedder: Embedder
    made_with: str | None = None
    """The id of the embedder that its generation has; None where it has none."""
    note: str | None = None
    """What whoever reads the report should know about the embedder."""

    @property
    def cut(self) -> Cut:
        """How its documents are cut."""
        return Cut(recipe=self.track.recipe, embedder=self.embedder)


class AbsentEmbedder:
    """Stands for an embedder that is not served now: what needs no new vectors goes on."""

    max_tokens: int | None = None
    usage = EmbedUsage()

    def __init__(self, embedder: str, reason: str) -> None:
        self.id = embedder
        self._reason = reason

    def embed(self, texts: Sequence[str], kind: TextKind, *, traceparent: str | None = None) -> NoReturn:
        """Raise `UpstreamUnavailable`."""
        del texts, kind, traceparent
        raise UpstreamUnavailable(
            f"new passages cannot be embedded by {self.id!r}: {self._reason}",
            hint="Serve that embedder again, or build a candidate with another one and switch to it.",
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return an estimate, rather too many."""
        return estimate_tokens(texts)


def open_track(embedders: EmbedderSource, track: Track, made_with: str | None) -> OpenTrack:
    """Return the track with its embedder; `made_with` is the id of the one that its generation has.

    What is live moves to the embedder that its recipe names now when the old one is not served any more: by words
    alone is how it would be searched otherwise. Other tracks wait for theirs.
    """
    if track.recipe.index.kind == "none":
        return _open_without_vectors(embedders, track, made_with)
    if made_with is None:
        return OpenTrack(track=track, embedder=embedders.open(track.recipe.embed))
    try:
        embedder = embedders.open(track.recipe.embed, made_with=made_with)
    except PenstockError as error:
        absent = AbsentEmbedder(made_with, error.message)
        return OpenTrack(track=track, embedder=absent, made_with=made_with)
    if embedder.id == made_with:
        return OpenTrack(track=track, embedder=embedder, made_with=made_with)
    gone = f"it is not served any more; {embedder.id!r} is"
    if track.name == LIVE:
        note = f"embedded anew: {made_with!r}: {gone}"
        return OpenTrack(track=track, embedder=embedder, made_with=made_with, note=note)
    return OpenTrack(track=track, embedder=AbsentEmbedder(made_with, gone), made_with=made_with)


def _open_without_vectors(embedders: EmbedderSource, track: Track, made_with: str | None) -> OpenTrack:
    """Return a track that holds words alone: an embedder at most counts tokens for it, and none need be served."""
    try:
        embedder = embedders.open(track.recipe.embed, made_with=made_with)
    except PenstockError as error:
        if made_with is None and track.recipe.chunk.unit == "tokens":
            raise
        absent = AbsentEmbedder(made_with or NO_EMBEDDER, error.message)
        return OpenTrack(track=track, embedder=absent, made_with=made_with)
    if made_with is None or embedder.id == made_with:
        return OpenTrack(track=track, embedder=embedder, made_with=made_with)
    absent = AbsentEmbedder(made_with, f"it is not served any more; {embedder.id!r} is")
    return OpenTrack(track=track, embedder=absent, made_with=made_with)
