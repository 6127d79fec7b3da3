"""Which generation of a base is searched: what the registry's alias names, else what the base's row names."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from penstock.base.errors import suggest
from penstock.knowledge import queries
from penstock.knowledge.errors import DamagedIndex, PrunedGeneration, UnknownKnowledge
from penstock.knowledge.types import VersionKeeper


class Living:
    """Finds live generations and others. Reads only."""

    def __init__(self, engine: Engine, versions: VersionKeeper | None) -> None:
        self._engine = engine
        self._versions = versions

    def find(self, name: str) -> tuple[str, str | None]:
        """Return the live generation of a base and the registry's name for it; raise `UnknownKnowledge`."""
        if self._versions is not None:
            live = self._versions.find_live(name)
            if live is not None:
                return str(live[0]["generation"]), live[1]
        with self._engine.connect() as connection:
            row = queries.find_base(connection, name)
            if row is not None and row.live_generation is not None:
                return row.live_generation, None
            known = [each.name for each in queries.list_bases(connection) if each.live_generation]
        near = suggest(name, known)
        raise UnknownKnowledge(
            f"no knowledge base {name!r}.",
            hint=f"{near + ' ' if near else ''}Known: {', '.join(known)}."
            if known
            else "Ingest a folder first.",
        )

    def row(self, name: str, generation: str) -> Any:
        """Return the row of a generation of this base; raise `DamagedIndex` when the tables do not hold it."""
        with self._engine.connect() as connection:
            row = queries.find_generation(connection, generation)
        if row is None or row.base != name:
            raise DamagedIndex(
                f"the control tables do not hold generation {generation} of {name!r}.",
                hint=f"Move the alias back (penstock asset rollback knowledge:{name}), or make it anew: "
                f"penstock knowledge ingest {name}.",
            )
        return row


def check_generation(engine: Engine, name: str, content: Mapping[str, Any]) -> None:
    """Raise `PrunedGeneration` when a registered version of a base names a generation that is no more there."""
    generation = content.get("generation")
    if not isinstance(generation, str):
        return
    with engine.connect() as connection:
        row = queries.find_generation(connection, generation)
    if row is None or row.base != name:
        raise PrunedGeneration(
            f"generation {generation} of {name!r} was pruned: nothing could be searched by that version.",
            hint=f"What is kept: penstock knowledge tracks {name}. Build its recipe beside what is live and switch.",
        )
