"""What can be wrong with a snapshot (codes PS-x7xx)."""

from collections.abc import Sequence

from penstock.base.errors import CallerError, NotFound


class SnapshotInvalid(CallerError):
    """What the snapshot says contradicts itself; the text lists everything that is wrong."""

    code = "PS-1701"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(
            f"The snapshot is refused: {'; '.join(problems)}.",
            hint="`penstock config check` names the line in penstock.toml.",
            problems=tuple(problems),
        )


class SnapshotDamaged(CallerError):
    """The file is no whole snapshot, or not the one that was written."""

    code = "PS-1702"


class SnapshotMissing(NotFound):
    """No snapshot has been written yet."""

    code = "PS-1703"
