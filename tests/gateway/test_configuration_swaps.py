"""Configuration changes under load: no call is lost, streams end where they began, keys open, expire and rotate."""

import asyncio
import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from penstock.deploy.snapshots import build_snapshot, write_snapshot
from penstock.gateway.app import Gateway, create_gateway
from penstock.gateway.opened_secrets import SecretOpener
from penstock.gateway.table import Table
from penstock.providers.prices import PriceBook
from penstock.spec.routes import KeyRow, Provider, Route, Target
from penstock.store.counters import CounterStore
from penstock.store.sealing import MasterKeys, make_master_keys, origin_of
from tests.gateway.conftest import KEY, SpanList, fake_cards, key_row, serve
from tests.gateway.upstream import DONE, STREAM, Exchange, FakeUpstream

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
HOUR_NS = 3_600_000_000_000


class Stage:
    """A gateway that follows a snapshot, and two providers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sink = SpanList()
        self.providers = [FakeUpstream(), FakeUpstream()]
        self.gateway: Gateway | None = None
        self.client: aiohttp.ClientSession | None = None
        self.url = ""

    async def publish(
        self,
        serving: int,
        *,
        keys: Sequence[KeyRow] = (),
        sealed: dict[str, str] | None = None,
        **provider: Any,
    ) -> None:
        """Let route `m` lead to one of the providers, and wait until the gateway has taken that up."""
        rows = [
            Provider(name=f"p{number}", base_url=each.url, auth="none", **provider)
            for number, each in enumerate(self.providers)
        ]
        snapshot = build_snapshot(
            providers=rows,
            routes=[Route(name="m", targets=(Target(provider=f"p{serving}", model="m"),))],
            keys=[key_row(KEY, "test"), *keys],
            secrets=sealed,
        )
        write_snapshot(self.folder / "current.json", snapshot)
        assert self.gateway is not None
        while self.gateway._watch.table is None or self.gateway._watch.table.digest != snapshot.digest:
            await asyncio.sleep(0.002)

    async def ask(self, *, key: str = KEY, stream: bool = False) -> tuple[int, bytes, str | None]:
        assert self.client is not None
        reply = await self.client.post(
            f"{self.url}/v1/chat/completions",
            json={**ASK, "stream": stream},
            headers={"authorization": f"Bearer {key}"},
        )
        return reply.status, await reply.read(), reply.headers.get("x-penstock-provider")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    for provider in made.providers:
        await provider.start()
    counters = CounterStore(tmp_path / "counters")
    made.gateway = create_gateway(
        snapshot_path=tmp_path / "current.json",
        sink=made.sink,
        counters=counters,
        internal_key="internal-secret",
        environ={},
        prices=PriceBook(fake_cards),
        open_secrets=SecretOpener(tmp_path / "master.key"),
        poll_interval_s=0.005,
    )
    async with serve(made.gateway) as port, aiohttp.ClientSession() as client:
        made.url, made.client = f"http://127.0.0.1:{port}", client
        yield made
    for provider in made.providers:
        await provider.stop()
    counters.close()


async def test_fifty_changes_under_load_lose_no_call(stage: Stage) -> None:
    await stage.publish(0)
    stopping = asyncio.Event()
    outcomes: list[tuple[int, bool]] = []

    async def load(stream: bool) -> None:
        while not stopping.is_set():
            status, body, _ = await stage.ask(stream=stream)
            outcomes.append((status, body.endswith(DONE) if stream else b"Drink water" in body))

    callers = [asyncio.create_task(load(number % 2 == 0)) for number in range(6)]
    for number in range(1, 51):
        await stage.publish(number % 2)
        n_before = len(outcomes)
        while len(outcomes) < n_before + 3:  # each configuration serves calls
            await asyncio.sleep(0.001)
    stopping.set()
    await asyncio.gather(*callers)
    assert len(outcomes) >= 150
    assert [outcome for outcome in outcomes if outcome != (200, True)] == []
    assert all(len(provider.seen) > 20 for provider in stage.providers)


async def test_a_stream_in_flight_ends_where_it_began(stage: Stage) -> None:
    going_on = asyncio.Event()

    async def pauses(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1])
        await going_on.wait()
        await exchange.piece(STREAM[2] + STREAM[3] + DONE)
        await exchange.end_stream()

    stage.providers[0].handler = pauses
    await stage.publish(0)
    running = asyncio.create_task(stage.ask(stream=True))
    while not stage.providers[0].seen:
        await asyncio.sleep(0.001)
    await stage.publish(1)
    assert (await stage.ask())[2] == "p1"
    going_on.set()
    status, body, provider = await running
    assert (status, provider) == (200, "p0")
    assert b"water." in body
    assert body.endswith(DONE)


async def test_a_damaged_file_changes_nothing(stage: Stage) -> None:
    await stage.publish(0)
    (stage.folder / "current.json").write_text("{")
    assert stage.gateway is not None
    while stage.gateway._watch.n_rejected == 0:
        await asyncio.sleep(0.002)
    assert (await stage.ask())[0] == 200


def seal(stage: Stage, text: str, *, keys: MasterKeys | None = None) -> dict[str, str]:
    """Return a secret for both providers, which share a host but not a port: it is for the first."""
    keys = keys or make_master_keys(stage.folder / "master.key")
    return {"mine": keys.seal(text, name="mine", origin=origin_of(stage.providers[0].url))}


async def publish_sealed(stage: Stage, sealed: dict[str, str]) -> None:
    row = Provider(name="p0", base_url=stage.providers[0].url, auth="bearer", secret="mine")
    snapshot = build_snapshot(
        providers=[row],
        routes=[Route(name="m", targets=(Target(provider="p0", model="m"),))],
        keys=[key_row(KEY, "test")],
        secrets=sealed,
    )
    write_snapshot(stage.folder / "current.json", snapshot)
    assert stage.gateway is not None
    while stage.gateway._watch.table is None or stage.gateway._watch.table.digest != snapshot.digest:
        await asyncio.sleep(0.002)


async def test_a_sealed_key_reaches_its_provider_and_nobody_else(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await publish_sealed(stage, seal(stage, "sk-sealed-upstream-1"))
    status, body, _ = await stage.ask()
    assert status == 200
    assert stage.providers[0].seen[0].header("authorization") == "Bearer sk-sealed-upstream-1"
    await publish_sealed(stage, seal(stage, "sk-sealed-upstream-2"))
    await stage.ask()
    assert stage.providers[0].seen[1].header("authorization") == "Bearer sk-sealed-upstream-2"

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply({"error": {"message": "no"}}, status=401)

    stage.providers[0].handler = refuses
    _, refusal, _ = await stage.ask()
    spans = await stage.sink.wait(3)
    told = [body, refusal, msgspec.json.encode(spans), caplog.text.encode()]
    assert all(b"sk-sealed" not in text for text in told)
    assert b"sk-sealed" not in (stage.folder / "current.json").read_bytes()


async def test_a_key_that_does_not_open_refuses_its_calls_and_no_others(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    make_master_keys(stage.folder / "master.key")
    await publish_sealed(stage, seal(stage, "sk-sealed", keys=MasterKeys((("mk9", b"x" * 32),))))
    status, body, _ = await stage.ask()
    assert status >= 500
    assert "'mine' could not be opened" in json.loads(body)["error"]["message"]
    assert stage.providers[0].seen == []
    assert "an upstream key stays closed" in caplog.text
    await stage.publish(1)
    assert (await stage.ask())[0] == 200


async def test_without_the_master_key_file_calls_are_refused(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await publish_sealed(stage, seal(stage, "sk-sealed", keys=MasterKeys((("mk9", b"x" * 32),))))
    assert (await stage.ask())[0] >= 500
    assert "no upstream key can be opened" in caplog.text


@pytest.mark.parametrize("kind", ["file that is not there", "file of another kind", "secret of another kind"])
async def test_credentials_of_no_use_refuse_their_calls_and_no_others(
    stage: Stage, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    google = "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google"
    text = '{"type": "authorized_user", "client_id": "not-shown"}'
    path, sealed = stage.folder / "google.json", {}
    assert stage.gateway is not None
    if kind == "secret of another kind":
        keys = make_master_keys(stage.folder / "master.key")
        sealed = {"google": keys.seal(text, name="google", origin=origin_of(google))}
    else:
        stage.gateway._watch._environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
    if kind == "file of another kind":
        path.write_text(text)
    vertex = Provider(
        name="vertex", base_url=google, auth="gcp", dialect="gemini", secret="google" if sealed else None
    )
    both = [Target(provider="vertex", model=name) for name in ("m1", "m2")]
    snapshot = build_snapshot(
        providers=[Provider(name="p0", base_url=stage.providers[0].url, auth="none"), vertex],
        routes=[
            Route(name="m", targets=(Target(provider="p0", model="m"),)),
            Route(name="v", targets=(*both,)),
        ],
        keys=[key_row(KEY, "test")],
        secrets=sealed,
    )
    write_snapshot(stage.folder / "current.json", snapshot)
    while stage.gateway._watch.table is None:
        assert stage.gateway._watch.n_rejected == 0, "one provider's credentials must not stop all the others"
        await asyncio.sleep(0.002)
    assert (await stage.ask())[0] == 200
    assert stage.client is not None
    refused = await stage.client.post(
        f"{stage.url}/v1/chat/completions",
        json={**ASK, "model": "v"},
        headers={"authorization": f"Bearer {KEY}"},
    )
    said = (await refused.json())["error"]["message"]
    assert refused.status >= 500
    assert ("cannot be read" if kind == "file that is not there" else "not the key file") in said
    assert "not-shown" not in said + caplog.text
    assert str(path) not in said
    assert caplog.text.count("credentials cannot be used") == 1, "once, not for each target"


def test_a_secret_is_opened_for_the_provider_it_is_for_and_for_no_other_that_names_it(tmp_path: Path) -> None:
    good = Provider(name="good", base_url="https://api.openai.com/v1", secret="mine")
    evil = Provider(name="evil", base_url="https://evil.example/v1", secret="mine")
    routes = [Route(name=row.name, targets=(Target(provider=row.name, model="m"),)) for row in (good, evil)]
    sealed = make_master_keys(tmp_path / "master.key").seal(
        "sk-real", name="mine", origin="https://api.openai.com"
    )
    snapshot = build_snapshot(providers=[good], routes=routes[:1], keys=[], secrets={"mine": sealed})
    snapshot = msgspec.structs.replace(snapshot, providers=(good, evil), routes=tuple(routes))
    opened = SecretOpener(tmp_path / "master.key")(snapshot)
    table = Table(snapshot, environ={}, internal_key=None, secrets=opened)
    assert b"authorization: Bearer sk-real\r\n" in table.routes["good"].targets[0].head_rest
    (target,) = table.routes["evil"].targets
    assert b"sk-real" not in target.head_rest
    assert target.missing is not None
    assert "could not be opened" in target.missing.hint


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def test_keys_expire_and_a_rotated_text_works_for_its_overlap(stage: Stage) -> None:
    now = time.time_ns()
    await stage.publish(
        0,
        keys=[
            key_row("ps-expired", "old", expires_ns=now - 1),
            key_row("ps-valid", "good", expires_ns=now + HOUR_NS),
            key_row("ps-new", "turned", previous_sha256=digest("ps-before"), previous_until_ns=now + HOUR_NS),
            key_row("ps-new-2", "done", previous_sha256=digest("ps-before-2"), previous_until_ns=now - 1),
        ],
    )
    statuses = {
        key: (await stage.ask(key=key))[0]
        for key in ("ps-expired", "ps-valid", "ps-new", "ps-before", "ps-new-2", "ps-before-2", "ps-none")
    }
    assert statuses == {
        "ps-expired": 401,
        "ps-valid": 200,
        "ps-new": 200,
        "ps-before": 200,
        "ps-new-2": 200,
        "ps-before-2": 401,
        "ps-none": 401,
    }
    error = json.loads((await stage.ask(key="ps-expired"))[1])["error"]
    assert "'old' has expired" in error["message"]
    spans = await stage.sink.wait(4)
    assert {span.key_id for span in spans if span.http_status == 200} >= {"key_turned"}


async def test_a_metrics_key_makes_no_calls(stage: Stage) -> None:
    await stage.publish(0, keys=[key_row("ps-metrics", "prometheus", scopes=("metrics",))])
    assert (await stage.ask(key="ps-metrics"))[0] == 403


def test_a_gateway_without_secrets_loads_no_cipher() -> None:
    probe = (
        "import sys, penstock.gateway.serve; "
        "print([name for name in ('cryptography', 'pydantic', 'sqlalchemy') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=240
    )
    assert run.stdout.strip() == "[]"
