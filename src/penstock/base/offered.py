"""What a process may lack: a control without a worker trains nothing, one without engines deploys nothing."""

from typing import TypeVar

from penstock.base.errors import NotFound

Part = TypeVar("Part")


def require(part: Part | None, missing: str, *, hint: str | None = "Start Penstock: penstock up.") -> Part:
    """Return `part`; raise `NotFound` that says `missing` where this process was joined without it."""
    if part is None:
        raise NotFound(missing, hint=hint)
    return part
