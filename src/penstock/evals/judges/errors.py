"""What can be wrong with the asking for a judge, a label or a calibration. What a judge answers badly is a score with a reason."""

from penstock.base.errors import InvalidInput, NotFound, PolicyError


class UnknownItem(NotFound):
    """No output, trace or labelled text has this id."""

    code = "PS-1310"


class LabelInvalid(InvalidInput):
    """A label cannot be kept: no value, no subject, or a row of a file that cannot be read."""

    code = "PS-1311"


class UnknownCalibration(NotFound):
    """The judge was never held against people's labels."""

    code = "PS-1312"


class NotComparable(InvalidInput):
    """Two evaluations cannot be judged side by side: they share no case."""

    code = "PS-1313"


class UnknownJudge(NotFound):
    """There is no judge of this name."""

    code = "PS-1314"


class JudgeUnusable(InvalidInput):
    """A judge cannot be asked as it is written, such as G-Eval without steps."""

    code = "PS-1315"


class TooFewLabels(PolicyError):
    """There are not enough labels to say how good a judge is."""

    code = "PS-2310"
    status = 422
