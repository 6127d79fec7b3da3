"""Errors of gates."""

from penstock.base.errors import ConflictError, InvalidInput, NotFound, PolicyError


class GateInvalid(InvalidInput):
    """A gate file cannot be read as one."""

    code = "PS-1360"


class RuleInvalid(InvalidInput):
    """A rule cannot be read; the message points at the place."""

    code = "PS-1361"


class UnknownGateResult(NotFound):
    """No verdict of a gate has this id."""

    code = "PS-1362"


class EvidenceRefused(PolicyError):
    """What was given as evidence is no passing verdict of a gate over this very version."""

    code = "PS-2360"
    status = 403


class GateBusy(ConflictError):
    """An evaluation that the gate needs is still under way."""

    code = "PS-3360"
