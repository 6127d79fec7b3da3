"""What became of everything that was sent to us: taken, left out, cut, masked, dropped, not understood, sent on.

One `IngestCounters` a control process; whatever handles spans on their way counts here, and the page on the record's
health, the metrics and the commands read it. Counts survive a restart: they are kept in one small file.
A kill costs what was counted since the file was written last, seconds at most, and is told as a gap.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from penstock.base.clock import now_ns
from penstock.base.files import write_atomic

Group = Literal[
    "taken", "rejected", "refused", "dropped", "erased", "cut", "masked", "withheld", "logs", "unmapped"
]
"""What is counted, each by name:

- `taken`: spans and log records that were acknowledged, by way (`traces http`, `logs grpc` …)
- `rejected`: single spans and records left out of a request that was taken, by reason; their sender was told
- `refused`: whole requests that were not taken, by reason; their sender was told
- `dropped`: what had been acknowledged and was lost, by reason
- `erased`: what had been acknowledged and was kept out on purpose, because its subject was erased
- `cut`: what was kept only in part, by what
- `masked`: places that a rule made unreadable, by rule
- `withheld`: payloads that were not kept because a project does not capture content, by project
- `logs`: what became of log records that belong to spans (`joined`, `expired` …)
- `unmapped`: attribute names that the mapping table does not know
"""
MAX_NAMES = 2000
MAX_GAPS = 20
SAVE_EVERY_S = 10.0
_OTHERS = "(others)"
LATE_OF_ERASED = "late spans of what was erased"


class ForwardHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How sending on to one place goes."""

    name: str
    url: str
    n_sent: int = 0
    n_dropped: int = 0
    """Spans that were given up: refused there, or more than may wait."""
    n_failed: int = 0
    """Tries that failed; what they carried is tried again."""
    waiting_bytes: int = 0
    last_error: str | None = None
    last_sent_ns: int | None = None


class CollectorHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How storing goes."""

    n_stored: int = 0
    n_undecodable: int = 0
    n_skipped_bytes: int = 0
    n_folders: int = 0
    waiting_bytes: int = 0
    """Acknowledged, on disk, and not in the store yet."""
    waiting_logs: int = 0
    """Log records whose span has not come yet."""
    last_error: str | None = None


class RecordHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is counted about the record, at one moment."""

    since_ns: int
    """When counting began."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Begin and end of times whose counts were lost with a process that was killed; the spans themselves are kept."""
    counts: Mapping[Group, Mapping[str, int]]
    """By group and name; the largest first. See `Group`."""
    mapping_version: int = 0
    collector: CollectorHealth = CollectorHealth()
    forwards: tuple[ForwardHealth, ...] = ()
    spool_dropped_payloads: int = 0
    """Records of this process that were stored without payloads because the disk was short."""
    spool_dropped_records: int = 0
    grpc_address: str | None = None
    """Where OTLP over gRPC is taken, or None."""
    grpc_problem: str | None = None
    """Why it is not, where it should be."""


class _Saved(msgspec.Struct, frozen=True, kw_only=True):
    since_ns: int
    counts: dict[str, dict[str, int]]
    saved_ns: int = 0
    is_closed: bool = True
    """The process that wrote it ended in order; False as long as it runs. Files of older versions do not say."""
    gaps: tuple[tuple[int, int], ...] = ()


class IngestCounters:
    """Counts by group and name. Every method may be called from any thread."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the file that keeps the counts; None keeps them in memory."""
        self._path = path
        self._guard = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._since_ns = now_ns()
        self._saved_total = 0
        self._saved_s = 0.0
        self._is_marked = False
        self._gaps: tuple[tuple[int, int], ...] = ()
        if path is not None:
            self._load(path)

    def add(self, group: Group, name: str, n: int = 1) -> None:
        """Count `n` of `name`; beyond `MAX_NAMES` names of a group new ones are counted together."""
        if n:
            with self._guard:
                self._add(group, name, n)

    def add_all(self, group: Group, names: Iterable[str]) -> None:
        """Count each of `names` once."""
        with self._guard:
            for name in names:
                self._add(group, name, 1)

    def _add(self, group: str, name: str, n: int) -> None:
        counter = self._counts.get(group)
        if counter is None:
            counter = self._counts[group] = Counter()
        if name not in counter and len(counter) >= MAX_NAMES:
            name = _OTHERS
        counter[name] += n

    def get(self, group: Group, name: str) -> int:
        """Return the count of one name."""
        with self._guard:
            counter = self._counts.get(group)
            return counter[name] if counter is not None else 0

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """Begin and end of times whose counts were lost with a process that was killed, the newest last."""
        return self._gaps

    @property
    def since_ns(self) -> int:
        """When counting began."""
        return self._since_ns

    def read(self) -> dict[Group, dict[str, int]]:
        """Return all counts, the largest of each group first."""
        with self._guard:
            return {group: dict(counter.most_common()) for group, counter in self._counts.items()}  # type: ignore[misc]

    def save(self, *, is_last: bool = False) -> None:
        """Keep the counts in the file, where they changed, every few seconds; a full disk costs only what came since.

        `is_last` does so at once.
        """
        now = time.monotonic()
        if self._path is None or not (is_last or not self._is_marked or now - self._saved_s >= SAVE_EVERY_S):
            return
        self._saved_s = now
        with self._guard:
            total = sum(counter.total() for counter in self._counts.values())
            if total == self._saved_total and self._is_marked and not is_last:
                return
            saved = _Saved(
                since_ns=self._since_ns,
                counts={name: dict(each) for name, each in self._counts.items()},
                saved_ns=now_ns(),
                is_closed=is_last,
                gaps=self._gaps,
            )
            self._saved_total = total
            self._is_marked = not is_last
        with contextlib.suppress(OSError):
            write_atomic(self._path, msgspec.json.encode(saved), mode=0o600)

    def _load(self, path: Path) -> None:
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return
        self._since_ns = saved.since_ns
        self._gaps = saved.gaps
        if not saved.is_closed:
            self._gaps = (*saved.gaps, (saved.saved_ns, now_ns()))[-MAX_GAPS:]
        self._counts = {group: Counter(names) for group, names in saved.counts.items()}
        # files of older versions count among what was lost what was kept out on purpose
        if n := self._counts.get("dropped", Counter()).pop(LATE_OF_ERASED, 0):
            self._add("erased", LATE_OF_ERASED, n)
        self._saved_total = sum(counter.total() for counter in self._counts.values())
