"""The recipes of a base that are kept side by side: `live`, `previous`, and candidates by name.

What is live is one pointer elsewhere (the registry's alias). The rows here follow it: a process that was killed
between the two left the pointer moved and the rows behind, and whoever comes next reads the rows as if they had been
written, then writes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
from sqlalchemy import Connection, Engine

from penstock.base.clock import now_ns
from penstock.base.digest import digest_json
from penstock.knowledge import queries as knowledge_queries
from penstock.knowledge.errors import DamagedIndex, UnknownKnowledge
from penstock.knowledge.generations import queries
from penstock.knowledge.generations.errors import UnknownTrack
from penstock.knowledge.generations.types import LIVE, PREVIOUS, TrackRow
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import read_recipe, recipe_as_dict
from penstock.spec.knowledge import Recipe


@dataclass(frozen=True, kw_only=True)
class Track:
    """A recipe as it was asked for, and the generation that holds what the base holds now."""

    name: str
    recipe: Recipe
    generation: str | None
    note: str = ""

    @property
    def recipe_key(self) -> str:
        """Equal for equal recipes."""
        return digest_json(recipe_as_dict(self.recipe))


Tracked = dict[str, Track]


def follow_pointer(tracks: Mapping[str, Track], live: str, read: Callable[[], Recipe]) -> Tracked:
    """Return the tracks as they are when `live` is the generation that is searched.

    `read` returns that generation's own recipe. Pure.
    """
    told = tracks.get(LIVE)
    if told is not None and told.generation == live:
        return dict(tracks)
    others = {name: each for name, each in tracks.items() if name not in {LIVE, PREVIOUS}}
    previous = tracks.get(PREVIOUS)
    if told is not None:
        for name, each in others.items():
            if each.generation == live:  # a switch to it was not written to its end
                del others[name]
                return {**others, LIVE: replace(each, name=LIVE), PREVIOUS: replace(told, name=PREVIOUS)}
        if previous is not None and previous.generation == live:  # a rollback was not
            return {
                **others,
                LIVE: replace(previous, name=LIVE),
                PREVIOUS: replace(told, name=PREVIOUS),
            }
    made = read()
    asked = told.recipe if told is not None and _asks_for(told.recipe, made) else made
    kept = {PREVIOUS: previous} if previous is not None else {}
    return {**others, **kept, LIVE: Track(name=LIVE, recipe=asked, generation=live)}


def _asks_for(asked: Recipe, made: Recipe) -> bool:
    """Whether `made` is `asked`, perhaps with the number in place of what depends on the embedder."""
    if asked.search.dense_weight is None:
        search = msgspec.structs.replace(asked.search, dense_weight=made.search.dense_weight)
        asked = msgspec.structs.replace(asked, search=search)
    return asked == made


class Tracks:
    """Reads and writes tracks. Writers hold the base's `tracks` lock."""

    def __init__(self, engine: Engine, living: Living) -> None:
        self._engine = engine
        self._living = living

    def load(self, base: str) -> Tracked:
        """Return the tracks by name, as the pointer says; empty for a base that has nothing live."""
        with self._engine.connect() as connection:
            rows = queries.list_tracks(connection, base)
            row = knowledge_queries.find_base(connection, base)
        tracks = {
            each.name: Track(
                name=each.name,
                recipe=read_recipe(each.recipe),
                generation=each.generation,
                note=each.note,
            )
            for each in rows
        }
        try:
            live = self._living.find(base)[0]
        except UnknownKnowledge:
            return tracks
        if LIVE not in tracks and row is not None:  # of a release that knew no tracks
            tracks[LIVE] = Track(name=LIVE, recipe=read_recipe(row.recipe), generation=None)
        return follow_pointer(tracks, live, lambda: self._read_recipe(base, live, tracks))

    def _read_recipe(self, base: str, generation: str, tracks: Tracked) -> Recipe:
        try:
            return read_recipe(self._living.row(base, generation).recipe)
        except DamagedIndex:  # an ingest makes what is live anew, by the recipe that is known
            if LIVE not in tracks:
                raise
            return tracks[LIVE].recipe

    def settle(self, base: str) -> Tracked:
        """Write down what a process that was killed left behind the pointer, and return the tracks.

        Done before the pointer moves again: two unwritten moves could not be told apart from none.
        """
        tracks = self.load(base)
        if LIVE in tracks and tracks[LIVE].generation is not None:
            self.save(base, tracks)
        return tracks

    def get(self, base: str, name: str) -> Track:
        """Return one track; raise `UnknownKnowledge` or `UnknownTrack`."""
        tracks = self.load(base)
        if not tracks:
            self._living.find(base)  # says which bases there are
        if name not in tracks:
            raise UnknownTrack(
                f"{base!r} has no track {name!r}.",
                hint=f"Its tracks: {', '.join(sorted(tracks))}.",
            )
        return tracks[name]

    def save(self, base: str, tracks: Mapping[str, Track]) -> None:
        """Make the rows say exactly this, and the base's own row what is live, in one transaction."""
        with self._engine.begin() as connection:
            self.write(connection, base, tracks)

    def write(self, connection: Connection, base: str, tracks: Mapping[str, Track]) -> None:
        """Do it within the caller's transaction."""
        now = now_ns()
        standing = {row.name: row for row in queries.list_tracks(connection, base)}
        for name in standing.keys() - tracks.keys():
            queries.drop_track(connection, base, name)
        for name, each in tracks.items():
            row = standing.get(name)
            wanted = (recipe_as_dict(each.recipe), each.generation, each.note)
            if row is not None and (row.recipe, row.generation, row.note) == wanted:
                continue
            queries.save_track(
                connection,
                {
                    "base": base,
                    "name": name,
                    "recipe": wanted[0],
                    "generation": each.generation,
                    "note": each.note,
                    "created_ns": now,
                    "updated_ns": now,
                },
            )
        live = tracks.get(LIVE)
        if live is not None and live.generation is not None:
            knowledge_queries.set_live(connection, name=base, generation=live.generation, now_ns=now)
            queries.set_base_recipe(connection, base, recipe_as_dict(live.recipe), now_ns=now)

    def list_rows(self, base: str) -> list[TrackRow]:
        """Return the tracks as lists show them: live first, then previous, then candidates by name."""
        version = self._living.find(base)[1]
        tracks = self.load(base)
        with self._engine.connect() as connection:
            stamps = {row.name: row for row in queries.list_tracks(connection, base)}
            own = knowledge_queries.find_base(connection, base)
            found = {
                each.generation: knowledge_queries.find_generation(connection, each.generation)
                for each in tracks.values()
                if each.generation is not None
            }
        rows = []
        for name in sorted(tracks, key=lambda each: (each != LIVE, each != PREVIOUS, each)):
            each, stamp = tracks[name], stamps.get(name, own)
            made = None if each.generation is None else found.get(each.generation)
            rows.append(
                TrackRow(
                    base=base,
                    name=name,
                    generation=each.generation,
                    recipe=recipe_as_dict(each.recipe),
                    embedder=made.embedder if made else None,
                    index_id=(made.index_id or made.id) if made else None,
                    n_documents=made.n_documents if made else None,
                    n_passages=made.n_passages if made else None,
                    version=version if name == LIVE else None,
                    note=each.note,
                    created_ns=stamp.created_ns if stamp is not None else 0,
                    updated_ns=stamp.updated_ns if stamp is not None else 0,
                )
            )
        return rows
