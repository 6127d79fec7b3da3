"""The layout of a Penstock home: which file lies where. Paths only, no I/O."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

DEFAULT_ROOT = Path("~/.penstock")


@dataclass(frozen=True, kw_only=True)
class Home:
    """All paths below one home directory (`--home`, `PENSTOCK_HOME`, default `~/.penstock`)."""

    root: Path

    @property
    def option(self) -> str:
        """What a command needs to name this home, such as ` --home /srv/ai`; empty for the default one."""
        return "" if self.root == DEFAULT_ROOT.expanduser() else f" --home {quote(str(self.root))}"

    @property
    def settings(self) -> Path:
        """`penstock.toml`, written by `penstock init`."""
        return self.root / "penstock.toml"

    @property
    def admin_key(self) -> Path:
        """The owner's key: one line, mode 0600, written once by the first `penstock up`."""
        return self.root / "admin.key"

    @property
    def run(self) -> Path:
        """Things of the running instance: lock, ports, internal key. Safe to delete when stopped."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one supervisor that owns this home."""
        return self.run / "up.lock"

    @property
    def state(self) -> Path:
        """JSON written by the supervisor: pid, ports and children of the running instance."""
        return self.run / "state.json"

    @property
    def ready(self) -> Path:
        """Holds a file for each gateway worker that serves, named as its process id."""
        return self.run / "ready"

    @property
    def followed(self) -> Path:
        """Says of each gateway worker, by process id, by which snapshots it works."""
        return self.run / "followed"

    @property
    def internal_key(self) -> Path:
        """Key that gateway, apps, engine and control use among themselves; mode 0600."""
        return self.run / "internal.key"

    @property
    def master_key(self) -> Path:
        """What upstream keys are sealed with; mode 0600, made when the first one is entered. Never lose it."""
        return self.root / "master.key"

    @property
    def privacy_key(self) -> Path:
        """What receipts of erasure are signed with, and names of erased subjects digested; mode 0600. Never lose it."""
        return self.root / "privacy.key"

    @property
    def journal(self) -> Path:
        """Billing journals of gateway workers, one file a worker; what a dead worker left is recovered from them."""
        return self.root / "journal"

    @property
    def snapshot(self) -> Path:
        """The snapshot gateways read (`spec.snapshot.Snapshot` as JSON)."""
        return self.root / "snapshot" / "current.json"

    @property
    def control_db(self) -> Path:
        """SQLite file of the control tables, unless settings name another database."""
        return self.root / "control.db"

    @property
    def span_db(self) -> Path:
        """DuckDB file of the span store, owned by the collector in the control process."""
        return self.root / "spans.duckdb"

    @property
    def spool(self) -> Path:
        """Spool segments, one sub-directory per writer process."""
        return self.root / "spool"

    @property
    def forward(self) -> Path:
        """What waits to be sent on to other places that take OTLP, one sub-directory each."""
        return self.root / "forward"

    @property
    def blobs(self) -> Path:
        """Content-addressed artefacts."""
        return self.root / "blobs"

    @property
    def files(self) -> Path:
        """Files and batches that clients left at the gateway, one folder a project."""
        return self.root / "files"

    @property
    def counters(self) -> Path:
        """LMDB environment of the shared counters."""
        return self.root / "counters"

    @property
    def cache(self) -> Path:
        """LMDB environment of kept replies; can be deleted."""
        return self.root / "cache"

    @property
    def indexes(self) -> Path:
        """Derived index generations; can be deleted and rebuilt."""
        return self.root / "indexes"

    @property
    def tuning(self) -> Path:
        """Folders of tuning runs: data as token ids, checkpoints, events. A finished run's can be deleted."""
        return self.root / "tuning"

    @property
    def logs(self) -> Path:
        """Log files of the children, one per process."""
        return self.root / "logs"
