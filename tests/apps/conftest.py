"""A gateway made of a scripted model, the apps process in front of it, both on real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
import uvicorn

from penstock.apps.app import create_apps
from penstock.apps.types import EVERYTHING, AppDeclaration
from penstock.knowledge.retrieval.citations import check_citations
from penstock.main.app_evidence import make_packing
from penstock.spec.knowledge import ChosenScope
from penstock.spec.spans import Span

USAGE = {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
KEY = "internal-key-of-the-test"


@dataclass
class Hit:
    document: str
    section: str | None
    sentences: tuple[str, ...]
    passage_id: str = "psg_1"
    score: float = 1.0
    dense_score: float | None = 0.8
    lexical_score: float | None = 3.0
    title: str | None = None
    anchor: str | None = None
    url: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


SLEEP = Hit(
    "sleep.md",
    "Length",
    ("Most adults need 7 to 9 hours of sleep each night.", "Older adults often wake earlier than before."),
)
WATER = Hit("water.md", "Thirst", ("Drinking water when thirsty is enough for most people.",), "psg_2", 0.5)


class FakeRetriever:
    """Returns what a test put in; a callable is called, an exception is raised."""

    def __init__(self) -> None:
        self.hits: list[Any] = [SLEEP, WATER]
        self.before: Callable[[], None] = lambda: None
        self.calls: list[tuple[str, str, int, str | None]] = []
        self.scopes: list[ChosenScope] = []
        self.generations: list[str | None] = []
        self.adjusts: list[Any] = []
        self.by_query: dict[str, list[Any]] = {}

    def retrieve(
        self,
        name: str,
        query: str,
        k: int = 5,
        *,
        scope: ChosenScope = EVERYTHING,
        generation: str | None = None,
        traceparent: str | None = None,
        adjust: Any = None,
    ) -> Any:
        self.calls.append((name, query, k, traceparent))
        self.scopes.append(scope)
        self.generations.append(generation)
        self.adjusts.append(adjust)
        self.before()
        return SimpleNamespace(
            hits=self.by_query.get(query, self.hits),
            generation="gen_1",
            version=f"knowledge:{name}@1",
            embedder="e@1",
            mode="hybrid",
            note=None,
        )


@dataclass
class FakeGateway:
    """Answers `/v1/chat/completions` with `reply`, streamed word by word when asked; keeps what it was sent."""

    reply: str = "[1] Most adults need 7 to 9 hours of sleep each night."
    replies: dict[str, list[str]] = field(default_factory=dict)
    """By model: what it says in turn; `!` stands for a failure. Other models say `reply`."""
    scores: list[float] = field(default_factory=list)
    """What a reranking gives."""
    status: int = 200
    broken: str | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = json.loads(body)
        self.requests.append((headers, asked))
        said = self.replies.get(asked["model"])
        reply = said.pop(0) if said else self.reply
        if scope["path"] == "/v1/rerank":
            rows = [{"index": n, "relevance_score": score} for n, score in enumerate(self.scores)]
            await self._whole(send, 200, json.dumps({"results": rows}))
        elif reply == "!":
            await self._whole(send, 500, json.dumps({"error": {"message": "it fell over"}}))
        elif self.broken == "hang":
            await self._hang(receive)
        elif self.status != 200:
            text = json.dumps({"error": {"message": "the model is not here", "type": "x", "code": "y"}})
            await self._whole(send, self.status, text)
        elif self.broken == "garbage":
            await self._whole(send, 200, "<html>")
        elif asked.get("stream"):
            await self._stream(receive, send, reply)
        else:
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await self._whole(send, 200, json.dumps({"model": "m-1", "choices": [choice], "usage": USAGE}))

    async def _stream(self, receive: Any, send: Any, reply: str) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        for number, word in enumerate(reply.split(" ")):
            piece = word if number == 0 else f" {word}"
            await self._event(send, {"choices": [{"index": 0, "delta": {"content": piece}}]})
            if self.broken == "cut" and number == 3:
                await send({"type": "http.response.body", "body": b""})
                return
            if self.broken == "stall" and number == 3:
                await self._hang(receive)
                return
        await self._event(send, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await self._event(send, {"choices": [], "usage": USAGE, "model": "m-1"})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _hang(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.hung_up.set()

    async def _event(self, send: Any, value: dict[str, Any]) -> None:
        body = b"data: " + json.dumps(value).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _whole(self, send: Any, status: int, text: str) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})


class FakeTokenizers:
    """Counts a token a character for the model `letters`; knows no other."""

    def count_texts(self, model: str, texts: Sequence[str]) -> tuple[list[int], str] | None:
        return ([len(text) for text in texts], "tokenizer of letters@1") if model == "letters" else None


class Recorder:
    """Keeps spans in a list."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, span: Span) -> None:
        self.spans.append(span)

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


Serve = Callable[[Any], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves ASGI applications on loopback; returns their base URL."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None], socket.socket]] = []

    async def start(app: Any) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="auto", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        running.append((server, task, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, _, _ in running:
        server.should_exit = True
    for _, task, listener in running:
        await task
        listener.close()


@dataclass
class World:
    """Everything a test touches."""

    gateway: FakeGateway
    retriever: FakeRetriever
    recorder: Recorder
    url: str
    session: aiohttp.ClientSession
    apps: list[AppDeclaration]

    def hurry(self, **timeouts: float) -> None:
        """Let the app wait no longer than told."""
        self.apps[0] = msgspec.structs.replace(self.apps[0], **timeouts)

    async def ask(
        self, question: str = "How long do adults sleep?", **members: Any
    ) -> tuple[int, dict[str, Any]]:
        """Post a chat request and return status and body."""
        body = {"model": "handbook", "messages": [{"role": "user", "content": question}], **members}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            return response.status, await response.json(content_type=None)

    async def stream(
        self, question: str = "How long do adults sleep?", **members: Any
    ) -> list[dict[str, Any]]:
        """Post a streamed chat request and return its events."""
        body = {
            "model": "handbook",
            "messages": [{"role": "user", "content": question}],
            "stream": True,
            **members,
        }
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            assert response.status == 200, await response.text()
            text = await response.text()
        return [
            json.loads(line.removeprefix("data: "))
            for line in text.split("\n\n")
            if line.startswith("data: ") and line != "data: [DONE]"
        ]


@pytest.fixture
async def world(serve: Serve) -> AsyncIterator[World]:
    """The apps process with the handbook declared for Pocket."""
    gateway, retriever, recorder = FakeGateway(), FakeRetriever(), Recorder()
    apps = [
        AppDeclaration(
            name="handbook",
            knowledge="handbook",
            model="pocket",
            prompt="marked",
            retrieve_timeout_s=60.0,
            answer_timeout_s=60.0,
        )
    ]
    application = create_apps(
        apps=lambda: apps,
        retriever=retriever,
        recorder=recorder,
        gateway_url=f"{await serve(gateway)}/v1",
        internal_key=KEY,
        pack=make_packing(FakeTokenizers()),  # type: ignore[arg-type]  # all that is asked of one
        check_citations=check_citations,
    )
    url = await serve(application)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
        yield World(gateway, retriever, recorder, url, session, apps)
