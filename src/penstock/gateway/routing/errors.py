"""Refusals that come from how a route is set up or how its targets are."""

from penstock.base.errors import CallerError, InvalidInput, UpstreamTimeout, UpstreamUnavailable


class RetiredVersion(CallerError):
    """The sunset of a route or of a pinned version has come."""

    code = "PS-1630"
    status = 410


class WrongFallbacks(InvalidInput):
    """Fallbacks that name no route, lead back to where they began, or go on for too long."""

    code = "PS-1631"


class TargetsOpen(UpstreamUnavailable):
    """The circuit breakers of all targets are open: they failed just now and are left alone for a while."""

    code = "PS-4630"


class DeadlinePassed(UpstreamTimeout):
    """The whole call took as long as it may."""

    code = "PS-4631"
