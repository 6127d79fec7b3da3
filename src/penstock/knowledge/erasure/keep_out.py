"""What was erased and must not come back: keyed digests of paths, of bytes and of people, looked at by every scan.

The list names nobody and nothing. What it keeps out is read from the source no further than needed to know it, and
never written anywhere.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Engine

from penstock.base.clock import iso_from_ns
from penstock.base.clock import now_ns as wall_clock
from penstock.knowledge.erasure import queries
from penstock.knowledge.erasure.types import KeptOutKind, KeptOutRow

Digest = Callable[[str, str], str]
"""Returns the keyed digest of something of a kind."""
ANY_BASE = ""


class Sieve:
    """What is kept out of one source of a base, as of now."""

    def __init__(self, known: dict[tuple[str, str], int], digest: Digest, prefix: str) -> None:
        self._known = known
        self._digest = digest
        self._prefix = prefix
        self._kept_out: Counter[str] = Counter()

    def keeps_out(
        self, *, path: str | None = None, bytes_digest: str | None = None, subjects: Sequence[str] = ()
    ) -> bool:
        """Return whether one of these was erased, and count it."""
        if not self._known:
            return False
        named: list[tuple[KeptOutKind, str]] = [("subject", each) for each in subjects]
        if path is not None:
            named.append(("path", self._prefix + path))
        if bytes_digest is not None:
            named.append(("bytes", bytes_digest))
        for kind, each in named:
            erased_ns = self._known.get((kind, self._digest(f"knowledge {kind}", each)))
            if erased_ns is not None:
                self._kept_out[iso_from_ns(erased_ns)[:10]] += 1
                return True
        return False

    def tell(self) -> list[str]:
        """Return what was kept out, without naming it."""
        return [
            f"{n} {'document that was' if n == 1 else 'documents that were'} erased on {day} "
            f"{'is' if n == 1 else 'are'} kept out"
            for day, n in sorted(self._kept_out.items())
        ]


class KeepOut:
    """The list. Safe from several threads and processes."""

    def __init__(
        self, engine: Engine, find_digest: Callable[[], Digest], *, now_ns: Callable[[], int] = wall_clock
    ) -> None:
        """`find_digest` gives the installation's keyed digest; it is called only when something is, or was, erased."""
        self._engine = engine
        self._find_digest = find_digest
        self._now_ns = now_ns

    def open(self, base: str, prefix: str) -> Sieve:
        """Return what is kept out of a source whose paths stand below `prefix` in the base."""
        with self._engine.connect() as connection:
            rows = queries.list_kept_out(connection, [base, ANY_BASE])
        known = {(row.kind, row.digest): row.erased_ns for row in rows}
        return Sieve(known, self._find_digest() if known else _no_digest, prefix)

    def add(self, base: str, kind: KeptOutKind, values: Iterable[str], *, erasure: str) -> int:
        """Keep these out of a base (of all: `ANY_BASE`) from now on; durable on return."""
        digest, now = self._find_digest(), self._now_ns()
        rows: list[dict[str, Any]] = [
            {
                "base": base,
                "kind": kind,
                "digest": digest(f"knowledge {kind}", each),
                "erasure": erasure,
                "erased_ns": now,
            }
            for each in dict.fromkeys(values)
        ]
        with self._engine.begin() as connection:
            queries.keep_out(connection, rows)
        return len(rows)

    def list_rows(self, base: str | None = None) -> list[KeptOutRow]:
        """Return what is kept out of a base, or of all of them, the oldest first."""
        with self._engine.connect() as connection:
            rows = queries.list_kept_out(connection, None if base is None else [base, ANY_BASE])
        return [
            KeptOutRow(
                base=row.base, kind=row.kind, digest=row.digest, erasure=row.erasure, erased_ns=row.erased_ns
            )
            for row in rows
        ]

    def let_in(self, base: str, *, path: str | None = None, digest: str | None = None) -> int:
        """Let a path, or what a digest of the list stands for, come in again; return how many stood there."""
        digests = [] if digest is None else [digest]
        if path is not None:
            digests.append(self._find_digest()("knowledge path", path))
        with self._engine.begin() as connection:
            return queries.let_in(connection, base, ["path", "bytes", "subject"], digests)


def _no_digest(kind: str, value: str) -> str:
    raise AssertionError(f"nothing is kept out, and nobody asks for the digest of a {kind} {value!r}")
