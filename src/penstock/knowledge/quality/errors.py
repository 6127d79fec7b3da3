"""What can go wrong while retrieval is measured, compared or explained."""

from penstock.base.errors import CallerError, NotFound, PolicyError


class NoQuestions(CallerError):
    """There is no labelled question to ask, or none that names what should be found."""

    code = "PS-1540"


class UnknownMeasurement(NotFound):
    """No measurement of that id."""

    code = "PS-1541"


class UnknownComparison(NotFound):
    """No comparison of that id."""

    code = "PS-1542"


class UnknownGeneration(NotFound):
    """The knowledge base has no such track or generation."""

    code = "PS-1543"


class NoTraffic(CallerError):
    """What was asked is not at hand: the record of traffic cannot be read here."""

    code = "PS-1545"


class UnknownWatch(NotFound):
    """No answers of this app are judged."""

    code = "PS-1546"


class SwitchUnproven(PolicyError):
    """What was given as evidence is no passing comparison of these two generations."""

    code = "PS-2540"
    status = 403
