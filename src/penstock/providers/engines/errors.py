"""What an engine refuses and how it fails (codes PS-x45x)."""

from typing import ClassVar

from penstock.base.errors import CallerError, NotFound, PolicyError, UpstreamError


class ContextOverflow(CallerError):
    """Prompt and reply do not fit into the model's context; nothing was cut."""

    code = "PS-1450"
    openai_code: ClassVar[str] = "context_length_exceeded"


class UnsupportedParameter(CallerError):
    """The request asks for something this engine does not do."""

    code = "PS-1451"
    openai_code: ClassVar[str] = "unsupported_parameter"


class UnknownModel(NotFound):
    """No such model is hosted here."""

    code = "PS-1452"
    openai_code: ClassVar[str] = "model_not_found"


class EngineBusy(PolicyError):
    """More calls wait for this model than may wait."""

    code = "PS-2450"
    status = 503
    kind = "overloaded_error"


class EngineFailed(UpstreamError):
    """The engine could not start or broke while answering."""

    code = "PS-4450"
    kind = "engine_error"
