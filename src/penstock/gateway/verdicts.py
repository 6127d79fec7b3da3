"""Judges what went wrong with one attempt: whose fault it is, whether another target may do better, what the client gets.

Pure: statuses, headers and bodies in, an `AttemptFailed` out.
"""

import math
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

import msgspec

from penstock.base.errors import PenstockError, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from penstock.base.logs import redact
from penstock.dialects.bedrock.dialect import BEDROCK
from penstock.dialects.error_kinds import kind_of_status
from penstock.dialects.openai.errors import has_error_shape
from penstock.dialects.registry import DIALECTS
from penstock.gateway.answers import Answer, AttemptFailed
from penstock.gateway.callers import read_refusal
from penstock.gateway.calls import Call
from penstock.gateway.errors import ErrorInSuccess, GarbledReply, ProviderRefusedKey
from penstock.gateway.table import ReadyTarget, header_text
from penstock.providers.errors import ConnectFailed, ConnectTimeout
from penstock.providers.http1 import Header
from penstock.spec.hub import ErrorKind, HubError
from penstock.spec.routes import FaultKind

NEVER_S = math.inf
"""As `retry_after_s`: leave this target alone for the rest of the call."""

_FAULTS: dict[ErrorKind, FaultKind] = {
    "authentication": "server-error",
    "permission": "server-error",
    "rate_limit": "rate-limit",
    "quota": "rate-limit",
    "context_length": "context-length",
    "content_filter": "content-filter",
    "overloaded": "server-error",
    "server_error": "server-error",
    "timeout": "timeout",
}
_OPENAI_SHAPED = ("openai", "responses")
"""Servers that speak these often tell errors in shapes of their own."""
_HOPELESS: frozenset[ErrorKind] = frozenset({"authentication", "permission", "quota"})

_LONGEST_S = 86400.0 * 31
_MAX_DIGITS = 15
_MIN_TOKEN_BYTES = 12


class StatusError(UpstreamUnavailable):
    """A refusal of the provider in a shape of its own, passed on with its status."""

    code = "PS-4606"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, upstream_status=status)
        self.status = status  # type: ignore[misc]  # the class says what is usual, the instance what was sent


def fault_of(error: PenstockError) -> FaultKind | None:
    """Return the kind of fault that an error of the way to the provider is; None if it is the caller's."""
    if isinstance(error, ConnectFailed | ConnectTimeout):
        return "connect"
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "server-error" if isinstance(error, UpstreamError) else None


def judge_status(
    call: Call, target: ReadyTarget, status: int, headers: Sequence[Header], body: bytes, *, now_s: float
) -> AttemptFailed:
    """Return what a reply of status 400 or more means for the call."""
    if target.is_app and (refusal := read_refusal(headers)) is not None:
        return AttemptFailed(
            refusal, fault=None, was_sent=True
        )  # a limit of this caller, nothing of the app's
    provider = target.provider
    dialect = call.dialect if call.dialect in target.speaks else provider.dialect
    found = DIALECTS[dialect].read_error(status, body)
    told = found
    if told is None:
        text = _detail(body)
        if text is not None:
            text = f"The provider {provider.name!r} answered HTTP {status}: {text}"
            told = HubError(kind=kind_of_status(status), message=text, status=status)
    if status == 401 or (told is not None and told.kind == "authentication"):
        return _refused_key(target, status)
    if told is None:
        garbled = garbled_reply(target, status, _content_type(headers), len(body))
        kind = kind_of_status(status)
        return AttemptFailed(
            garbled,
            fault=_FAULTS.get(kind, "server-error"),
            retry_after_s=read_retry_after(headers, now_s),
            was_sent=True,
        )
    error = StatusError(redact(told.message[:500]), status=status)
    answer: Answer | None = None
    if found is not None:
        is_same = dialect == call.dialect and (dialect not in _OPENAI_SHAPED or has_error_shape(body))
        answer = Answer(
            target,
            status=status,
            headers=[*headers, *BEDROCK.error_headers(found)]
            if call.dialect == "bedrock" and not is_same
            else headers,
            body=body if is_same else DIALECTS[call.dialect].write_error(found),
        )
    wait_s = NEVER_S if told.kind in _HOPELESS else read_retry_after(headers, now_s, told.retry_after_s)
    return AttemptFailed(
        error, fault=_FAULTS.get(told.kind), retry_after_s=wait_s, answer=answer, was_sent=True
    )


