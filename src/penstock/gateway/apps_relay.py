"""Passes on to the apps process what is asked of it besides models: lists and documents of knowledge bases, and MCP.

The key is checked here, and the apps process is told whose call it is, as whom documents are read, and which routes the key
may call; it shows nothing else. Each read of documents counts as a request of the key, as a search does. What agents' tools want
(searches, answers, documents) the apps process asks of the gateway again, for that caller, so that limits and budgets hold there.
"""

import re
import time
from decimal import Decimal
from urllib.parse import parse_qsl, urlencode

from penstock.base.errors import PenstockError
from penstock.gateway.arrivals import find_secret, note_headers
from penstock.gateway.callers import identify, principals_line, relayed_caller_line, routes_line
from penstock.gateway.calls import Call, parse_traceparent
from penstock.gateway.endpoints import CALLS, split_query
from penstock.gateway.error_replies import send_error
from penstock.gateway.errors import ForeignOrigin, NotReady, TooBusy, UnknownPath, WrongMethod
from penstock.gateway.http import ClientGone, Header, Outbox, Receive, Scope, Send, read_body, send_reply
from penstock.gateway.limits import Hold, Limiter, LimitFacts
from penstock.gateway.table import ReadyTarget, Table, header_text
from penstock.providers.transport import Upstreams
from penstock.spec.callers import KEY_HEADER

MAX_AT_ONCE = 512
"""Requests passed on at once by one worker."""
MAX_REPLY_BYTES = 32 * 1024 * 1024
MCP_PATH = "/mcp"
_STORES = re.compile(r"/v1/vector_stores(?:/[^/]+(?:/files(?:/[^/]+(?:/content)?)?)?)?/?")
_DOCUMENTS = re.compile(r"/v1/vector_stores/([^/]+)/files(?:/|$)")
_LOOPBACK = re.compile(rb"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?")
_TOLD = (
    b"accept",
    b"mcp-protocol-version",
    b"mcp-method",
    b"mcp-name",
    b"mcp-session-id",
    b"content-type",
)
"""Headers of a client that the apps process is shown."""
_SHOWN = (b"content-type", b"allow", b"mcp-session-id", b"mcp-protocol-version", b"x-penstock-knowledge")
"""Headers of its reply that the client is shown."""


def serves_path(path: str) -> bool:
    """Return whether requests to `path` that are no calls are answered by the apps process."""
    return path == MCP_PATH or (path.startswith("/v1/vector_stores") and _STORES.fullmatch(path) is not None)


