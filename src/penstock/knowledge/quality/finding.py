"""Which generation a person means: what is live, a track by its name, or a generation by its id."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import suggest
from penstock.knowledge.errors import UnknownKnowledge
from penstock.knowledge.quality import queries
from penstock.knowledge.quality.errors import UnknownGeneration
from penstock.knowledge.quality.evidence import recipe_digest
from penstock.knowledge.quality.ports import Searching

LIVE = "live"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A generation that was named."""

    base: str
    generation: str
    track: str | None
    recipe: dict[str, Any]
    embedder: str
    version: str | None = None
    n_passages: int = 0

    @property
    def recipe_digest(self) -> str:
        """What stays while documents come and go."""
        return recipe_digest(self.recipe, self.embedder)


class GenerationFinder:
    """Reads tracks and generations. May be called from any thread."""

    def __init__(self, engine: Engine, searching: Searching) -> None:
        self._engine = engine
        self._searching = searching

    def find(self, base: str, named: str | None = None) -> Found:
        """Return what `named` means (None: what is live); raise `UnknownKnowledge`, `UnknownGeneration`."""
        live = next((row for row in self._searching.list_bases() if row.name == base), None)
        with self._engine.connect() as connection:
            tracks = queries.list_tracks(connection, base)
            track: str | None = None
            if named is None or named == LIVE:
                if live is None or live.generation is None:
                    raise UnknownKnowledge(
                        f"no knowledge base {base!r} is live.",
                        hint="penstock knowledge list shows those that are.",
                    )
                track, wanted = LIVE, live.generation
            elif named in tracks:
                track, wanted = named, tracks[named].generation
                if wanted is None:
                    raise UnknownGeneration(
                        f"the track {named!r} of {base!r} has no generation yet.", hint="Build it first."
                    )
            else:
                wanted = named
            row = queries.find_generation(connection, base, wanted)
        if row is None:
            known = sorted({LIVE, *tracks})
            raise UnknownGeneration(
                f"{base!r} has no track or generation {named!r}.",
                hint=suggest(named or "", known) or f"Tracks: {', '.join(known)}.",
            )
        is_live = live is not None and live.generation == wanted
        return Found(
            base=base,
            generation=wanted,
            track=track or (LIVE if is_live else None),
            recipe=dict(row.recipe),
            embedder=row.embedder,
            version=live.version if live is not None and is_live else None,
            n_passages=row.n_passages,
        )
