"""What can be wrong with a model that somebody wants to have here (codes PS-x3xx)."""

from penstock.base.errors import CallerError, NotFound, PolicyError


class UnreadableModel(CallerError):
    """A model file is missing, damaged or not what it says it is."""

    code = "PS-1301"


class UnsupportedModel(CallerError):
    """The model is fine, but this converter or renderer does not know its architecture or tokenizer."""

    code = "PS-1302"


class UnknownModelSource(NotFound):
    """The source of a pull cannot be found."""

    code = "PS-1303"


class DigestMismatch(CallerError):
    """The bytes are not the ones that were named."""

    code = "PS-1304"


class TemplateRefused(CallerError):
    """The chat template refused these messages; its own words are in the message."""

    code = "PS-1305"


class HistoryRewritten(CallerError):
    """The template writes earlier turns otherwise than they were asked for, so the turns cannot share one sequence."""

    code = "PS-1570"


class PrefixBroken(CallerError):
    """What the template writes for a reply does not begin with what the model is given when it replies."""

    code = "PS-1571"


class RowNotUnderstood(CallerError):
    """A row of a dataset that cannot be trained on as it is."""

    code = "PS-1572"


class PreflightRefused(PolicyError):
    """The preflight found what must not be trained on."""

    code = "PS-2570"
    status = 422


class ParityFailed(PolicyError):
    """The converted model does not answer as its source does, so it is not registered."""

    code = "PS-2301"
    status = 422


class NotTrainable(CallerError):
    """This version cannot be a base of training or conversion: its weights were rounded, or it is no decoder."""

    code = "PS-1306"


class WrongBase(CallerError):
    """An adapter belongs to another base than the one it was put on."""

    code = "PS-1307"


class PickleRefused(PolicyError):
    """The weights are a pickle, which is a program; only safetensors and GGUF are read."""

    code = "PS-2704"
    status = 422


class LicenseConflict(PolicyError):
    """The licence asked for grants what the base's licence does not."""

    code = "PS-2705"
    status = 422


class VersionUnproven(PolicyError):
    """A version's files, renderer or answers are not what was registered."""

    code = "PS-2706"
    status = 422
