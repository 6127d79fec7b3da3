"""Limits hold across processes; snapshots swap under load and bad ones are not taken."""

import asyncio
import json
from pathlib import Path

import pytest

from penstock.gateway.snapshots import SnapshotWatch
from penstock.spec.snapshot import Snapshot
from tests.gateway.conftest import KEY, LIMITED_KEY, Bench, key_row, until_ready
from tests.gateway.upstream import REPLY, STREAM, Exchange

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_used_up_limit_is_a_429_that_says_limit_use_and_reset(bench: Bench) -> None:
    bench.write(keys=[key_row(LIMITED_KEY, "limited", requests_per_minute=2), key_row(KEY, "test")])
    await until_ready(bench)
    assert bench.gateway is not None and bench.gateway._limiter is not None
    bench.gateway._limiter._now_s = lambda: 1_000_030.0
    statuses = [(await bench.post(ASK, key=LIMITED_KEY)).status for _ in range(2)]
    response = await bench.post(ASK, key=LIMITED_KEY)
    assert [*statuses, response.status] == [200, 200, 429]
    error = json.loads(await response.read())["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests per minute, 2 used" in error["message"]
    assert "50 s" in error["message"]
    assert response.headers["retry-after"] == "50"
    assert response.headers["x-ratelimit-limit-requests"] == "2"
    assert (await bench.post(ASK)).status == 200
    assert len(bench.upstream.seen) == 3


async def test_tokens_are_reserved_before_and_settled_after_the_call(bench: Bench) -> None:
    bench.write(keys=[key_row(LIMITED_KEY, "limited", tokens_per_minute=120)])
    await until_ready(bench)
    assert bench.gateway is not None and bench.gateway._limiter is not None
    bench.gateway._limiter._now_s = lambda: 1_000_030.0
    statuses = [(await bench.post({**ASK, "max_tokens": 50}, key=LIMITED_KEY)).status for _ in range(3)]
    assert statuses == [200, 200, 429]  # 28 tokens each, then 56 + 69 reserved is over 120
    assert (await bench.post({**ASK, "max_tokens": 20}, key=LIMITED_KEY)).status == 200


async def limited_by_tokens(bench: Bench, tokens_per_minute: int) -> None:
    bench.write(keys=[key_row(LIMITED_KEY, "limited", tokens_per_minute=tokens_per_minute)])
    await until_ready(bench)
    assert bench.gateway is not None and bench.gateway._limiter is not None
    bench.gateway._limiter._now_s = lambda: 1_000_030.0


async def test_a_reply_without_usage_counts_what_was_reserved(bench: Bench) -> None:
    await limited_by_tokens(bench, 200)

    async def says_no_usage(exchange: Exchange) -> None:
        await exchange.reply({**REPLY, "usage": None})

    bench.upstream.handler = says_no_usage
    statuses = [(await bench.post({**ASK, "max_tokens": 100}, key=LIMITED_KEY)).status for _ in range(2)]
    assert statuses == [200, 429]


async def test_a_client_that_leaves_before_the_usage_comes_pays_what_was_reserved(bench: Bench) -> None:
    await limited_by_tokens(bench, 200)

    async def endless(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.piece(STREAM[1])
        await asyncio.Event().wait()

    bench.upstream.handler = endless
    assert bench.client is not None
    body = {**ASK, "stream": True, "max_tokens": 100}
    headers = {"authorization": f"Bearer {LIMITED_KEY}"}
    response = await bench.client.post(bench.url + "/v1/chat/completions", json=body, headers=headers)
    await response.content.readany()
    response.close()
    (span,) = await bench.sink.wait()
    assert span.error_code == "client_gone"
    assert (await bench.post(body, key=LIMITED_KEY)).status == 429


async def test_a_call_that_a_provider_refuses_costs_no_tokens(bench: Bench) -> None:
    await limited_by_tokens(bench, 200)

    async def refuses(exchange: Exchange) -> None:
        await exchange.reply({"error": {"message": "too long", "type": "x", "param": None}}, status=400)

    bench.upstream.handler = refuses
    statuses = [(await bench.post({**ASK, "max_tokens": 100}, key=LIMITED_KEY)).status for _ in range(3)]
    assert statuses == [400, 400, 400]


async def test_a_new_snapshot_is_taken_while_calls_go_on_and_a_bad_one_is_not(ready: Bench) -> None:
    assert ready.gateway is not None
    path = ready.folder / "current.json"
    good = path.read_bytes()
    first = ready.gateway._watch.table
    statuses: list[int] = []

    async def callers() -> None:
        while len(statuses) < 40:
            statuses.append((await ready.post(ASK)).status)

    calling = asyncio.create_task(callers())
    for content in (b"{", good[:-20], b'{"digest": "x", "written_ns": 1}'):
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
        rejected = ready.gateway._watch.n_rejected
        while ready.gateway._watch.n_rejected == rejected:
            await asyncio.sleep(0.005)
        assert ready.gateway._watch.table is first
    ready.write(keys=[key_row(KEY, "test"), key_row(LIMITED_KEY, "late")])
    while ready.gateway._watch.table is first:
        await asyncio.sleep(0.005)
    await calling
    assert set(statuses) == {200}
    assert (await ready.post(ASK, key=LIMITED_KEY)).status == 200


async def test_a_revoked_key_stops_working_and_a_vanished_file_changes_nothing(ready: Bench) -> None:
    assert ready.gateway is not None
    first = ready.gateway._watch.table
    ready.write(keys=[key_row(LIMITED_KEY, "other")])
    while ready.gateway._watch.table is first:
        await asyncio.sleep(0.005)
    assert (await ready.post(ASK)).status == 401
    (ready.folder / "current.json").unlink()
    await asyncio.sleep(0.05)
    assert (await ready.post(ASK, key=LIMITED_KEY)).status == 200


async def test_the_internal_key_may_call(ready: Bench) -> None:
    assert (await ready.post(ASK, key="internal-secret")).status == 200
    (span,) = await ready.sink.wait()
    assert span.key_id == "internal"


async def test_the_watch_outlives_a_snapshot_that_makes_it_stumble(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ready.gateway is not None
    watch = ready.gateway._watch
    first, read = watch.table, watch._read
    stumbled = asyncio.Event()

    def stumble(path: Path) -> Snapshot:
        stumbled.set()
        raise ZeroDivisionError

    monkeypatch.setattr(watch, "_read", stumble)
    ready.write(keys=[key_row(LIMITED_KEY, "other")])
    await stumbled.wait()
    monkeypatch.setattr(watch, "_read", read)
    ready.write(keys=[key_row(LIMITED_KEY, "third")])
    while watch.table is first:
        await asyncio.sleep(0.005)
    assert (await ready.post(ASK)).status == 401


async def test_a_worker_says_that_it_comes_up_before_it_reads_what_it_will_serve_by(
    ready: Bench, tmp_path: Path
) -> None:
    assert ready.gateway is not None
    happened: list[object] = []

    def read(path: Path) -> Snapshot:
        happened.append("read")
        return ready.gateway._watch._read(path)  # type: ignore[union-attr]

    watch = SnapshotWatch(
        ready.gateway._watch._path,
        environ={},
        internal_key=None,
        read=read,
        note_followed=lambda followed: happened.append(followed.oldest_ns),
    )
    assert watch.refresh()
    assert happened[:2] == [0, "read"]
    assert watch.table is not None
    assert happened[2:] == [watch.table.written_ns]
