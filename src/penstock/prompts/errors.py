"""What can be wrong with a prompt beside its templates: PS-x245 and on."""

from penstock.base.errors import CallerError, InvalidInput, NotFound


class NoModel(InvalidInput):
    """Neither the prompt nor the request says which model is to answer."""

    code = "PS-1245"


class PromptLoop(InvalidInput):
    """A prompt is answered by a model that is, in the end, the prompt itself."""

    code = "PS-1246"


class BadPromptFile(InvalidInput):
    """A file holds no prompt that can be read; the message shows line and reason."""

    code = "PS-1247"


class BadExamples(InvalidInput):
    """The rows that a prompt's examples are picked from cannot be had or do not fit."""

    code = "PS-1248"


class UnknownPrompt(NotFound):
    """No prompt of that name is registered."""

    code = "PS-1249"


class PromptsDiffer(CallerError):
    """Files and registry do not hold the same prompts."""

    code = "PS-1250"
