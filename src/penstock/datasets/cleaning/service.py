"""Cleaning as people ask for it: a report, or a new version of the dataset with the step on its record.

A step that removes nothing makes no version: the report says that there was nothing to do. As every change a step begins with
the newest version, unless another is named; where a newer one is made meanwhile it is refused, as that one's rows would be lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.contamination import (
    ContaminationOptions,
    ContaminationReport,
    find_contamination,
)
from penstock.datasets.cleaning.duplicates import find_duplicates
from penstock.datasets.cleaning.minhash import MinHashOptions
from penstock.datasets.cleaning.personal import PersonalReport, Scrubber, report_personal
from penstock.datasets.cleaning.profile import Profile, profile_rows
from penstock.datasets.cleaning.texts import Part
from penstock.datasets.service import DatasetService
from penstock.datasets.sheet import Ancestor, Datasheet, make_sheet
from penstock.datasets.types import DatasetVersion, Tell
from penstock.spec.datasets import DatasetRow
from penstock.telemetry.personal_data import KINDS, NOT_FOUND, check_kinds

Loser = Literal["other", "held"]
FindLineage = Callable[[str], tuple[Sequence[Ancestor], Sequence[Ancestor]]]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What a step found, and the version that it made."""

    base: str
    """Pinned reference to what was looked at."""
    version: DatasetVersion | None
    """None where nothing was removed or only a report was asked for."""
    n_removed: int
    """Rows; of a scrub, rows that were changed."""
    report: dict[str, Any]


