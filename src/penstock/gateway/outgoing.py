"""Writes the request that a target gets: the client's own bytes where both speak the same dialect, else through the hub.

Pure but for signing, which `exchange.py` asks for. What cannot be said in the target's dialect is named in `dropped`,
or refused, as the route chooses.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal

import msgspec

from penstock.dialects.anthropic.foreign import has_foreign_marks
from penstock.dialects.gemini.dialect import GEMINI_ARRAY
from penstock.dialects.openai.fitting import fit_body
from penstock.dialects.openai.splice import ask_for_usage, replace_model
from penstock.dialects.port import Dialect
from penstock.dialects.registry import DIALECTS
from penstock.gateway.callers import caller_line, principals_line, routes_line
from penstock.gateway.calls import Call
from penstock.gateway.errors import CannotSay, NotTranslatable, StateElsewhere
from penstock.gateway.http import Header
from penstock.gateway.multipart import replace_form_model
from penstock.gateway.table import ReadyTarget, header_text
from penstock.gateway.vectors import is_other_shape, write_vectors
from penstock.spec.hub import HubRequest, Opaque
from penstock.spec.routes import DialectName

Reading = Literal["same", "through", "hub", "vectors"]
"""How the reply is read: bytes that a scanner understands, bytes that nobody looks into, or by a decoder."""

_JSON_LINE = b"content-type: application/json\r\n"
IDEMPOTENCY_KEY = b"idempotency-key"
_MAX_IDEMPOTENCY_KEY_BYTES = 255
"""What OpenAI takes."""
_STATEFUL = ("previous_response_id", "conversation")
_REFERENCE = "item_reference"
PASSED_HEADERS: Mapping[DialectName, tuple[bytes, ...]] = {
    "openai": (b"openai-beta", IDEMPOTENCY_KEY),
    "responses": (b"openai-beta", IDEMPOTENCY_KEY),
    "anthropic": (b"anthropic-version", b"anthropic-beta", IDEMPOTENCY_KEY),
    "gemini": (),
    "bedrock": (),
    "cohere": (),
}
"""Headers of a client that a provider of the same dialect gets. Everything else stays here: keys, cookies, addresses."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One request to one target, but for headers that sign it."""

    path: str
    head: bytes
    """Up to and without the blank line."""
    body: bytes
    reading: Reading
    dropped: tuple[str, ...] = ()


def write_outgoing(call: Call, target: ReadyTarget) -> Outgoing:
    """Return the request for `target`.

    Raises `InvalidInput` where the call cannot be made to this target: it says what the dialect cannot and the route
    refuses that, or the operation cannot be translated.
    """
    endpoint = call.endpoint
    if endpoint.dialect in target.speaks and not (
        # signatures of other providers that its own provider would refuse: only the hub takes them out
        (endpoint.dialect == "anthropic" and endpoint.operation == "chat" and has_foreign_marks(call.body))
        or (endpoint.operation == "rerank" and is_other_shape(call, target))
    ):
        return _same(call, target)
    if endpoint.operation == "chat":
        return _translated(call, target)
    dialect = target.provider.dialect
    written = write_vectors(call, target)
    if written is not None:
        return _outgoing(call, target, written.path, written.body, "vectors", dropped=written.dropped)
    raise NotTranslatable(
        f"{endpoint.operation.replace('_', ' ').capitalize()} in the dialect {endpoint.dialect!r} cannot be translated "
        f"for the provider {target.provider.name!r}, which speaks {dialect!r}.",
        hint=f"Point the route to a provider that speaks {endpoint.dialect!r}.",
        param="model",
    )


def own_idempotency_key(key_id: str, value: bytes) -> bytes:
    """Return a client's idempotency key as providers get it: callers share the account there, so each has its own space."""
    prefix = blake2b(key_id.encode(), digest_size=8).hexdigest().encode()
    if len(prefix) + 1 + len(value) > _MAX_IDEMPOTENCY_KEY_BYTES:
        value = blake2b(value, digest_size=32).hexdigest().encode()
    return b"%b-%b" % (prefix, value)


def client_dialect(call: Call) -> Dialect:
    """Return what writes to the client: Gemini's streams are one JSON array unless the client asks for events."""
    if call.dialect == "gemini" and call.endpoint.stream and b"alt=sse" not in call.query:
        return GEMINI_ARRAY
    return DIALECTS[call.dialect]


