"""Where a call belongs, told to whom it goes: W3C `traceparent`, and the session and user that the gateway knows by header."""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from opentelemetry import trace

from penstock.sdk.carried import read_carried
from penstock.sdk.observation import current_span

SESSION_HEADER = "x-penstock-session"
USER_HEADER = "x-penstock-user"


def headers() -> dict[str, str]:
    """Return the headers that make a call through the gateway a child of the current span; empty outside of any."""
    found: dict[str, str] = {}
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        found["traceparent"] = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"
        )
    elif (trace_id := current_span().trace_id) is not None:
        found["traceparent"] = f"00-{trace_id}-{current_span().span_id}-01"
    carried = read_carried().attributes
    for name, header in (("session.id", SESSION_HEADER), ("user.id", USER_HEADER)):
        value = carried.get(name)
        if value:
            found[header] = _header_text(str(value))
    return found


def inject(request: Any) -> None:
    """Add `headers()` to a request, or to a mapping of headers: an event hook for `httpx.Client`. Never raises."""
    try:
        target: MutableMapping[str, str] = getattr(request, "headers", request)
        for name, value in headers().items():
            if name not in target:
                target[name] = value
    except Exception:  # the edge between the program and its record: the call goes out without the headers
        return


async def inject_async(request: Any) -> None:
    """Do what `inject` does: an event hook for `httpx.AsyncClient`."""
    inject(request)


def _header_text(value: str) -> str:
    return value if value.isascii() and value.isprintable() else quote(value)
