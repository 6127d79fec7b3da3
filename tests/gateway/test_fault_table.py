"""Each fault of a provider, plain and streamed, to a client of its own dialect and to one of another.

What must come of it stands in `faults.toml`, from which `docs/reference/faults.md` is made: what the client sees, what
is billed, what is recorded. After each fault nothing may be left over.
"""

import asyncio
import dataclasses
import json
import re
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway import commit, exchange
from penstock.gateway.app import Gateway, create_gateway
from penstock.gateway.asking import MIN_RETRIES
from penstock.providers.prices import PriceBook
from penstock.spec.routes import Provider, RetryPolicy, Route, Target
from penstock.spec.spans import Span
from tests.fixtures.chaos import BEHAVIOURS, chaos
from tests.gateway.conftest import KEY, SpanList, fake_cards, key_row, serve
from tests.gateway.upstream import FakeUpstream

TABLE = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())["fault"]
DEAD = "http://127.0.0.1:9/v1"
SECRET = "sk-chaos-0123456789abcdef0123456789"
CLIENTS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
PROVIDERS: dict[str, tuple[dict[str, float], set[str]]] = {
    "mute": ({"first_byte_timeout_s": 0.05}, {"hang", "hang-in-head"}),
    "halting": ({"idle_timeout_s": 0.2}, {"hang-midway", "hang-behind-the-end"}),
    "slow": ({"timeout_s": 0.3}, {"drip", "only-comments"}),
    "usual": ({}, set()),
}
"""Each bounds only what its faults wait for, so that a slow machine changes no outcome."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Chaos:
    url: str
    gateway: Gateway
    upstream: FakeUpstream
    session: aiohttp.ClientSession
    sink: SpanList = field(default_factory=SpanList)

    async def ask(self, client: str, fault: str, *, stream: bool) -> tuple[int, bytes]:
        """Ask as `client`; return the status and all bytes that came."""
        body = {
            "model": fault,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 50,
            "stream": stream,
        }
        headers = {"authorization": f"Bearer {KEY}"}
        async with self.session.post(self.url + CLIENTS[client], json=body, headers=headers) as response:
            return response.status, await response.read()

    def left_over(self) -> list[str]:
        """Return what is still there of a call."""
        upstreams = self.gateway._upstreams
        idle = sum(len(deque) for deque in upstreams._idle.values())
        tasks = [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "client-watch"]
        counts = {
            "calls": self.gateway.n_active,
            "connections in use": len(upstreams._all) - idle,
            "connections the provider holds": max(0, self.upstream.n_open - idle),
            "watchers": len(tasks),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chaos]:
    folder = tmp_path_factory.mktemp("chaos")
    upstream = await FakeUpstream(chaos).start()
    providers = [
        Provider(name=name, base_url=upstream.url, api_key_env="CHAOS_KEY", price_id="openai", **more)
        for name, (more, _) in PROVIDERS.items()
    ]
    providers.append(Provider(name="dead", base_url=DEAD, auth="none", price_id="openai"))
    routes = [
        Route(
            name=fault,
            targets=(Target(provider=provider_of(fault), model=fault),),
            retry=RetryPolicy(max_attempts=2, base_s=0.001, max_s=0.001),
            breaker=None,
        )
        for fault in ("refuse", "none", *BEHAVIOURS)
    ]
    snapshot = build_snapshot(providers=providers, routes=routes, keys=[key_row(KEY, "test")])
    write_snapshot(folder / "current.json", snapshot)
    sink = SpanList()
    gateway = create_gateway(
        snapshot_path=folder / "current.json",
        sink=sink,
        counters=None,
        internal_key=None,
        environ={"CHAOS_KEY": SECRET},
        prices=PriceBook(fake_cards_for_all),
    )
    async with serve(gateway) as port, aiohttp.ClientSession() as session:
        yield Chaos(f"http://127.0.0.1:{port}", gateway, upstream, session, sink)
    await upstream.stop()


def provider_of(fault: str) -> str:
    if fault == "refuse":
        return "dead"
    return next((name for name, (_, faults) in PROVIDERS.items() if fault in faults), "usual")


def fake_cards_for_all(wanted: Any) -> Any:
    return fake_cards((provider, "gpt-4o-mini") for provider, _ in wanted)


@pytest.fixture(autouse=True)
def _bounds_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (commit, exchange):
        for name in ("MAX_REPLY_BYTES", "MAX_UNCOMMITTED_BYTES"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 4_000_000)


def seen(client: str, status: int, body: bytes, *, stream: bool) -> str:
    """Say in a few words what a client sees."""
    code = re.search(rb"\[(PS-\d+)\]", body)
    told = code.group(1).decode() if code else "the provider's error" if b'"error"' in body else None
    if status != 200:
        return f"{status} {told}"
    if not stream:
        json.loads(body)
        return "200"
    if told is not None:
        return f"200, then {told}"
    is_whole = b"[DONE]" in body if client == "openai" else b"message_stop" in body
    return "200, whole" if is_whole else "200, no end"


def billed(span: Span, lost: list[Span]) -> str:
    """Say what the operator is charged for."""
    assert all(other.usage is not None for other in lost)
    more = f" + {len(lost)} lost" if lost else ""
    if span.cost_source in ("not sent", "refused"):
        assert span.cost_usd == 0
        return f"nothing ({span.cost_source}){more}"
    usage = span.usage
    assert usage is not None
    if not usage.estimated:
        return f"as told{more}"
    return f"estimate of {'input' if usage.output_tokens is None else 'input and output'}{more}"


async def outcome(bench: Chaos, client: str, fault: str, *, stream: bool) -> list[str]:
    """Ask, and return what came of it once nothing is left over of it."""
    bench.sink.spans.clear()
    bench.sink.attempts.clear()
    status, body = await bench.ask(client, fault, stream=stream)
    (span,) = await bench.sink.wait()
    recorded = f"{span.error_code or span.status}, {span.attempts} asked"
    while bench.left_over():
        await asyncio.sleep(0.002)
    assert fault == "refuse" or SECRET.encode() in bench.upstream.seen[-1].head
    written = body + msgspec.json.encode([span, *bench.sink.attempts])
    assert SECRET.encode() not in written
    assert KEY.encode() not in written
    return [seen(client, status, body, stream=stream), billed(span, bench.sink.attempts), recorded]


CASES = [
    pytest.param(row, client, stream, id=f"{row['name']}-{client}-{'stream' if stream else 'plain'}")
    for row in TABLE
    for client in CLIENTS
    for stream in (False, True)
    if ("stream" if stream else "plain") in row
]


@pytest.mark.parametrize(("row", "client", "stream"), CASES)
async def test_a_fault_has_the_outcome_of_its_row(
    bench: Chaos, caplog: pytest.LogCaptureFixture, row: dict[str, Any], client: str, stream: bool
) -> None:
    name = "stream" if stream else "plain"
    expected = row[name] if client == "openai" else row.get(f"{name}_translated", row[name])
    caplog.set_level("DEBUG")
    assert await outcome(bench, client, row["name"], stream=stream) == expected
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


async def test_every_fault_has_a_row() -> None:
    assert [row["name"] for row in TABLE] == ["refuse", *BEHAVIOURS]


async def test_a_provider_that_behaves_has_no_such_outcome(bench: Chaos) -> None:
    assert await outcome(bench, "openai", "none", stream=True) == ["200, whole", "as told", "ok, 1 asked"]
    assert await outcome(bench, "anthropic", "none", stream=False) == ["200", "as told", "ok, 1 asked"]


def n_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_files_are_given_back_after_each_fault(bench: Chaos) -> None:
    async def let_go() -> None:
        await bench.gateway._upstreams.close()
        while bench.upstream.n_open:
            await asyncio.sleep(0.002)

    await let_go()
    before = n_files()
    async with aiohttp.ClientSession() as session:
        other = dataclasses.replace(bench, session=session)
        for fault in ("hang", "close-midway", "reset-midway", "bad-gzip", "status-500", "endless-head"):
            for stream in (False, True):
                await outcome(other, "openai", fault, stream=stream)
    await let_go()
    while n_files() > before:
        await asyncio.sleep(0.01)


async def test_a_storm_of_refusals_is_not_multiplied(bench: Chaos) -> None:
    """Of a route with two attempts, but for the few that are always allowed, one call in ten is asked again."""
    bench.upstream.seen.clear()
    calls = [bench.ask("openai", "status-429", stream=False) for _ in range(200)]
    statuses = {status for status, _ in await asyncio.gather(*calls)}
    assert statuses == {429}
    assert len(bench.upstream.seen) <= 200 * 1.1 + MIN_RETRIES
