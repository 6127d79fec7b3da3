"""Follows the snapshot file: reads it when it changes, swaps the table atomically, keeps the last good one."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from penstock.base.errors import PenstockError
from penstock.deploy.followed import Followed
from penstock.deploy.snapshots import read_snapshot
from penstock.gateway.table import Table
from penstock.providers.auth.port import TokenFetch
from penstock.spec.snapshot import Snapshot

_log = logging.getLogger("penstock.gateway")
SnapshotReader = Callable[[Path], Snapshot]
_Stamp = tuple[int, int, int]


class SnapshotWatch:
    """Holds the current table. `table` is None until a good snapshot has been read."""

    def __init__(
        self,
        path: Path,
        *,
        environ: Mapping[str, str],
        internal_key: str | None,
        fetch: TokenFetch | None = None,
        open_secrets: Callable[[Snapshot], Mapping[str, str]] = lambda _: {},
        read: SnapshotReader = read_snapshot,
        interval_s: float = 0.5,
        on_table: Callable[[Table], None] = lambda _: None,
        note_followed: Callable[[Followed], None] = lambda _: None,
    ) -> None:
        self.table: Table | None = None
        self.n_rejected = 0
        """Files that were not taken since the start."""
        self._path = path
        self._environ = environ
        self._internal_key = internal_key
        self._fetch = fetch
        self._open_secrets = open_secrets
        self._read = read
        self._interval_s = interval_s
        self._on_table = on_table
        self._note_followed = note_followed
        self._noted: Followed | None = None
        self._former: list[Table] = []
        """Tables that calls under way are still served by."""
        self._seen: _Stamp | None = None

    def refresh(self) -> bool:
        """Look at the file once; return whether a new table has been taken.

        A file that cannot be read or is not valid is logged once and the table stays as it was.
        """
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        if self.table is None:
            self._say(
                Followed(newest_ns=0, oldest_ns=0)
            )  # whoever ends engines now waits for what is read here
        try:
            snapshot = self._read(self._path)
            table = Table(
                snapshot,
                environ=self._environ,
                internal_key=self._internal_key,
                secrets=self._open_secrets(snapshot),
                fetch=self._fetch,
            )
        except (PenstockError, OSError) as error:
            self.n_rejected += 1
            _log.error("snapshot rejected, the last good one stays", extra={"reason": str(error)})
            return False
        if self.table is not None:
            self._former.append(self.table)
        self.table = table
        _log.info("snapshot taken", extra={"digest": table.digest, "n_routes": len(table.routes)})
        self._on_table(table)
        self.note()
        return True

    def note(self) -> None:
        """Say by which snapshots calls are served, if that has changed."""
        if self.table is None:
            return
        self._former = [each for each in self._former if each.n_calls]
        newest = self.table.written_ns
        followed = Followed(
            newest_ns=newest, oldest_ns=min((each.written_ns for each in self._former), default=newest)
        )
        if followed != self._noted:
            self._say(followed)

    def _say(self, followed: Followed) -> None:
        try:
            self._note_followed(followed)
        except OSError as error:  # what waits for it waits a little longer, and is told in the end
            _log.warning("cannot say which snapshot is followed", extra={"reason": str(error)})
            return
        self._noted = followed

    async def run(self) -> None:
        """Refresh for ever; what goes wrong is logged, and the table stays as it is."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                self.refresh()
                self.note()
            except Exception:  # the edge of this task: ended, it would leave revoked keys working for ever
                _log.exception("snapshot watch failed, it goes on")

    def _stamp(self) -> _Stamp | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size
