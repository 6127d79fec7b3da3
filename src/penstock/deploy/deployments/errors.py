"""What can be wrong with a deployment (codes PS-x733 to PS-x749)."""

from collections.abc import Sequence

from penstock.base.errors import CallerError, ConflictError, NotFound, PolicyError, UpstreamError, suggest


class UnknownDeployment(NotFound):
    """No deployment has this name."""

    code = "PS-1733"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no deployment {name!r}.",
            hint=suggest(name, known) or "`penstock deploy list` shows all.",
            deployment=name,
        )


class DeploymentInvalid(CallerError):
    """What was asked for cannot be deployed as it is."""

    code = "PS-1734"


class DeploymentTaken(ConflictError):
    """A deployment of this name serves another model."""

    code = "PS-3735"


class RouteTaken(ConflictError):
    """Somebody else keeps the route that a deployment is to answer under."""

    code = "PS-3736"


class ProofFailed(PolicyError):
    """The engine does not serve what was registered, so it takes no traffic."""

    code = "PS-2737"
    status = 422


class EngineDidNotStart(UpstreamError):
    """The engine of a deployment ended, or was not ready in time."""

    code = "PS-4738"


class NoWayBack(ConflictError):
    """A deployment has served no other version before."""

    code = "PS-3740"


class EngineNotInstalled(CallerError):
    """The program of an engine is not on this machine."""

    code = "PS-1741"
