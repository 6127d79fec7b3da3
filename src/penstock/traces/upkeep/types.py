"""What erasure is told and what it answers."""

from collections.abc import Callable
from typing import Literal

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.upkeep_types import CallWindow, Subject
from penstock.traces.upkeep.sweep import Sweep

ErasureState = Literal["waiting", "running", "done"]
SUBJECT_KINDS = ("user", "session", "trace")


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """What has to go, as each place needs to know it."""

    subject: Subject
    trace_ids: list[str]
    calls: list[CallWindow]
    covers: Callable[[Span], bool]
    """Returns whether a span is among it."""


class PlaceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done in one place."""

    place: str
    removed: dict[str, int] = {}
    note: str | None = None


Place = Callable[[Doomed], PlaceReport]
"""Removes what lies in one place; doing it twice changes nothing."""


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One erasure that was asked for."""

    id: str
    state: ErasureState
    kind: str
    subject_digest: str
    reason: str
    actor: str
    created_ns: int
    updated_ns: int
    attempts: int = 0
    error: str | None = None
    """Why the last try failed; it is tried again."""
    receipt: int | None = None
    """Number of the receipt, once it is done."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, when, for whom and where; it names the subject by a keyed digest alone."""

    format: int
    number: int
    previous: str | None
    """Digest of the receipt before this one; None for the first."""
    erasure: str
    kind: str
    subject_digest: str
    reason: str
    actor: str
    asked_at: str
    finished_at: str
    places: list[PlaceReport]
    sweep: Sweep
    """What looking for the subject's name through all files of the home found at the end."""
    beyond_reach: list[str]
    """Where copies may be that this installation cannot erase."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a receipt found."""

    number: int
    is_signed: bool
    """Whether the content is what the key in the receipt signed."""
    is_ours: bool | None
    """Whether that key is this installation's; None where it was not asked."""
    is_in_chain: bool | None
    """Whether it stands here, unchanged, and the ones before it too."""
    is_of_subject: bool | None
    """Whether it is about the subject that was named; None where none was."""
    problems: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems
