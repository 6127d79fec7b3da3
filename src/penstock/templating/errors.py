"""What can be wrong with a prompt: its templates, what it declares, and the values it is given."""

from collections.abc import Mapping, Sequence

from penstock.base.errors import InvalidInput, TooLarge


class InvalidTemplate(InvalidInput):
    """A template cannot be read, or uses what prompts may not; the message shows line and place."""

    code = "PS-1240"


class InvalidPrompt(InvalidInput):
    """What a prompt declares does not fit together; the message names everything that does not."""

    code = "PS-1241"

    def __init__(self, problems: Sequence[str]) -> None:
        more = f"{len(problems)} problems: " if len(problems) > 1 else ""
        super().__init__(f"The prompt cannot be used. {more}{' '.join(problems)}", problems=list(problems))


class WrongVariables(InvalidInput):
    """Variables are missing, unknown or of a wrong type; all of them are named at once."""

    code = "PS-1242"

    def __init__(self, problems: Mapping[str, str], *, hint: str | None = None) -> None:
        super().__init__(
            "The prompt's variables are wrong: " + " ".join(f"{text}" for text in problems.values()),
            hint=hint,
            param="prompt_variables",
            variables=dict(problems),
        )


class RenderFailed(InvalidInput):
    """A template met a value that it cannot handle, such as an attribute that is not there."""

    code = "PS-1243"


class TooMuchWork(TooLarge):
    """A template made more text, steps or numbers than rendering allows."""

    code = "PS-1244"
    status = 400
