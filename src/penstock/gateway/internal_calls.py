"""Calls that the gateway makes for its own sake, such as embedding a question: through its own routes, recorded as children.

They take the way of every call (balance, retries, breaker, spans, money) and are billed to the key of the call they are made
for. Limits are not asked again, since the caller's call has been admitted; but what is used counts for them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from penstock.base.errors import NotFound, PenstockError, UpstreamError
from penstock.dialects.registry import DIALECTS
from penstock.gateway.calls import Call
from penstock.gateway.endpoints import CALLS, Endpoint
from penstock.gateway.http import Send
from penstock.gateway.table import Table
from penstock.spec.snapshot import Limits

Answer = Callable[[Call, Send, Limits], Awaitable[None]]
Record = Callable[[Call, Limits], None]
Charge = Callable[[Call, str | None], None]
"""Counts a finished call for the limits of its key, and of the user that is named."""


class NoSuchRoute(NotFound):
    """A route that another one needs is not there."""

    code = "PS-1656"


class UnusableReply(UpstreamError):
    """A call of the gateway's own got something that it cannot use."""

    code = "PS-4651"


class _Embedding(msgspec.Struct):
    embedding: list[float]


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


class _Collected:
    """Takes a reply instead of a client."""

    def __init__(self) -> None:
        self.status = 0
        self._pieces: list[bytes] = []

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self._pieces.append(message.get("body", b""))

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)


class InternalCalls:
    """Makes calls on behalf of others."""

    def __init__(
        self, answer: Answer, record: Record, charge: Charge, table: Callable[[], Table | None]
    ) -> None:
        self._answer = answer
        self._charge = charge
        self._record = record
        self._table = table

    async def ask(self, parent: Call, endpoint: Endpoint, body: bytes) -> bytes:
        """Return the body of a successful reply to `body`; raises `PenstockError`."""
        table = self._table()
        call = Call(endpoint, (parent.trace_id, parent.span_id))
        call.key, call.user, call.session = parent.key, parent.user, parent.session
        call.caller = parent.caller
        call.body = body
        limits = table.limits if table is not None else Limits()
        call.envelope = DIALECTS[endpoint.dialect].peek(
            body, model=endpoint.model, stream=endpoint.stream, max_depth=limits.max_json_depth
        )
        found = table.find_route(call.envelope.model) if table is not None else None
        if found is None:
            raise NoSuchRoute(
                f"There is no route {call.envelope.model!r}.", hint="The cache policy of a route names it."
            )
        call.route = found[1]
        collected = _Collected()
        try:
            await self._answer(call, collected, limits)
        except PenstockError as error:
            call.error_code, call.error_message, call.http_status = error.code, error.message, error.status
            raise
        finally:
            self._record(call, limits)
            self._charge(call, parent.user or (parent.envelope.user if parent.envelope is not None else None))
        if collected.status != 200:
            raise UnusableReply(f"The route {call.envelope.model!r} answered HTTP {collected.status}.")
        return collected.body

    async def embed(self, parent: Call, route: str, texts: list[str]) -> list[list[float]]:
        """Return one vector for each text, by the embedding route `route`; raises `PenstockError`."""
        body = msgspec.json.encode({"model": route, "input": texts, "encoding_format": "float"})
        told = await self.ask(parent, CALLS["/v1/embeddings"], body)
        try:
            vectors = [each.embedding for each in msgspec.json.decode(told, type=_Embeddings).data]
        except msgspec.DecodeError:
            vectors = []
        if len(vectors) != len(texts) or not all(vectors):
            raise UnusableReply(f"The route {route!r} does not answer with embeddings.")
        return vectors
