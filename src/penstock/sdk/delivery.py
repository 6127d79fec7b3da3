"""What became of everything that was recorded, counted: nothing is lost without a number that says so."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Spans and scores of this process so far. `sent + failed + pending + dropped` is all there ever were."""

    sent: int = 0
    """Acknowledged: they are on the collector's disk."""
    failed: int = 0
    """Refused for good, such as for a wrong key."""
    pending: int = 0
    """Still here: in memory, or in the spill folder until the collector answers again."""
    dropped: int = 0
    """Lost, because more came than memory and spill folder may hold."""
    spilled: int = 0
    """Those of `pending` that are in the spill folder and outlive this process."""
    payloads_dropped: int = 0
    """Spans that were kept without input and output, for lack of memory or because they were too long."""
    problem: str | None = None
    """Why something failed or is pending, None when the last request was answered well."""

    @property
    def is_complete(self) -> bool:
        """Whether everything was acknowledged."""
        return not (self.failed or self.pending or self.dropped)
