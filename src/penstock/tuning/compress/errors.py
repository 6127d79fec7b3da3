"""What can be wrong with making a model smaller, measuring it, or asking a teacher (codes PS-x72x)."""

from penstock.base.errors import CallerError, NotFound, PolicyError, UpstreamError


class CannotQuantise(CallerError):
    """The version is no source for another precision: it is quantised already, an adapter, or has it."""

    code = "PS-1720"


class CannotShrink(CallerError):
    """No smaller model of this shape can be made from the version."""

    code = "PS-1721"


class CannotMeasure(CallerError):
    """The versions, texts or cases cannot be measured this way."""

    code = "PS-1722"


class UnknownMeasurement(NotFound):
    """Nothing was measured of this version, or not what was asked for."""

    code = "PS-1723"


class BadDistillation(CallerError):
    """A distillation cannot be done as it is written."""

    code = "PS-1724"


class TeacherUnusable(PolicyError):
    """The teacher gave too few replies that a student could be trained on."""

    code = "PS-2724"
    status = 422


class MeasuringFailed(UpstreamError):
    """The process that measures ended without figures."""

    code = "PS-4722"


class EngineDisagrees(UpstreamError):
    """The engine's own probabilities are not those that its states give: figures made from them would be wrong."""

    code = "PS-4723"
