"""What can go wrong between a question and an app's answer."""

from collections.abc import Sequence
from typing import Any

from penstock.base.errors import InvalidInput, NotFound, PolicyError, UpstreamError, UpstreamTimeout


class UnknownApp(NotFound):
    """No app of that name is declared here."""

    code = "PS-1681"


class UnsupportedRequest(InvalidInput):
    """The request asks for something that apps do not do."""

    code = "PS-1682"


class StepFailed(UpstreamError):
    """A step of the app failed; the message names the step and the reason."""

    code = "PS-4681"


class CallerOverLimit(PolicyError):
    """The gateway refused the call that the app made for good: a limit or budget of the caller, or apps that ask each other in a
    circle. The text is the refusal's own."""

    code = "PS-2681"

    def __init__(self, message: str, *, refusal: str, **fields: Any) -> None:
        """`refusal` is what the gateway said, for the gateway."""
        super().__init__(message, **fields)
        self.refusal = refusal


class StepTimeout(UpstreamTimeout):
    """A step of the app did not finish within its own limit."""

    code = "PS-4682"


class UnknownStore(NotFound):
    """No knowledge base or document of that name is there for this key."""

    code = "PS-1520"


class WrongDeclaration(InvalidInput):
    """A file declares no app that could run; everything that is wrong with it is told at once."""

    code = "PS-1521"

    def __init__(self, problems: Sequence[str], *, file: str) -> None:
        """`problems` are clauses without a full stop."""
        super().__init__(f"{file} declares no app: {'; '.join(problems)}.", problems=list(problems))


class NoSuchApp(NotFound):
    """No app of that name is registered, or it was deleted."""

    code = "PS-1522"


class HostRefused(UpstreamError):
    """What an agent's tool asked of the gateway was refused or failed; the text is the gateway's own."""

    code = "PS-4521"

    def __str__(self) -> str:
        """Return the text with one code: the gateway's where it has one."""
        return self.message if self.message.endswith("]") and "[PS-" in self.message else super().__str__()


class NoMcp(UpstreamError):
    """The MCP server needs a package that is not installed."""

    code = "PS-4522"
