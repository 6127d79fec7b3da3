"""A real gateway on a real port, with a snapshot file, counters on LMDB and a list for spans."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.app import Gateway, create_gateway
from penstock.gateway.protocol import Guard
from penstock.gateway.serve import open_socket
from penstock.providers.prices import PriceBook
from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.spec.snapshot import Limits
from penstock.spec.spans import Span
from penstock.store.counters import CounterStore
from penstock.store.response_cache import ResponseStore
from tests.gateway.upstream import FakeUpstream

KEY = "ps-test-key-0123456789"
LIMITED_KEY = "ps-limited-key-0123456789"


def key_row(secret: str, name: str, **fields: Any) -> KeyRow:
    return KeyRow(
        id=f"key_{name}", name=name, secret_sha256=hashlib.sha256(secret.encode()).hexdigest(), **fields
    )


class SpanList:
    """A sink that keeps spans and can be waited on."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.attempts: list[Span] = []
        """Spans of requests that were sent and lost: beside those of the calls."""

    def record(self, span: Span, on_stored: Callable[[], None] | None = None) -> None:
        (self.attempts if span.kind == "attempt" else self.spans).append(span)
        if on_stored is not None:
            on_stored()

    async def wait(self, count: int = 1) -> list[Span]:
        while len(self.spans) < count:
            await asyncio.sleep(0.005)
        return self.spans


@dataclass
class Bench:
    """What a test holds in its hands."""

    upstream: FakeUpstream
    folder: Path
    sink: SpanList = field(default_factory=SpanList)
    url: str = ""
    gateway: Gateway | None = None
    client: aiohttp.ClientSession | None = None

    def write(
        self,
        *,
        providers: list[Provider] | None = None,
        routes: list[Route] | None = None,
        keys: list[KeyRow] | None = None,
        limits: Limits | None = None,
        **provider: Any,
    ) -> None:
        """Write a snapshot; without rows it has one provider with three routes and one key."""
        row = Provider(**{"name": "fake", "base_url": self.upstream.url, "price_id": "openai", **provider})
        write_snapshot(
            self.folder / "current.json",
            build_snapshot(
                providers=providers if providers is not None else [row],
                routes=routes
                if routes is not None
                else [
                    Route(
                        name="gpt-4o-mini",
                        targets=(Target(provider="fake", model="gpt-4o-mini"),),
                        version="v3",
                    ),
                    Route(name="triage", targets=(Target(provider="fake", model="gpt-4o-mini"),)),
                    Route(
                        name="minilm", kind="embedding", targets=(Target(provider="fake", model="minilm"),)
                    ),
                ],
                keys=keys if keys is not None else [key_row(KEY, "test")],
                limits=limits or Limits(),
            ),
        )

    async def post(
        self, body: Any, path: str = "/v1/chat/completions", *, key: str = KEY, **headers: str
    ) -> Any:
        """Post JSON (or raw bytes); return the response, its body read."""
        assert self.client is not None
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.post(
            self.url + path, headers={"authorization": f"Bearer {key}", **names}, **data
        )
        await response.read()
        return response


def fake_cards(wanted: Any) -> list[RateCard]:
    rates = {"input_uncached": _rate("1"), "input_cache_read": _rate("0.5"), "output_text": _rate("2")}
    return [
        RateCard(source="test prices", sets=[RateSet(rates=rates)])
        if model.startswith("gpt-4o-mini")
        else RateCard(source="test prices", reason=f"no price for {model!r}")
        for _, model in wanted
    ]


def _rate(usd: str) -> Rate:
    return Rate(usd=Decimal(usd))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A gateway whose snapshot is not yet written when the test begins: call `bench.write()`, then `start`."""
    upstream = await FakeUpstream().start()
    made = Bench(upstream=upstream, folder=tmp_path)
    counters = CounterStore(tmp_path / "counters")
    made.gateway = create_gateway(
        snapshot_path=tmp_path / "current.json",
        sink=made.sink,
        counters=counters,
        internal_key="internal-secret",
        environ={"FAKE_KEY": "sk-upstream-secret-123"},
        prices=PriceBook(fake_cards),
        open_replies=partial(ResponseStore, tmp_path / "cache"),
        poll_interval_s=0.01,
    )
    made.gateway._attempts._asking.sleep = lambda _: asyncio.sleep(
        0
    )  # waits between attempts are tested elsewhere
    async with serve(made.gateway) as port:
        made.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as client:
            made.client = client
            yield made
    await upstream.stop()
    counters.close()


class serve:  # noqa: N801  # reads as a verb at the place of use
    """Run an ASGI app on uvicorn in this event loop; gives the port."""

    def __init__(self, app: Any, guard: Guard | None = None) -> None:
        config = uvicorn.Config(app, loop="none", http=(guard or Guard()).protocol(), ws="none", lifespan="on", log_config=None,
                                access_log=False, server_header=False, timeout_graceful_shutdown=1)  # fmt: skip
        self._server = uvicorn.Server(config)
        self._socket = open_socket("127.0.0.1", 0)

    async def __aenter__(self) -> int:
        self._leave = asyncio.Event()
        self._server.main_loop = self._leave.wait  # type: ignore[assignment,method-assign]  # not ticks of 0.1 s
        self._server.capture_signals = _no_signals  # type: ignore[method-assign]
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.002)
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def n_connections(self) -> int:
        """Clients' connections that are open."""
        return len(self._server.server_state.connections)

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._leave.set()
        await self._task
        self._socket.close()


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    """The same with the usual snapshot taken."""
    bench.write()
    await until_ready(bench)
    return bench


async def until_ready(bench: Bench) -> None:
    assert bench.gateway is not None
    bench.gateway._watch.refresh()