class AppsRelay:
    """Passes requests on over the gateway's own connections."""

    def __init__(self, upstreams: Upstreams, limiter: Limiter | None = None) -> None:
        self._upstreams = upstreams
        self._limiter = limiter
        self._n_active = 0

    async def answer(self, scope: Scope, table: Table | None, receive: Receive, send: Send) -> None:
        """Answer one request."""
        outbox = Outbox(send)
        self._n_active += 1
        try:
            if table is None:
                raise NotReady
            if self._n_active > MAX_AT_ONCE:
                raise TooBusy(
                    f"{MAX_AT_ONCE} such requests are being served already.", hint="Try again soon."
                )
            await self._pass_on(scope, table, receive, outbox)
        except ClientGone:
            return
        except PenstockError as error:
            if outbox.has_begun:
                raise
            await send_error(send, error)
        finally:
            self._n_active -= 1

    async def _pass_on(self, scope: Scope, table: Table, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        call = _identified(scope, table, headers)
        _check_origin(headers)
        apps = table.apps
        if apps is None:
            raise UnknownPath("No apps run here.", hint="They run beside the gateway under `penstock up`.")
        wanted = "POST" if path == MCP_PATH else "GET"  # no stream is kept open for agents, and no session
        if method != wanted:
            raise WrongMethod(
                f"{path[:200]} does not answer {method[:20]}.", hint=f"Use {wanted}.", allow=wanted
            )
        body = await read_body(
            receive, declared=headers.get(b"content-length"), limit=table.limits.max_body_bytes
        )
        head = _write_head(scope, apps, call, headers)
        head += b"content-length: %d\r\n\r\n" % len(body)
        hold = await self._reserve(call, table, path)
        try:
            trace = (b"x-penstock-trace-id", call.trace_id.encode())
            limits = [] if hold is None else hold.headers
            await self._exchange(apps, head, body, send, more=[*limits, trace])
        finally:
            if hold is not None and self._limiter is not None:
                self._limiter.settle(hold, tokens=0, usd=Decimal(0), counts_request=True)

    async def _reserve(self, call: Call, table: Table, path: str) -> Hold | None:
        """Count a read of documents; None for what is none, and without a rule for it. Raises `LimitReached`."""
        found = _DOCUMENTS.match(path)
        route = f"knowledge:{found.group(1).removeprefix('knowledge:')}" if found else None
        if route not in table.routes or self._limiter is None or call.key is None:
            return None  # the apps process answers that there is no such base
        if not self._limiter.has_rule_for(call.key):
            return None
        return await self._limiter.admit(
            LimitFacts(
                key=call.key,
                route=route,
                model=table.routes[route].targets[0].model,
                user=call.user,
                completion_tokens=0,
                usd=Decimal(0),
                caller=call.caller,
                passes_on=True,
            )
        )

    async def _exchange(
        self, apps: ReadyTarget, head: bytes, body: bytes, send: Send, *, more: list[Header]
    ) -> None:
        provider = apps.provider
        connection = await self._upstreams.send(
            apps.origin,
            head,
            body,
            connect_s=provider.connect_timeout_s,
            first_byte_s=provider.timeout_s,
            deadline=time.monotonic() + provider.timeout_s,
        )
        try:
            told = await connection.read_all(MAX_REPLY_BYTES)
            shown = [header for header in connection.headers if header[0] in _SHOWN]
            await send_reply(send, connection.status, [*shown, *more], told)
        finally:
            self._upstreams.release(apps.origin, connection)


def _identified(scope: Scope, table: Table, headers: dict[bytes, bytes]) -> Call:
    """Return whose request it is, as a call that is never recorded: it asks no model."""
    traceparent = headers.get(b"traceparent")
    parent = parse_traceparent(traceparent) if traceparent is not None else None
    call = Call(CALLS["/v1/chat/completions"], parent)
    query_key = split_query(scope["query_string"])[0] if scope["query_string"] else None
    identify(call, table, headers, find_secret(headers, query_key))
    note_headers(call, headers)
    return call


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Refuse pages of other sites, whose browser may have been led here by a name that changed its address.

    Such a page's `Origin` is the `Host` that it asks, so that these two agree says nothing. No pages are served here, so a page
    is another site's unless it is this machine's own. MCP asks for this (2025-11-25, transports, security warning); what has
    no `Origin` is no browser.
    """
    origin = headers.get(b"origin")
    if origin is not None and not _LOOPBACK.fullmatch(origin):
        raise ForeignOrigin(
            "Pages of other sites may not ask here.", hint="Call from a server, not from a page."
        )


def _write_head(scope: Scope, apps: ReadyTarget, call: Call, headers: dict[bytes, bytes]) -> bytes:
    """Return the head of the request to the apps process, up to its length: nothing of the client's own but what is known."""
    raw: bytes = scope["raw_path"]
    path = raw if scope["path"] == MCP_PATH else raw.removeprefix(b"/v1")
    base = b"" if scope["path"] == MCP_PATH else apps.origin.path.encode("ascii")
    asked = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "key"]
    query = b"?" + urlencode(asked).encode("ascii") if asked else b""
    method = scope["method"].encode("ascii")
    lines = [b"%b %b%b%b HTTP/1.1\r\n" % (method, base, path, query), apps.head_rest]
    lines += [b"%b: %b\r\n" % (name, headers[name]) for name in _TOLD if name in headers]
    lines.append(b"traceparent: 00-%b-%b-01\r\n" % (call.trace_id.encode(), call.span_id.encode()))
    assert call.key is not None
    lines.append(b"%b: %b\r\n" % (KEY_HEADER.encode(), header_text(call.key.id)))
    for name, value in ((b"x-penstock-user", call.user), (b"x-penstock-session", call.session)):
        if value:
            lines.append(b"%b: %b\r\n" % (name, header_text(value)))
    lines += [relayed_caller_line(call), principals_line(call), routes_line(call.key)]
    return b"".join(lines)
