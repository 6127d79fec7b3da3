"""The playground: a conversation with any model of this gateway, streamed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from penstock.access.declarations import check_caller, needs
from penstock.access.permissions import Permission
from penstock.base.errors import InvalidInput, UpstreamError
from penstock.console.gateway_client import GatewayClient
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.console.taken_requests import TakenRequest, take_request

MAX_CALL_BYTES = 1024 * 1024
HANDBOOK = "handbook"
EXAMPLES = (
    "How many hours of sleep do most adults need?",
    "Why should ice not be put on a burn?",
    "How does caffeine block sleepiness?",
)
"""Questions that the shipped handbook answers with the shipped Pocket."""


class PlaygroundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class PlaygroundCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page sends."""

    model: str
    messages: list[PlaygroundMessage]
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """One name that can answer a chat."""

    name: str
    version: str | None


@dataclass(frozen=True, kw_only=True)
class PlaygroundPage(Page):
    """The form; the script does the rest."""

    template: ClassVar[str] = "playground.html"
    models: tuple[ModelChoice, ...]
    chosen: str | None
    user: str
    system: str
    earlier: str
    """JSON of the turns that a request brought along, empty for none."""
    temperature: str
    max_tokens: str
    origin: str | None
    """The trace and span that the request is taken from."""
    absent: str | None
    """The model of that request where no route has its name."""
    n_left_out: int
    """Parts of that request which cannot be asked here: tools, pictures."""
    examples: tuple[str, ...]
    """Offered while the handbook is chosen; empty where there is none."""
    examples_for: str = HANDBOOK


def encode_call(raw: bytes) -> bytes:
    """Return the gateway's request for what the page sent; raise `InvalidInput`."""
    try:
        call = msgspec.json.decode(raw, type=PlaygroundCall)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidInput(f"The call cannot be read: {error}.") from error
    if not any(message.content.strip() for message in call.messages if message.role == "user"):
        raise InvalidInput("There is no question yet.", hint="Write a message, then send it.")
    body: dict[str, Any] = {
        "model": call.model,
        "messages": call.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.temperature is not None:
        body["temperature"] = call.temperature
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    return msgspec.json.encode(body)


async def relay_call(gateway: GatewayClient, body: bytes, *, user: str) -> Response:
    """Return the gateway's reply as it comes; a reader who leaves cancels the call."""
    stack = AsyncExitStack()
    try:
        opened = await stack.enter_async_context(gateway.stream_chat(body, user=user))
    except UpstreamError as error:
        return JSONResponse({"error": error.as_dict()}, status_code=error.status)

    async def relay() -> AsyncIterator[bytes]:
        async with stack:  # closed with the stream
            async for chunk in opened.chunks:
                yield chunk

    return StreamingResponse(
        relay(), status_code=opened.status, media_type=opened.content_type, headers=opened.headers
    )


_OF_RECORDS = frozenset({Permission.TRACES_READ, Permission.TRACES_CONTENT})
"""What is needed besides to begin with a request that was recorded."""


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/playground` and the call that its script makes."""
    router = APIRouter(include_in_schema=False)
    gateway = GatewayClient(services.gateway_url, services.internal_key)

    @router.get("/playground")
    @needs(Permission.MODELS_CALL, Permission.ROUTES_READ)
    def show_playground(
        request: Request, model: str | None = None, user: str = "", span: str | None = None
    ) -> Response:
        if span:
            check_caller(request.state.caller, _OF_RECORDS)
        taken = take_request(services.traces, span) if span else TakenRequest()
        snapshot = services.read_snapshot()
        routes = [route for route in snapshot.routes if route.kind != "embedding"] if snapshot else []
        models = tuple(
            ModelChoice(name=route.name, version=route.version) for route in routes if "*" not in route.name
        )
        names = [each.name for each in models]
        page = PlaygroundPage(
            frame=renderer.frame(request, "Playground", "/playground"),
            models=models,
            chosen=next((name for name in (model, taken.model, HANDBOOK, *names) if name in names), None),
            user=user or taken.user,
            system=taken.system,
            earlier=taken.earlier,
            temperature=taken.temperature,
            max_tokens=taken.max_tokens,
            origin=taken.origin,
            absent=None if model or taken.model in names else taken.model,
            n_left_out=taken.n_left_out,
            examples=EXAMPLES if HANDBOOK in names else (),
        )
        return renderer.show(page)

    @router.post("/playground/call")
    @needs(Permission.MODELS_CALL)
    async def call_model(request: Request) -> Response:
        raw = await request.body()
        if len(raw) > MAX_CALL_BYTES:
            raise InvalidInput("The conversation is over 1 MiB.", hint="Begin a new one.")
        body = encode_call(raw)
        return await relay_call(gateway, body, user=request.state.caller.key.name)

    return router