class CleaningService:
    """Cleaning over the datasets of a home. Every method may be called from any thread."""

    def __init__(
        self,
        datasets: DatasetService,
        *,
        find_lineage: FindLineage = lambda _ref: ((), ()),
    ) -> None:
        """`find_lineage` returns what a pinned version was made from, and what was made from it."""
        self._datasets = datasets
        self._find_lineage = find_lineage

    def sheet(self, ref: str, *, compare: bool = False) -> Datasheet:
        """Return the datasheet of a version; `compare` looks for its rows in every other dataset of the home."""
        base = self._datasets.get(ref)
        ancestors, descendants = self._find_lineage(base.ref)
        shared = None
        if compare:
            others = [
                f"dataset:{each.name}@{each.latest}"
                for each in self._datasets.list_datasets()
                if each.name != base.name and each.n_rows
            ]
            shared = self.contamination_with(base.ref, others)
        return make_sheet(
            base,
            lambda: self._datasets.read(base.ref),
            ancestors=ancestors,
            descendants=descendants,
            shared=shared,
        )

    def profile(self, ref: str) -> Profile:
        """Return what the rows of a version look like."""
        base = self._datasets.get(ref)
        return profile_rows(self._datasets.read(base.ref), base.facts.format)

    def personal(self, ref: str, kinds: Sequence[str] = ()) -> PersonalReport:
        """Return what personal data the rows hold; values are never part of it."""
        base = self._datasets.get(ref)
        return report_personal(self._datasets.read(base.ref), check_kinds(kinds))

    def dedupe(
        self,
        ref: str,
        *,
        part: Part = "all",
        near: MinHashOptions | None = MinHashOptions(),
        report_only: bool = False,
        note: str = "",
        tell: Tell | None = None,
    ) -> Cleaned:
        """Drop rows that say what an earlier row says: exactly, and with `near` nearly."""
        begun = self._datasets.get_base(ref)
        base, _ = begun
        found = find_duplicates(
            lambda: self._datasets.read(base.ref), part=part, near=near, n_rows=base.facts.n_rows, tell=tell
        )
        version = None
        if found.dropped and not report_only:
            step = {
                "step": "deduplicate",
                "parameters": found.parameters,
                "removed": {"exact duplicate": found.n_exact, "near duplicate": found.n_near},
            }
            version = self._without(begun, found.dropped, step, note)
        return Cleaned(base=base.ref, version=version, n_removed=len(found.dropped), report=found.as_dict())

    def decontaminate(
        self,
        ref: str,
        *,
        held: str | None = "test",
        other: str | None = None,
        against: Sequence[str] = (),
        lose: Loser = "other",
        options: ContaminationOptions = ContaminationOptions(),
        report_only: bool = False,
        note: str = "",
        tell: Tell | None = None,
    ) -> Cleaned:
        """Drop rows of one side of a contact between held-out rows and others.

        Without `against`, both sides are splits of this version: `held` is the split that is held out, `other` the one
        that it is held against (None: every other row). With it, the rows of `ref` lose whatever the other datasets hold
        too, which count as held out; `held` and `lose` then have no meaning.
        """
        begun = self._datasets.get_base(ref)
        base, _ = begun
        if against:
            others = [self._datasets.get(each) for each in against]
            if any(each.digest == base.digest for each in others):
                raise InvalidInput("A dataset cannot be held against itself.", where="against")
            found = find_contamination(
                chain.from_iterable(self._datasets.read(each.ref) for each in others),
                self._datasets.read(base.ref),
                options,
                tell=tell,
            )
            dropped, sides = found.other, {"against": [each.ref for each in others]}
        else:
            found = self._between_splits(base, held, other, options, tell)
            dropped = found.other if lose == "other" else found.held
            sides = {"held": [held or ""], "other": [other or "*"], "lose": [lose]}
        version = None
        if dropped and not report_only:
            step = {
                "step": "decontaminate",
                "parameters": {**found.parameters, **sides},
                "removed": {"contaminated": len(dropped)},
            }
            version = self._without(begun, dropped, step, note)
        return Cleaned(
            base=base.ref, version=version, n_removed=len(dropped), report={**found.as_dict(), **sides}
        )

    def scrub(
        self, ref: str, kinds: Sequence[str] = (), *, report_only: bool = False, note: str = ""
    ) -> Cleaned:
        """Replace what was found of personal data by the name of its kind in brackets; rows keep their ids.

        Fields, metadata and groups are looked through; ids and provenance stay, since they say where a row is from.
        """
        begun = self._datasets.get_base(ref)
        base, _ = begun
        found = Scrubber(kinds=check_kinds(kinds))
        for row in self._datasets.read(base.ref):  # before anything is written: the step says how many
            found.scrub(row)
        version = None
        if found.n_changed and not report_only:
            step = {
                "step": "scrub",
                "parameters": {"kinds": list(found.kinds)},
                "n_before": found.n_rows,
                "n_after": found.n_rows,
                "n_changed": found.n_changed,
                "replaced": dict(found.replaced),
            }
            rows = map(Scrubber(kinds=found.kinds).scrub, self._datasets.read(base.ref))
            version = self._create(begun, rows, step, {}, note)
        report = {
            "n_rows": found.n_rows,
            "n_rows_with": found.n_changed,
            "replaced": {kind: found.replaced.get(kind, 0) for kind in KINDS if kind in found.kinds},
            "note": NOT_FOUND,
        }
        return Cleaned(base=base.ref, version=version, n_removed=found.n_changed, report=report)

    def contamination_with(self, ref: str, others: Iterable[str]) -> list[tuple[str, ContaminationReport]]:
        """Return what a version has in common with each of some other versions, as a report."""
        base = self._datasets.get(ref)
        found = []
        for other in others:
            held, rows = self._datasets.read(base.ref), self._datasets.read(other)
            found.append((other, find_contamination(held, rows)))
        return found

    def _between_splits(
        self,
        base: DatasetVersion,
        held: str | None,
        other: str | None,
        options: ContaminationOptions,
        tell: Tell | None,
    ) -> ContaminationReport:
        known = base.facts.splits
        for name in (held, other):
            if name is not None and name not in known:
                splits = ", ".join(each or "(none)" for each in known)
                raise InvalidInput(
                    f"{base.ref} has no split {name!r}; it has: {splits}.",
                    hint=f"Make splits first: penstock dataset split {base.name} test=0.2 train=0.8",
                    where="held",
                )
        if held == other:
            raise InvalidInput("A split cannot be held against itself.", where="other")
        rows = self._datasets.read(base.ref)
        return find_contamination(
            (row for row in rows if _is_in(row, held)),
            (
                row
                for row in self._datasets.read(base.ref)
                if (not _is_in(row, held) if other is None else _is_in(row, other))
            ),
            options,
            tell=tell,
        )

    def _without(
        self,
        begun: tuple[DatasetVersion, str],
        dropped: frozenset[str],
        step: Mapping[str, Any],
        note: str,
    ) -> DatasetVersion:
        base, _ = begun
        whole = {
            **step,
            "n_before": base.facts.n_rows,
            "n_after": base.facts.n_rows - len(dropped),
            "removed": {reason: n for reason, n in step["removed"].items() if n},
        }
        rows = (row for row in self._datasets.read(base.ref) if row.id not in dropped)
        return self._create(begun, rows, whole, whole["removed"], note)

    def _create(
        self,
        begun: tuple[DatasetVersion, str],
        rows: Iterator[DatasetRow],
        step: Mapping[str, Any],
        left_out: Mapping[str, int],
        note: str,
    ) -> DatasetVersion:
        base, newest = begun
        facts = base.facts
        return self._datasets.create_from_rows(
            base.name,
            rows,
            facts.format,
            parents=[base.digest],
            sources=facts.sources,
            steps=[*facts.steps, step],
            left_out=dict(Counter(facts.left_out) + Counter(left_out)),
            description=facts.description,
            licence=facts.license,
            note=note,
            newest=newest,
        )


def _is_in(row: DatasetRow, split: str | None) -> bool:
    return (row.split or "") == (split or "")
