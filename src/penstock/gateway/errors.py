"""Refusals and failures of the gateway. `openai_code` is what official clients find in `error.code`."""

from collections.abc import Iterable
from typing import ClassVar

from penstock.base.errors import (
    CallerError,
    ConflictError,
    Forbidden,
    InvalidInput,
    NotFound,
    PolicyError,
    TooLarge,
    Unauthenticated,
    UpstreamError,
    UpstreamUnavailable,
    suggest,
)


class MissingKey(Unauthenticated):
    """The call carries no key."""

    code = "PS-1601"

    def __init__(self) -> None:
        super().__init__(
            "You did not send an API key.",
            hint="Send it in the header `Authorization: Bearer ps-…`; `penstock key create` makes one.",
        )


class WrongKey(Unauthenticated):
    """The key is not known (or no longer)."""

    code = "PS-1602"

    def __init__(self) -> None:
        super().__init__(
            "Incorrect API key provided.",
            hint="`penstock key list` shows which keys are valid; `penstock key create` makes one.",
        )


class KeyExpired(Unauthenticated):
    """The key's time is over."""

    code = "PS-1688"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The key {name!r} has expired.",
            hint="`penstock key edit ID --expires 90d` lets it work again; `penstock key create` makes another.",
        )


class KeyLacksScope(Forbidden):
    """The key may not use the gateway, or not this route."""

    code = "PS-1603"


class UnknownModel(NotFound):
    """No route has the name in `model` (or this key may not call it)."""

    code = "PS-1604"
    kind = "invalid_request_error"

    def __init__(self, model: str, known: Iterable[str], *, are_hidden: bool = False) -> None:
        """`known` are the models that the caller may see; `are_hidden` says that there are others."""
        names = list(known)
        base = model.removeprefix("knowledge:") if model.startswith("knowledge:") else None
        if base is not None:
            names = [name.removeprefix("knowledge:") for name in names if name.startswith("knowledge:")]
        nothing = "This key may call none of the routes." if are_hidden else "No routes are configured yet."
        near = suggest(model if base is None else base, names)
        first = [name for name in names if near and repr(name) in near]
        listed = (first + [name for name in names if name not in first])[:20]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        hint = f"{near} " if near else ""
        what = "models" if base is None else "knowledge bases"
        hint += f"Known {what}: {', '.join(listed)}{more}." if names else nothing
        super().__init__(
            f"The model {model[:200]!r} does not exist."
            if base is None
            else f"There is no knowledge base {base[:200]!r}.",
            hint=hint,
            param="model",
            openai_code="model_not_found",
        )


class WrongKind(InvalidInput):
    """The route does not serve this kind of call."""

    code = "PS-1605"


class UnknownPath(NotFound):
    """No such endpoint."""

    code = "PS-1606"
    kind = "invalid_request_error"


class WrongMethod(CallerError):
    """The endpoint exists, but not for this HTTP method."""

    code = "PS-1607"
    status = 405


class BodyTooLarge(TooLarge):
    """The request body is over `max_body_bytes`."""

    code = "PS-1608"


class BodyTooSlow(CallerError):
    """The request body did not arrive in time."""

    code = "PS-1609"
    status = 408

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"The request body did not arrive within {limit_s:g} s.", hint="Send a smaller one, or try again."
        )


class LimitReached(PolicyError):
    """A limit on requests or tokens is used up; the text says which, what is used, and when it resets."""

    code = "PS-2601"
    status = 429
    kind = "rate_limit_error"
    title: ClassVar[str] = "Rate limit"
    openai_code: ClassVar[str] = "rate_limit_exceeded"


class BudgetReached(LimitReached):
    """A limit on money is used up; the text says which, what is spent, and when it resets."""

    code = "PS-2641"
    kind = "insufficient_quota"
    title = "Budget"
    openai_code = "insufficient_quota"


class TooBusy(PolicyError):
    """As many calls as allowed are being served."""

    code = "PS-2602"
    status = 503
    kind = "server_error"


class NotReady(UpstreamUnavailable):
    """The gateway has no snapshot yet."""

    code = "PS-4601"

    def __init__(self) -> None:
        super().__init__(
            "This gateway has no configuration yet.",
            hint="It appears once the control process has written a snapshot; `penstock up` starts both.",
        )


class ProviderKeyMissing(UpstreamUnavailable):
    """The environment variable that should hold the provider's key is not set."""

    code = "PS-4602"


class ProviderRefusedKey(UpstreamError):
    """The provider does not accept our key: the operator's matter, not the caller's."""

    code = "PS-4603"


class GarbledReply(UpstreamError):
    """The provider's reply cannot be used: not JSON, an HTML page, a redirect."""

    code = "PS-4604"


class BrokenStream(UpstreamError):
    """The provider ended a stream before the reply was complete."""

    code = "PS-4605"


class CannotSay(InvalidInput):
    """The request says something that the target's dialect cannot, and the route refuses to leave it out."""

    code = "PS-1620"


class NotTranslatable(InvalidInput):
    """The operation exists only in the client's dialect, and the target speaks another one."""

    code = "PS-1621"


class StateElsewhere(InvalidInput):
    """The request continues a reply that only another provider keeps."""

    code = "PS-1622"


class WrongForm(InvalidInput):
    """A multipart body that cannot be taken apart, or that says `model` not once."""

    code = "PS-1623"


class UnknownFile(NotFound):
    """The project of this key has no such file, or no longer."""

    code = "PS-1624"
    kind = "invalid_request_error"


class UnknownBatch(NotFound):
    """The project of this key has no such batch."""

    code = "PS-1625"
    kind = "invalid_request_error"


class FileTooLarge(BodyTooLarge):
    """The file is over `max_file_bytes`."""

    code = "PS-1626"


class FilesFull(PolicyError):
    """The files of the project take as much as `max_project_file_bytes` allows."""

    code = "PS-2603"
    status = 413
    kind = "invalid_request_error"


class BatchOver(ConflictError):
    """The batch has ended, so it cannot be cancelled."""

    code = "PS-3602"
    kind = "invalid_request_error"


class DiskRefused(UpstreamUnavailable):
    """The disk took the file or the batch not: it is full, or not writable."""

    code = "PS-4626"


class EmptyReply(UpstreamError):
    """The provider answered with success and said nothing."""

    code = "PS-4620"


class ErrorInSuccess(UpstreamError):
    """The provider answered HTTP 200 with an error inside, before any content."""

    code = "PS-4621"


class Overlong(UpstreamError):
    """The provider sent more than the gateway takes before any content."""

    code = "PS-4622"


class ShutDown(UpstreamUnavailable):
    """The gateway was stopped while it relayed a stream."""

    code = "PS-4623"

    def __init__(self) -> None:
        super().__init__(
            "The gateway was stopped before the reply was complete.", hint="Send the request again."
        )


class Filtered(UpstreamError):
    """The provider's content filter stopped the reply before its first word."""

    code = "PS-4624"


class ForeignOrigin(PolicyError):
    """A page of another site asks through somebody's browser."""

    code = "PS-2520"
    status = 403


class EndlessCall(InvalidInput):
    """Apps or prompts ask each other in a circle, or one behind the other too far."""

    code = "PS-1525"
