"""Errors in the words of the client's dialect: as a body with its headers, or as the end of a stream."""

import math
from collections.abc import Mapping

from penstock.base.errors import PenstockError
from penstock.base.logs import redact
from penstock.dialects.bedrock.dialect import BEDROCK
from penstock.dialects.error_kinds import kind_of_status
from penstock.dialects.openai.errors import error_body, error_event
from penstock.dialects.port import Dialect
from penstock.dialects.registry import DIALECTS
from penstock.gateway.errors import BodyTooSlow
from penstock.gateway.http import JSON, Header, Send, send_reply
from penstock.gateway.limiting.notices import refusal_headers
from penstock.spec.hub import ErrorKind, HubError, HubRequest
from penstock.spec.routes import DialectName

_KINDS: Mapping[str, ErrorKind] = {"PS-2601": "rate_limit", "PS-2641": "quota", "PS-2602": "overloaded"}


def to_hub_error(error: PenstockError) -> HubError:
    """Return `error` in the hub's words, with its Penstock code and with secrets blacked out."""
    param = error.fields.get("param")
    return HubError(
        kind=_KINDS.get(error.code) or kind_of_status(error.status),
        message=redact(str(error)),
        status=error.status,
        code=str(error.fields.get("openai_code") or error.code),
        param=param if isinstance(param, str) else None,
    )


def write_error_body(dialect: DialectName, error: PenstockError) -> bytes:
    """Return the body that tells a client of `dialect` about `error`."""
    if dialect in ("openai", "responses"):
        return error_body(error)
    return DIALECTS[dialect].write_error(to_hub_error(error))


def write_error_end(dialect: Dialect, error: PenstockError, model: str) -> bytes:
    """Return what ends a stream, of which only whole events have been sent, with `error`."""
    if dialect.name == "openai":
        return error_event(error)
    request = HubRequest(source=dialect.name, model=model, messages=[])
    end = dialect.stream_writer(model=model, request=request).fail(to_hub_error(error))
    return b"," + end[1:] if end.startswith(b"[") else end  # one more item of the array that has begun


def error_headers(dialect: DialectName, error: PenstockError) -> list[Header]:
    """Return the headers that belong to an error."""
    headers: list[Header] = [JSON, *refusal_headers(error.fields)]
    wait_s = error.fields.get("retry_after_s")
    if isinstance(wait_s, int | float) and math.isfinite(wait_s):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_s))))
    if dialect == "bedrock":
        headers += BEDROCK.error_headers(to_hub_error(error))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if "allow" in error.fields:
        headers.append((b"allow", str(error.fields["allow"]).encode("ascii")))
    if isinstance(error, BodyTooSlow):
        headers.append((b"connection", b"close"))
    return headers


async def send_error(
    send: Send,
    error: PenstockError,
    headers: tuple[Header, ...] | list[Header] = (),
    dialect: DialectName = "openai",
) -> None:
    """Send `error` to a client of `dialect`, with the headers that belong to it."""
    extra = error_headers(dialect, error)
    await send_reply(send, error.status, [*extra, *headers], write_error_body(dialect, error))
