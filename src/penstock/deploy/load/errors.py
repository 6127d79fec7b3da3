"""What can be wrong with a load test (codes PS-x75x)."""

from penstock.base.errors import ConflictError, InvalidInput, NotFound, PolicyError, UpstreamError


class InvalidLoadTest(InvalidInput):
    """The specification contradicts itself or asks for what cannot be measured."""

    code = "PS-1752"


class UnknownLoadTest(NotFound):
    """There is no load test of this id."""

    code = "PS-1753"


class InvalidLimit(InvalidInput):
    """A limit such as `ttft.p95 <= 300ms` cannot be read."""

    code = "PS-1754"


class CostNotAgreed(PolicyError):
    """The calls may cost money, and nobody has agreed to it."""

    code = "PS-2752"
    status = 403


class LoadTestRunning(ConflictError):
    """The load test is queued or running."""

    code = "PS-3752"


class GeneratorFailed(UpstreamError):
    """The process that sends the calls ended without a result."""

    code = "PS-4752"


class NothingToAsk(InvalidInput):
    """A dataset or the recorded traffic gives no prompts or lengths."""

    code = "PS-1755"
