"""Errors of evaluations and experiments."""

from penstock.base.errors import (
    CallerError,
    ConflictError,
    InvalidInput,
    NotFound,
    PolicyError,
    UpstreamError,
)


class UnknownEvaluation(NotFound):
    """No evaluation has this id."""

    code = "PS-1330"


class UnknownExperiment(NotFound):
    """No experiment has this id or name."""

    code = "PS-1331"


class EvaluationInvalid(InvalidInput):
    """An evaluation's specification cannot be run as it is written."""

    code = "PS-1332"


class NoCases(InvalidInput):
    """Nothing is left to ask: the dataset is empty, or no row matches."""

    code = "PS-1333"


class CasesInvalid(InvalidInput):
    """The cases cannot be asked: two have the same id, or one is no case."""

    code = "PS-1334"


class PreflightFailed(CallerError):
    """The one case that was tried before the rest did not work; nothing else was spent."""

    code = "PS-1335"


class LocalOnly(InvalidInput):
    """User code and HTTP targets run only in the process of the person who asked, never in control."""

    code = "PS-1336"


class UnknownScore(NotFound):
    """The evaluation has no score of this name."""

    code = "PS-1337"


class UnknownCase(NotFound):
    """The evaluation has no case of this id."""

    code = "PS-1338"


class ExperimentInvalid(InvalidInput):
    """A grid cannot be run as it is written."""

    code = "PS-1339"


class OutputsInvalid(InvalidInput):
    """Outputs or scores that were sent or read from a file do not fit the evaluation."""

    code = "PS-1340"


class BudgetTooSmall(PolicyError):
    """The budget does not pay for the first call."""

    code = "PS-2330"


class EvaluationRunning(ConflictError):
    """The evaluation is under way; what was asked for needs it to be at rest."""

    code = "PS-3330"


class TargetUnusable(UpstreamError):
    """The target answered something that cannot be read as an answer."""

    code = "PS-4330"