def _refused_key(target: ReadyTarget, status: int) -> AttemptFailed:
    """Return the failure of a key that is ours, not the client's, whatever status the provider says it with."""
    provider = target.provider
    hint: str | None = None
    if provider.secret is not None:
        hint = f"Check the secret {provider.secret!r}."
    elif provider.api_key_env is not None:
        hint = f"Check the environment variable {provider.api_key_env}."
    refused = ProviderRefusedKey(
        f"The provider {provider.name!r} does not accept the key it was sent (HTTP {status}).",
        hint=hint,
        upstream_status=status,
    )
    return AttemptFailed(refused, fault="server-error", retry_after_s=NEVER_S, was_sent=True)


def mask_signature(failed: AttemptFailed, lines: bytes) -> None:
    """Put stars for tokens and signatures of one request, which are in `lines` of its head, wherever it quotes them."""
    for line in lines.split(b"\r\n"):
        value = line.partition(b": ")[2].removeprefix(b"Bearer ")
        if len(value) < _MIN_TOKEN_BYTES:
            continue
        if failed.answer is not None:
            failed.answer.body = failed.answer.body.replace(value, b"*" * len(value))
        text = value.decode("latin-1")
        failed.error.message = failed.error.message.replace(text, "*" * len(text))


def judge_error(target: ReadyTarget, told: HubError) -> AttemptFailed:
    """Return what an error that came with HTTP 200, before any content, means for the call."""
    error = ErrorInSuccess(
        f"The provider {target.provider.name!r} answered HTTP 200 with an error: {told.message[:500]}",
        upstream_code=told.code,
    )
    fault = _FAULTS.get(told.kind, "server-error" if told.kind == "unknown" else None)
    if fault is None:
        error.status = told.status if 400 <= told.status < 500 else 400  # type: ignore[misc]  # the caller's, as told
    return AttemptFailed(
        error, fault=fault, retry_after_s=NEVER_S if told.kind in _HOPELESS else None, was_sent=True
    )


def garbled_reply(target: ReadyTarget, status: int, content_type: bytes, n_bytes: int) -> GarbledReply:
    """Return the error for a reply that is nothing a provider should send."""
    kind = header_text(content_type.decode("latin-1")).decode() or "no content type"
    return GarbledReply(
        f"The provider {target.provider.name!r} answered HTTP {status} with something that is not a JSON object "
        f"({kind[:80]}, {n_bytes} bytes).",
        hint="Check the provider's base_url, or whether a proxy stands in between.",
        upstream_status=status,
    )


def read_retry_after(headers: Sequence[Header], now_s: float, in_body_s: float | None = None) -> float | None:
    """Return the seconds a provider asks to be left alone, None if it does not say (RFC 9110 §10.2.3)."""
    asked: float | None = None
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"retry-after-ms" and text.isascii() and text.isdigit():
            return min(int(text[:_MAX_DIGITS]) / 1000, _LONGEST_S)
        if name == b"retry-after":
            asked = _seconds_until(text, now_s)
    return asked if asked is not None else in_body_s


def _seconds_until(text: str, now_s: float) -> float | None:
    try:
        return min(max(0.0, float(text)), _LONGEST_S)
    except ValueError:
        pass
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now_s), _LONGEST_S)
    except (ValueError, TypeError, OverflowError):
        return None


def _content_type(headers: Sequence[Header]) -> bytes:
    return next((value for name, value in headers if name == b"content-type"), b"")


def _detail(body: bytes) -> str | None:
    """Return the text in which servers that keep to no dialect's shape say what is wrong."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    for name in ("message", "detail", "error"):
        text = found.get(name)
        if text:
            return (text if isinstance(text, str) else str(text))[:500]
    return None
