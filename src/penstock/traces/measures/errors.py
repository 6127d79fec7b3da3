"""What can be wrong with dashboards (codes PS-x97x)."""

from collections.abc import Iterable

from penstock.base.errors import CallerError, ConflictError, NotFound, suggest


class UnknownDashboard(NotFound):
    """No dashboard has this name."""

    code = "PS-1971"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(
            f"There is no dashboard {name[:80]!r}.",
            hint=suggest(name, names) or f"Known: {', '.join(names)}.",
            name=name,
        )


class DashboardInvalid(CallerError):
    """A panel asks what cannot be measured; the text names the panel."""

    code = "PS-1972"


class BuiltInDashboard(CallerError):
    """A built-in dashboard is neither changed nor deleted."""

    code = "PS-1973"
    status = 409

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The dashboard {name!r} is built in.",
            hint=f"Save a copy under another name: penstock dashboard export {name}",
            name=name,
        )


class DashboardChanged(ConflictError):
    """Somebody else changed the dashboard since it was read."""

    code = "PS-3971"

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"The dashboard {name!r} is at version {version} by now.",
            hint="Read it again, and make the change anew.",
            name=name,
            version=version,
        )
