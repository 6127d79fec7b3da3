"""What can go wrong before any room is asked: settings, homes, ports, processes."""

from typing import Any

from penstock.base.errors import BugError, CallerError, ConflictError, UpstreamError, UpstreamUnavailable


class SettingsInvalid(CallerError):
    """The settings file cannot be used; `problems` lists each place with its line."""

    code = "PS-1801"

    def __init__(self, message: str, *, hint: str | None = None, **fields: Any) -> None:
        super().__init__(message, hint=hint, **fields)


class PortTaken(CallerError):
    """Another program listens on the port that was asked for."""

    code = "PS-1802"


class SettingsExist(CallerError):
    """`penstock init` found a settings file and was not told to replace it."""

    code = "PS-1803"


class NotRunning(CallerError):
    """The command needs a running Penstock on this home."""

    code = "PS-1804"


class MissingExtra(CallerError):
    """The command needs an optional package that is not installed."""

    code = "PS-1805"


class HomeInUse(ConflictError):
    """Another `penstock up` owns this home."""

    code = "PS-3801"


class HomeUnusable(CallerError):
    """The home cannot be created or written."""

    code = "PS-1806"


class ChildFailed(UpstreamUnavailable):
    """A process of this installation did not become ready."""

    code = "PS-4801"


class WiringBroken(BugError):
    """A part that must be there at this point is not."""

    code = "PS-9801"


class JobFailed(UpstreamError):
    """The job that the command waited for failed or was cancelled; the text is the job's own."""

    code = "PS-4802"


class BackupFailed(UpstreamError):
    """A backup could not be written."""

    code = "PS-4760"


class BackupInvalid(CallerError):
    """A file is no backup, or not the one that was written."""

    code = "PS-1763"


class HomeNotEmpty(ConflictError):
    """A backup is restored only where nothing is."""

    code = "PS-3761"


class EvaluationFailed(CallerError):
    """The evaluation that the command waited for failed; the text is its own."""

    code = "PS-1350"
