"""What can be wrong with recipes, runs and the runtime that trains (codes PS-x58x)."""

from collections.abc import Sequence
from typing import Any

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError, UpstreamError


class NoRuntime(CallerError):
    """Training needs an environment of its own, and there is none here."""

    code = "PS-1580"


class RecipeInvalid(CallerError):
    """The recipe cannot be used; `problems` lists each place, with its line where it came from a file."""

    code = "PS-1581"


class UnknownRun(NotFound):
    """There is no run of that id or name."""

    code = "PS-1582"


class RunFailed(CallerError):
    """The run has failed; its job is not tried again by itself. The text is the run's own."""

    code = "PS-1583"


class RunRefused(PolicyError):
    """The preflight, or a bound of the recipe's budget, says no before anything is trained."""

    code = "PS-2580"
    status = 422


class RunActive(ConflictError):
    """The run is under way, so it can be neither resumed nor deleted."""

    code = "PS-3580"


class RunEnded(ConflictError):
    """The run is done, so there is nothing to stop or to resume."""

    code = "PS-3581"


class RunChanged(ConflictError):
    """What the run was frozen to is not what is here now; going on would train on something else."""

    code = "PS-3582"


class ProgramChanged(RunChanged):
    """The training program of one's own is not the one that the run was begun with."""

    code = "PS-3600"


class TrainerFailed(UpstreamError):
    """The trainer's process ended without the model; `fault` says why, where that is known."""

    code = "PS-4580"

    def __init__(self, message: str, *, fault: str, hint: str | None = None, **fields: Any) -> None:
        super().__init__(message, hint=hint, fault=fault, **fields)
        self.fault = fault


class RuntimeBroken(UpstreamError):
    """The training environment is there but cannot be used."""

    code = "PS-4581"


class InstallFailed(UpstreamError):
    """The training environment could not be made."""

    code = "PS-4582"


def name_all(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
