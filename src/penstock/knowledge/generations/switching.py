"""What is live changes here and nowhere else: contents after an ingest, recipes by a switch, back by a rollback.

Everything that can fail or take long is done before; then one pointer moves. A search reads that pointer once, and
takes index, embedder and search recipe from the generation it names, so it never sees two of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.base.clock import now_ns
from penstock.knowledge.errors import DamagedIndex
from penstock.knowledge.generations.errors import NoPreviousTrack, TrackBehind, UnprovenSwitch
from penstock.knowledge.generations.locks import BaseLocks
from penstock.knowledge.generations.opening import OpenIndexes, index_of
from penstock.knowledge.generations.tracks import Track, Tracked, Tracks
from penstock.knowledge.generations.types import (
    LIVE,
    PREVIOUS,
    EvidenceCheck,
    SwitchReport,
    check_candidate_name,
)
from penstock.knowledge.living import Living
from penstock.knowledge.recipes import read_recipe, recipe_as_dict
from penstock.knowledge.types import VersionKeeper


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """What became of a track that was to be brought up to date."""

    track: Track
    """As it was before."""
    embedder: str | None
    """That its generation was made with; None where it had none."""
    generation: str | None
    """The one that holds what the base holds now; None where it could not be built."""
    reason: str = ""
    """Why not."""


class Switching:
    """Moves the pointer, holding the base's `tracks` lock."""

    def __init__(
        self,
        *,
        tracks: Tracks,
        living: Living,
        indexes: OpenIndexes,
        locks: BaseLocks,
        versions: VersionKeeper | None,
        evidence: EvidenceCheck | None,
    ) -> None:
        """Without `versions` nothing is protected, and a switch needs no evidence."""
        self._tracks = tracks
        self._living = living
        self._indexes = indexes
        self._locks = locks
        self._versions = versions
        self._evidence = evidence

    def publish(
        self, base: str, renewed: Sequence[Renewed], *, evidence: dict[str, Any]
    ) -> tuple[str, str | None]:
        """Let every track hold what the base holds now; return the live generation and its registered name.

        A track is known by what it held, not by its name: a switch may have come meanwhile, and holds. What is live
        then and could not be built stays as it is, with the reason. A track that was made meanwhile stays too.
        """
        with self._locks.hold(base, "tracks"):
            tracks = self._tracks.settle(base)
            now = {
                name: _renew(each, self._find_renewed(base, each, renewed)) for name, each in tracks.items()
            }
            live = now[LIVE].generation
            assert live is not None, "an ingest that cannot build what is live ends before this"
            if tracks[LIVE].generation is not None:
                # Before the pointer moves: killed behind it, the way back leads to the documents of now all the same.
                self._tracks.save(base, now)
            version = self._point(base, live, evidence=evidence)
            self._tracks.save(base, now)
        return live, version

    def _find_renewed(self, base: str, track: Track, renewed: Sequence[Renewed]) -> Renewed | None:
        """Return what became of a track: by what it holds, else by its recipe and embedder. What was live goes first."""
        ordered = sorted(renewed, key=lambda each: each.track.name != LIVE)
        alike = [each for each in ordered if each.track.recipe_key == track.recipe_key]
        for each in alike:
            if each.track.generation == track.generation:
                return each
        if track.generation is None:
            return None
        try:  # an older version of the same recipe, moved to in the registry meanwhile
            embedder = self._living.row(base, track.generation).embedder
        except DamagedIndex:
            return None
        return next((each for each in alike if each.embedder == embedder), None)

    def note_live(self, base: str, note: str) -> None:
        """Write beside what is live what whoever looks at it should know; the next ingest that ends takes it away."""
        with self._locks.hold(base, "tracks"):
            tracks = self._tracks.settle(base)
            self._tracks.save(base, {**tracks, LIVE: replace(tracks[LIVE], note=note)})

    def start(self, base: str, track: Track) -> Tracked:
        """Write down the first track of a base, before anything of it is live; return the tracks."""
        with self._locks.hold(base, "tracks"):
            tracks = {LIVE: track}
            self._tracks.save(base, tracks)
            return tracks

    def add_candidate(self, base: str, track: Track) -> None:
        """Write down a candidate that was built, over one of that name before."""
        check_candidate_name(track.name)
        with self._locks.hold(base, "tracks"):
            self._tracks.save(base, {**self._tracks.load(base), track.name: track})

    def drop(self, base: str, name: str) -> None:
        """Forget a candidate, or the way back. What is live cannot be dropped."""
        if name != PREVIOUS:
            check_candidate_name(name)
        with self._locks.hold(base, "tracks"):
            self._tracks.get(base, name)
            tracks = self._tracks.load(base)
            del tracks[name]
            self._tracks.save(base, tracks)

    def switch(
        self,
        base: str,
        name: str,
        *,
        evidence: Mapping[str, Any] | None,
        override_reason: str | None,
        actor: str,
        note: str = "",
    ) -> SwitchReport:
        """Make a candidate live and keep what was live as `previous`.

        Raises `UnprovenSwitch` or what the check of evidence raises, `TrackBehind`, `UnknownTrack`.
        """
        check_candidate_name(name)
        self._warm(base, self._tracks.get(base, name))
        with self._locks.hold(base, "tracks"):
            tracks = self._tracks.settle(base)
            candidate = self._tracks.get(base, name)
            generation = _require_generation(base, candidate)
            was = tracks[LIVE]
            assert was.generation is not None
            kept = self._prove(base, was.generation, generation, evidence, override_reason)
            version = self._point(
                base, generation, evidence=kept, override_reason=override_reason, actor=actor
            )
            del tracks[name]
            tracks[LIVE] = replace(candidate, name=LIVE, note=note)
            tracks[PREVIOUS] = replace(was, name=PREVIOUS, note=f"was live until {name} was")
            self._tracks.save(base, tracks)
        return SwitchReport(
            base=base, generation=generation, version=version, was=was.generation, evidence=kept, note=note
        )

    def rollback(self, base: str, *, actor: str, reason: str = "") -> SwitchReport:
        """Make what was live before the last switch live again: its recipe, over the documents of now.

        Needs no evidence, no engine and no embedder. Raises `NoPreviousTrack`, `TrackBehind`.
        """
        before = self._tracks.load(base).get(PREVIOUS)
        if before is not None:
            self._warm(base, before)
        with self._locks.hold(base, "tracks"):
            self._living.find(base)
            tracks = self._tracks.settle(base)
            if PREVIOUS not in tracks:
                raise NoPreviousTrack(
                    f"{base!r} has had no other recipe live.",
                    hint="What an ingest changed is taken back in the source: put the documents back and ingest.",
                )
            back, was = tracks[PREVIOUS], tracks[LIVE]
            generation = _require_generation(base, back)
            assert was.generation is not None
            self._indexes.open(self._living.row(base, generation))
            kept = {"rollback": {"from": was.generation, "to": generation, "reason": reason}}
            version = self._point(base, generation, evidence=kept, actor=actor)
            tracks[LIVE] = replace(back, name=LIVE, note=reason)
            tracks[PREVIOUS] = replace(was, name=PREVIOUS, note="rolled back from")
            self._tracks.save(base, tracks)
        return SwitchReport(
            base=base, generation=generation, version=version, was=was.generation, evidence=kept, note=reason
        )

    def _warm(self, base: str, track: Track) -> None:
        """Have the index whole before anybody waits for the lock."""
        self._indexes.open(self._living.row(base, _require_generation(base, track)))

    def _prove(
        self,
        base: str,
        live: str,
        candidate: str,
        evidence: Mapping[str, Any] | None,
        override_reason: str | None,
    ) -> dict[str, Any]:
        if (override_reason or "").strip():
            return {"override": override_reason, "at_ns": now_ns()}
        if evidence and self._evidence is not None:
            return self._evidence.check(base, live=live, candidate=candidate, evidence=evidence)
        if self._versions is None:
            return dict(evidence or {})
        raise UnprovenSwitch(
            f"nothing shows that the candidate of {base!r} is no worse than what is live.",
            hint=f"Run penstock knowledge compare {base} TRACK and switch with --evidence ID, or give "
            "--override REASON, which is recorded.",
        )

    def _point(
        self,
        base: str,
        generation: str,
        *,
        evidence: dict[str, Any],
        override_reason: str | None = None,
        actor: str | None = None,
    ) -> str | None:
        """Let `generation` be what is searched; return the registry's name for it."""
        if self._versions is None:
            return None  # then the base's own row is the pointer, written with the tracks
        live = self._versions.find_live(base)
        if live is not None and live[0].get("generation") == generation:
            return live[1]
        row = self._living.row(base, generation)
        content = {
            "generation": generation,
            "index": index_of(row),
            "embedder": row.embedder,
            "recipe": recipe_as_dict(read_recipe(row.recipe)),
            "documents": row.n_documents,
            "passages": row.n_passages,
        }
        return self._versions.publish(
            base,
            content,
            evidence=evidence,
            override_reason=(override_reason or "").strip() or None,
            actor=actor,
        )


def _renew(track: Track, renewed: Renewed | None) -> Track:
    if renewed is None:
        return track
    if renewed.generation is not None:
        return replace(track, generation=renewed.generation, note="")
    note = f"behind: {renewed.reason}"
    if track.name == LIVE:  # switched to meanwhile: it holds the documents of before, whole
        return replace(track, note=note)
    return replace(track, generation=None, note=note)


def _require_generation(base: str, track: Track) -> str:
    if track.generation is None:
        raise TrackBehind(
            f"track {track.name!r} of {base!r} does not hold what the base holds now: "
            f"{track.note.removeprefix('behind: ') or 'it was never built'}.",
            hint=f"Bring it up to date by penstock knowledge ingest {base}.",
        )
    return track.generation