def read_hub_request(call: Call) -> HubRequest:
    """Return the request decoded; the work is done once for all attempts."""
    if call.hub is None:
        endpoint = call.endpoint
        call.hub = DIALECTS[endpoint.dialect].read_request(
            call.body, model=endpoint.model, stream=endpoint.stream
        )
    return call.hub


def _same(call: Call, target: ReadyTarget) -> Outgoing:
    envelope, endpoint, body = call.envelope, call.endpoint, call.body
    assert envelope is not None
    if endpoint.model is None and target.model != envelope.model:
        if endpoint.is_form:
            body = replace_form_model(body, call.content_type or b"", target.model)
        elif endpoint.dialect == "openai":
            body = replace_model(body, target.model)
        else:
            body = DIALECTS[endpoint.dialect].replace_model(body, target.model)
    reading: Reading = "same"
    dropped: tuple[str, ...] = ()
    if endpoint.dialect == "openai":
        if target.quirks and endpoint.operation == "chat":
            body, dropped = fit_body(body, target.quirks)
        if endpoint.operation not in ("chat", "text_completion", "embeddings"):
            reading = "through"
        elif envelope.stream and not envelope.wants_usage and target.provider.stream_usage:
            body = ask_for_usage(body, envelope)
    path = endpoint.path if endpoint.model is None else endpoint.upstream_path(target.model)
    if call.query and endpoint.dialect == "gemini":
        path = f"{path}?{call.query.decode('latin-1')}"
    return _outgoing(call, target, path, body, reading, passed=call.passed_headers, dropped=dropped)


def _translated(call: Call, target: ReadyTarget) -> Outgoing:
    request = read_hub_request(call)
    name = _kept_elsewhere(request)
    if name is not None:
        raise StateElsewhere(
            f"`{name}` names something that only a provider of the Responses API keeps, and "
            f"{target.provider.name!r} speaks {target.provider.dialect!r}.",
            hint="Send the whole conversation in `input`.",
            param=name,
        )
    dialect = DIALECTS[call.dialect if call.dialect in target.speaks else target.provider.dialect]
    written = dialect.write_request(request, model=target.model, quirks=target.quirks)
    return _outgoing(
        call, target, written.path, written.body, "hub", passed=written.headers, dropped=written.dropped
    )


def _kept_elsewhere(request: HubRequest) -> str | None:
    """Return the member that refers to a part of the conversation that the request does not hold; None without one."""
    if request.source != "responses":
        return None
    for name in _STATEFUL:
        if request.extra.get(name) is not None:
            return name
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Opaque) and isinstance(part.raw, dict) and part.raw.get("type") == _REFERENCE:
                return _REFERENCE
    return None


def _outgoing(
    call: Call,
    target: ReadyTarget,
    path: str,
    body: bytes,
    reading: Reading,
    *,
    passed: tuple[Header, ...] = (),
    dropped: tuple[str, ...] = (),
) -> Outgoing:
    if dropped and call.route is not None and call.route.route.on_loss == "refuse":
        raise CannotSay(
            f"The provider {target.provider.name!r} speaks {target.provider.dialect!r}, which has no way to say: "
            f"{', '.join(dropped[:20])}.",
            hint="Leave these out, or let the operator set `on_loss` of the route.",
            param=dropped[0],
        )
    lines = [target.head(path)]
    if passed:
        fixed = {name.lower().encode() for name in target.provider.headers}
        lines += [b"%b: %b\r\n" % header for header in passed if header[0] not in fixed]
    provider = target.provider
    if provider.dialect == "anthropic" and b"anthropic-version:" not in b"".join(lines):
        lines.append(b"anthropic-version: 2023-06-01\r\n")
    if provider.local:
        lines.append(b"traceparent: 00-%b-%b-01\r\n" % (call.trace_id.encode(), call.span_id.encode()))
        if call.session:
            lines.append(b"x-penstock-session: " + header_text(call.session) + b"\r\n")
        if call.user:
            lines.append(b"x-penstock-user: " + header_text(call.user) + b"\r\n")
        if target.is_app:
            lines.append(caller_line(call, target.model))
            lines.append(principals_line(call))
            if call.key is not None:
                lines.append(routes_line(call.key))
    if call.endpoint.is_form and call.content_type is not None:
        lines.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (call.content_type, len(body)))
    else:
        lines.append(b"%bcontent-length: %d\r\n" % (_JSON_LINE, len(body)))
    return Outgoing(path=path, head=b"".join(lines), body=body, reading=reading, dropped=dropped)
