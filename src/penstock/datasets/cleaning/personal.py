"""Personal data in rows: which kinds, in which fields, and rows without it.

What counts as personal, and what is not looked for, is `telemetry.personal_data`'s; every report says the latter.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.datasets.cleaning.texts import named_texts
from penstock.spec.datasets import DatasetRow
from penstock.telemetry.personal_data import KINDS, NOT_FOUND, PersonalKind, find_personal, mask_personal

MAX_IDS = 100
"""Ids of rows that a finding names; its counts are whole."""
MAX_EXAMPLES = 3


@dataclass(kw_only=True)
class Finding:
    """One kind in one field."""

    path: str
    """The field, such as `input` or `metadata.author`."""
    kind: PersonalKind
    n_places: int = 0
    n_rows: int = 0
    row_ids: list[str] = field(default_factory=list)
    """The first of them."""
    examples: list[str] = field(default_factory=list)
    """Masked: the form shows, the value does not."""


@dataclass(frozen=True, kw_only=True)
class PersonalReport:
    """What was found in how many rows."""

    n_rows: int
    n_rows_with: int
    findings: tuple[Finding, ...]
    kinds: tuple[PersonalKind, ...]
    """What was looked for."""
    note: str = NOT_FOUND

    def by_kind(self) -> dict[str, int]:
        """Return places of each kind that was looked for, 0 where there is none."""
        counts: Counter[str] = Counter(dict.fromkeys(self.kinds, 0))
        for each in self.findings:
            counts[each.kind] += each.n_places
        return dict(counts)


def report_personal(rows: Iterable[DatasetRow], kinds: Sequence[PersonalKind] = KINDS) -> PersonalReport:
    """Return what the rows hold, by field and kind, the most frequent first."""
    findings: dict[tuple[str, PersonalKind], Finding] = {}
    n_rows = n_rows_with = 0
    for row in rows:
        n_rows += 1
        seen: set[tuple[str, PersonalKind]] = set()
        for name, text in _all_texts(row):
            for start, end, kind in find_personal(text, kinds):
                finding = findings.setdefault((name, kind), Finding(path=name, kind=kind))
                finding.n_places += 1
                if len(finding.examples) < MAX_EXAMPLES:
                    finding.examples.append(mask_example(text[start:end]))
                if (name, kind) not in seen:
                    seen.add((name, kind))
                    finding.n_rows += 1
                    if len(finding.row_ids) < MAX_IDS:
                        finding.row_ids.append(row.id)
        n_rows_with += bool(seen)
    ranked = sorted(findings.values(), key=lambda each: (-each.n_places, each.path, each.kind))
    return PersonalReport(n_rows=n_rows, n_rows_with=n_rows_with, findings=tuple(ranked), kinds=tuple(kinds))


@dataclass
class Scrubber:
    """Rewrites rows one by one and counts what it replaced; an email address becomes `[email]`."""

    kinds: tuple[PersonalKind, ...] = KINDS
    n_rows: int = 0
    n_changed: int = 0
    replaced: Counter[str] = field(default_factory=Counter)

    def scrub(self, row: DatasetRow) -> DatasetRow:
        """Return the row without what was found in its fields, metadata and group; the same row if there was none."""
        self.n_rows += 1
        before = self.replaced.total()
        fields, metadata = self._walk(row.fields, 0), self._walk(row.metadata, 0)
        group = None if row.group is None else self._text(row.group)
        if self.replaced.total() == before:
            return row
        self.n_changed += 1
        return msgspec.structs.replace(row, fields=fields, metadata=metadata, group=group)

    def _walk(self, value: Any, depth: int) -> Any:
        if depth > 100:
            raise InvalidInput("A row is nested too deep to be looked through.")
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(name): self._walk(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item, depth + 1) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**7:
            masked = self._text(str(value))
            return value if masked == str(value) else masked
        return value

    def _text(self, text: str) -> str:
        masked, counts = mask_personal(text, self.kinds)
        self.replaced.update(counts)
        return masked


def mask_example(text: str) -> str:
    """Return the form of a value: letters and digits masked but for the first."""
    return text[:1] + re.sub(r"[^\W_]", "\u2022", text[1:])


def _all_texts(row: DatasetRow) -> Iterator[tuple[str, str]]:
    yield from named_texts(row.fields)
    for name, text in named_texts(row.metadata):
        yield f"metadata.{name}", text
    if row.group:
        yield "group", row.group
