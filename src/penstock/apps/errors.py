"""What can go wrong between a question and an app's answer."""

from penstock.base.errors import InvalidInput, NotFound, UpstreamError, UpstreamTimeout


class UnknownApp(NotFound):
    """No app of that name is declared here."""

    code = "PS-1681"


class UnsupportedRequest(InvalidInput):
    """The request asks for something that apps do not do."""

    code = "PS-1682"


class StepFailed(UpstreamError):
    """A step of the app failed; the message names the step and the reason."""

    code = "PS-4681"


class StepTimeout(UpstreamTimeout):
    """A step of the app did not finish within its own limit."""

    code = "PS-4682"
