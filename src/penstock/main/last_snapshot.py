"""What gateways were told last, read again only when the file is another one."""

from pathlib import Path

from penstock.deploy.errors import SnapshotDamaged, SnapshotInvalid, SnapshotMissing
from penstock.deploy.snapshots import read_snapshot
from penstock.spec.snapshot import Snapshot


class LastSnapshot:
    """Reads a snapshot file. Safe to use from several threads: two may read it at once, and both get the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[tuple[int, int, int], Snapshot] | None = None

    def read(self) -> Snapshot | None:
        """Return the snapshot; None while there is none that can be used, the last good one while it is damaged."""
        try:
            told = self._path.stat()
        except OSError:
            return None
        stamp = (told.st_ino, told.st_mtime_ns, told.st_size)
        last = self._last
        if last is not None and last[0] == stamp:
            return last[1]
        try:
            snapshot = read_snapshot(self._path)
        except (SnapshotMissing, SnapshotDamaged, SnapshotInvalid):
            return last[1] if last is not None else None
        self._last = stamp, snapshot
        return snapshot
