"""The console on the furnished house: in process for pages, on a real port for a real browser."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from penstock.console.app import mount_console
from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.evaluated import evaluated, evaluated_root
from tests.fixtures.furnished import (
    ANSWER,
    TRACE_ID,
    Furnished,
    furnished,
    furnished_root,
    house,
    unfurnished,
)

__all__ = ["evaluated", "evaluated_root", "furnished", "furnished_root", "house", "unfurnished"]

expect.set_options(timeout=60_000)  # a page of a busy machine comes late; it is waited for, not timed


def make_app(found: Furnished) -> Any:
    """Control and console as one application."""
    return create_control(found.services, mounts=[lambda app: mount_console(app, found.services)])


def sign_in(client: AsgiClient, key: str) -> AsgiClient:
    """Return the client with a session."""
    reply = client.post_form("/signin", {"key": key})
    assert reply.status == 303, reply.text
    return client


@pytest.fixture(scope="module")
def visitor(house: Furnished) -> AsgiClient:
    """A signed-in client of the shared house."""
    return sign_in(AsgiClient(make_app(house)), house.owner_key)


class FakeGateway:
    """Answers `/v1/chat/completions` in OpenAI's words, a piece at a time."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()
        self.release.set()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])

    async def chat(self, request: Request) -> Response:
        """Stream the answer; hold the second half back while `release` is clear."""
        body = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        if body["model"] == "pocket":
            return JSONResponse({"error": {"message": "The engine is starting."}}, status_code=503)
        return StreamingResponse(
            self._pieces(),
            media_type="text/event-stream",
            headers={"x-penstock-trace-id": TRACE_ID, "x-penstock-overhead-ms": "0.41"},
        )

    async def _pieces(self) -> AsyncIterator[bytes]:
        def event(value: dict[str, Any]) -> bytes:
            return b"data: " + json.dumps(value).encode() + b"\n\n"

        yield event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ANSWER[:30]}}]})
        while not self.release.is_set():
            await asyncio.sleep(0.01)
        yield event({"choices": [{"index": 0, "delta": {"content": ANSWER[30:]}}]})
        cited = [{"document": "sleep-basics.md", "section": "Sleep", "passage_id": "p1", "quote": ANSWER}]
        usage = {"prompt_tokens": 412, "completion_tokens": 18}
        yield event({"choices": [], "usage": usage, "citations": cited})
        yield b"data: [DONE]\n\n"


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Run `app` on a free loopback port and yield its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[FakeGateway, str]]:
    """A fake gateway and its URL."""
    fake = FakeGateway()
    with serve(fake.app) as url:
        yield fake, url


@pytest.fixture(scope="module")
def console_url(house: Furnished, gateway: tuple[FakeGateway, str]) -> Iterator[str]:
    """The console of the shared house on a real port, its playground pointed at the fake gateway."""
    found = replace(house, services=replace(house.services, gateway_url=gateway[1]))
    with serve(make_app(found)) as url:
        yield url
