"""The ASGI front of the apps process: authenticates, reads, runs, streams. Accepts the internal key only.

Clients never come here directly: the gateway does, for each route whose target is an app.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from penstock import __version__
from penstock.apps import vector_stores
from penstock.apps.callers import caller
from penstock.apps.checking import Checking
from penstock.apps.choosing import Choosing
from penstock.apps.errors import CallerOverLimit, UnknownApp
from penstock.apps.evidence import CheckCitations, PackSentences
from penstock.apps.mcp_host import HostMaker
from penstock.apps.mcp_server import McpEndpoint
from penstock.apps.model_client import ModelClient
from penstock.apps.prompt_runner import PromptRunner, is_prompt_request
from penstock.apps.query_rewriting import QueryRewriting
from penstock.apps.relaying import Relay
from penstock.apps.replies import ChunkWriter, reply_body
from penstock.apps.requests import read_chat
from penstock.apps.runner import AppRunner
from penstock.apps.searching import Searching, shown_version
from penstock.apps.shelf import ReadFilter, Routes, Shelf
from penstock.apps.steps import Steps
from penstock.apps.tracing import TraceContext, Tracer, read_context
from penstock.apps.types import AppDeclaration, ChatRequest, Found, PromptSource, Recorder, Retriever
from penstock.apps.vector_stores import VectorStores
from penstock.base.clock import now_ns
from penstock.base.errors import BugError, NotFound, PenstockError, TooLarge, Unauthenticated, suggest
from penstock.dialects.openai.errors import error_body, error_event
from penstock.spec.callers import (
    CALLER_HEADER,
    KEY_HEADER,
    KNOWLEDGE_HEADER,
    PRINCIPALS_HEADER,
    REFUSAL_HEADER,
    ROUTES_HEADER,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Declarations = Sequence[AppDeclaration] | Callable[[], Sequence[AppDeclaration]]

MAX_BODY_BYTES = 25 * 1024 * 1024
N_SEARCH_THREADS = 8
_log = logging.getLogger(__name__)


def create_apps(
    *,
    apps: Declarations,
    retriever: Retriever,
    recorder: Recorder,
    gateway_url: str,
    internal_key: str,
    find_version: Callable[[str], str | None] = lambda _name: None,
    find_app: Callable[[str], AppDeclaration | None] = lambda _name: None,
    prompts: PromptSource | None = None,
    shelf: Shelf | None = None,
    read_filter: ReadFilter | None = None,
    pack: PackSentences | None = None,
    check_citations: CheckCitations | None = None,
    clock: Callable[[], int] = now_ns,
) -> "AppsApp":
    """Return the ASGI application. `apps` may be a callable, asked anew for each request.

    `gateway_url` ends in `/v1`. `find_version` names an app's live version for its spans (`3@sha256:…`); without
    one they show the digest of the declaration. `find_app` finds what answers as `NAME@ALIAS`. `prompts` answer under names that begin with `prompt:`. Without `shelf`
    and `read_filter` there are no vector stores; without `pack` budgets in tokens are not kept, and without
    `check_citations` no app may check by citations.
    """
    client = ModelClient(gateway_url, internal_key)
    relay = Relay(gateway_url, internal_key)
    executor = ThreadPoolExecutor(N_SEARCH_THREADS, thread_name_prefix="retrieve")
    tracer = Tracer(recorder, clock)
    searching = Searching(retriever, tracer, executor)
    steps = Steps(client, tracer)
    runner = AppRunner(
        searching=searching,
        model_client=client,
        tracer=tracer,
        steps=steps,
        choosing=Choosing(steps, tracer, pack=pack, executor=executor),
        checking=Checking(steps, tracer, check_citations=check_citations, executor=executor),
        find_version=find_version,
    )
    stores = None
    if shelf is not None and read_filter is not None:
        stores = VectorStores(
            shelf=shelf,
            searching=searching,
            read_filter=read_filter,
            executor=executor,
            tracer=tracer,
            rewriting=QueryRewriting(client, tracer),
            list_apps=apps if callable(apps) else lambda: apps,
        )
    hosts = HostMaker(gateway_url, internal_key)
    return AppsApp(
        apps=apps,
        find_app=find_app,
        runner=runner,
        prompts=PromptRunner(prompts=prompts, relay=relay, tracer=tracer, executor=executor),
        stores=stores,
        mcp=McpEndpoint(hosts, version=__version__),
        closers=(client, relay, hosts),
        executor=executor,
        key=internal_key,
        clock=clock,
    )


class AppsApp:
    """ASGI application over all declared apps of an installation."""

    def __init__(
        self,
        *,
        apps: Declarations,
        find_app: Callable[[str], AppDeclaration | None],
        runner: AppRunner,
        prompts: PromptRunner,
        stores: VectorStores | None,
        mcp: McpEndpoint,
        closers: Sequence[ModelClient | Relay | HostMaker],
        executor: ThreadPoolExecutor,
        key: str,
        clock: Callable[[], int],
    ) -> None:
        self._apps = apps
        self._find_app = find_app
        self._runner = runner
        self._prompts = prompts
        self._stores = stores
        self._mcp = mcp
        self._closers = closers
        self._executor = executor
        self._key = key.encode()
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise BugError(f"Apps serve HTTP only, not {scope['type']}.")
        response = _Response(send)
        try:
            await self._route(scope, receive, response)
        except _HungUp:
            return
        except PenstockError as error:
            await response.fail(error)
        except Exception as error:  # the edge of the process: the caller gets a body, the log gets the trace
            _log.exception("an app broke")
            await response.fail(BugError(f"The app broke: {type(error).__name__}."))

    async def close(self) -> None:
        """Close what was opened. Searches that still run are not waited for."""
        await self._mcp.close()
        for each in self._closers:
            await each.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, scope: Scope, receive: Receive, response: "_Response") -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("GET", "/health"):
            await response.json({"status": "ok", "apps": [app.name for app in self._list()]})
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        offered = headers.get(b"authorization", "").removeprefix("Bearer ").encode("latin-1", "replace")
        if not hmac.compare_digest(offered, self._key):
            raise Unauthenticated("Apps take calls from this installation's gateway only.")
        caller.set(headers.get(CALLER_HEADER.encode()))
        if (method, path) == ("GET", "/v1/models"):
            listed = [{"id": app.name, "object": "model", "owned_by": "penstock"} for app in self._list()]
            await response.json({"object": "list", "data": listed})
        elif (method, path) == ("POST", "/v1/chat/completions"):
            data = await _read_body(receive)
            context = _context_of(headers)
            if is_prompt_request(data):
                work = self._prompts.answer(data, context, response)
            else:
                request = read_chat(data)
                work = self._answer(self._find(request.model), request, context, response)
            await _run_until_hangup(work, receive)
        elif path == "/mcp":
            await self._mcp.serve(scope, receive, response.pass_on)
        elif self._stores is not None and vector_stores.serves_path(path):
            await self._serve_stores(self._stores, scope, headers, receive, response)
        else:
            raise NotFound(f"There is no {method} {path} here.")

    async def _serve_stores(
        self,
        stores: VectorStores,
        scope: Scope,
        headers: Mapping[bytes, str],
        receive: Receive,
        response: "_Response",
    ) -> None:
        path, context = scope["path"], _context_of(headers)
        routes = Routes(headers.get(ROUTES_HEADER.encode()))
        if scope["method"] == "POST":
            page, response.knowledge = await stores.search(path, await _read_body(receive), routes, context)
            await response.json(page)
        elif scope["method"] == "GET":
            await response.json(await stores.look(path, scope["query_string"], routes, context))
        else:
            raise NotFound(f"There is no {scope['method']} {path} here.")

    async def _answer(
        self, app: AppDeclaration, request: ChatRequest, context: TraceContext, response: "_Response"
    ) -> None:
        created_s = self._clock() // 1_000_000_000

        def on_found(found: Found) -> None:
            response.knowledge = shown_version(app.knowledge, found)

        if not request.stream:
            reply = await self._runner.run(app, request, context, on_found=on_found)
            await response.body(reply_body(reply, model=app.name, created_s=created_s))
            return
        chunks = ChunkWriter(model=app.name, created_s=created_s)

        async def on_text(piece: str) -> None:
            await response.event(chunks.text(piece))

        reply = await self._runner.run(app, request, context, on_text=on_text, on_found=on_found)
        await response.event(chunks.end(reply, include_usage=request.include_usage), is_last=True)

    def _list(self) -> Sequence[AppDeclaration]:
        return self._apps() if callable(self._apps) else self._apps

    def _find(self, name: str) -> AppDeclaration:
        pinned = self._find_app(name) if "@" in name else None
        if pinned is not None:
            return pinned
        apps = {app.name: app for app in self._list()}
        if name not in apps:
            known = ", ".join(sorted(apps)) or "none yet"
            raise UnknownApp(f"No app {name!r}; known: {known}.", hint=suggest(name, apps), param="model")
        return apps[name]


def _context_of(headers: Mapping[bytes, str]) -> TraceContext:
    return read_context(
        headers.get(b"traceparent"),
        session_id=headers.get(b"x-penstock-session"),
        user_id=headers.get(b"x-penstock-user"),
        principals=headers.get(PRINCIPALS_HEADER.encode()),
        key_id=headers.get(KEY_HEADER.encode()),
    )


class _HungUp(Exception):
    """The caller went away before its request was complete."""


class _Response:
    """One response; knows whether it has begun, because then an error can only be an event."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.knowledge: str | None = None
        """Which version was searched, for the reply's header."""
        self._has_begun = False
        self._is_done = False

    async def pass_on(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of another application."""
        self._has_begun = True
        self._is_done = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def json(self, value: Any) -> None:
        await self.body(msgspec.json.encode(value))

    async def body(
        self,
        data: bytes,
        *,
        status: int = 200,
        retry_after: str | None = None,
        refusal: str | None = None,
    ) -> None:
        more = [(b"content-length", str(len(data)).encode())]
        if refusal is not None:
            more.append((REFUSAL_HEADER.encode(), refusal.encode("latin-1", "replace")))
        if retry_after is not None:
            more.append((b"retry-after", retry_after.encode("latin-1", "replace")))
        await self._begin(status, b"application/json", more)
        await self._write(data, is_last=True)

    async def event(self, data: bytes, *, is_last: bool = False) -> None:
        if not self._has_begun:
            await self._begin(200, b"text/event-stream; charset=utf-8", [(b"cache-control", b"no-cache")])
        await self._write(data, is_last=is_last)

    async def fail(self, error: PenstockError) -> None:
        if self._is_done:
            return
        if self._has_begun:
            await self._write(error_event(error), is_last=True)
        else:
            refusal = error.refusal if isinstance(error, CallerOverLimit) else None
            await self.body(error_body(error), status=error.status, refusal=refusal)

    async def _begin(self, status: int, content_type: bytes, more: list[tuple[bytes, bytes]]) -> None:
        self._has_begun = True
        headers = [(b"content-type", content_type), *more]
        if self.knowledge is not None:
            headers.append((KNOWLEDGE_HEADER.encode(), self.knowledge.encode("latin-1", "replace")))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, data: bytes, *, is_last: bool) -> None:
        self._is_done = is_last
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})


async def _read_body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        piece = message.get("body", b"")
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The request body is over {MAX_BODY_BYTES:,} bytes.")
        pieces.append(piece)
        if not message.get("more_body"):
            return b"".join(pieces)


async def _run_until_hangup(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Answer; when the caller hangs up, stop the run, which closes its own call upstream."""
    run = asyncio.ensure_future(work)
    hangup = asyncio.ensure_future(_wait_for_hangup(receive))
    try:
        await asyncio.wait({run, hangup}, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            run.result()
    finally:
        for task in (run, hangup):
            task.cancel()
        for task in (run, hangup):
            with contextlib.suppress(asyncio.CancelledError, PenstockError, OSError):
                await task


async def _wait_for_hangup(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
