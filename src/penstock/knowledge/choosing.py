"""Which version of each document a track holds: the one of now, or the one before where that cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from penstock.knowledge import queries
from penstock.knowledge.cutting import Cut, CutTally, Cutter
from penstock.knowledge.generations.build import Members
from penstock.knowledge.sources.types import ScannedItem
from penstock.knowledge.types import Dropped, IngestContext

LOST = "its bytes are not where they were kept; the next ingest reads them again"


@dataclass(frozen=True, kw_only=True)
class LiveDocument:
    """A document that is searched now: of the live generation, with at least one passage."""

    id: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which document versions a track holds, and what is to be told of them."""

    members: Members
    ids: Mapping[str, str]
    """Of the documents that are searched, by path."""
    dropped: tuple[Dropped, ...]
    kept_old: tuple[str, ...]
    """Paths whose present bytes cannot be read, so that the version before stays searched."""


class Choosing:
    """Makes what is missing and chooses. Callers hold the base's `contents` lock."""

    def __init__(self, engine: Engine, cutter: Cutter) -> None:
        self._engine = engine
        self._cutter = cutter

    def list_live(self, generation: str | None) -> dict[str, LiveDocument]:
        """Return the documents of a generation that are searched, by path."""
        if generation is None:
            return {}
        with self._engine.connect() as connection:
            rows = queries.list_member_states(connection, generation)
        return {
            row.path: LiveDocument(id=row.id, digest=row.digest, size_bytes=row.size_bytes)
            for row in rows
            if row.n_passages
        }

    def choose(
        self,
        base: str,
        items: Sequence[ScannedItem],
        cuts: Sequence[Cut],
        *,
        before: Mapping[str, LiveDocument],
        ctx: IngestContext,
        tally: CutTally,
    ) -> dict[str, Chosen]:
        """Return what each cut holds of these documents, by the cut's key."""
        ids = self._cutter.bring_up(base, items, cuts, ctx, tally)
        chosen = {}
        for cut in {each.key: each for each in cuts}.values():
            chosen[cut.key] = self._choose(
                base, items, cut, ids[cut.key], before=before, ctx=ctx, tally=tally
            )
        return chosen

    def _choose(
        self,
        base: str,
        items: Sequence[ScannedItem],
        cut: Cut,
        ids: Mapping[str, str],
        *,
        before: Mapping[str, LiveDocument],
        ctx: IngestContext,
        tally: CutTally,
    ) -> Chosen:
        with self._engine.connect() as connection:
            rows = queries.find_document_states(connection, list(ids.values()))
        lost = [path for path, each in ids.items() if each not in rows]
        ids = {path: each for path, each in ids.items() if each in rows}
        live = {path: each for path, each in ids.items() if rows[each].n_passages}
        old = [
            replace(item, digest=before[item.path].digest, size_bytes=before[item.path].size_bytes)
            for item in items
            if item.path not in live and item.path in before and before[item.path].digest != item.digest
        ]
        kept_old = []
        if old:
            older = self._cutter.bring_up(base, old, [cut], ctx, tally)[cut.key]
            with self._engine.connect() as connection:
                states = queries.find_document_states(connection, list(older.values()))
            for path, each in older.items():
                if each in states and states[each].n_passages:
                    live[path] = each
                    kept_old.append(path)
        dropped = [Dropped(path=path, reason=LOST, what="unreadable") for path in lost]
        for path, each in ids.items():
            row = rows[each]
            dropped += [Dropped(path=path, reason=problem) for problem in row.problems]
            if row.error:
                stays = " The version before it is still searched." if path in kept_old else ""
                dropped.append(Dropped(path=path, reason=row.error + stays, what="unreadable"))
            if row.n_dropped_chars:
                reason = f"{row.n_dropped_chars} characters in pieces without a letter or digit"
                dropped.append(Dropped(path=path, reason=reason))
        members = Members(ids=tuple(sorted({*ids.values(), *live.values()})), n_live=len(live))
        return Chosen(members=members, ids=live, dropped=tuple(dropped), kept_old=tuple(sorted(kept_old)))
