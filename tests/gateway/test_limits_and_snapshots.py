"""Limits hold across processes; snapshots swap under load and bad ones are not taken."""

import asyncio
import json
import multiprocessing
from pathlib import Path

import pytest

from penstock.dialects.openai.envelope import Envelope
from penstock.dialects.openai.usage import UsageObject
from penstock.gateway.admission import Limiter, Reservation
from penstock.gateway.errors import LimitReached
from penstock.spec.snapshot import Snapshot
from penstock.store.counters import CounterStore
from tests.gateway.conftest import KEY, LIMITED_KEY, Bench, key_row, until_ready
from tests.gateway.upstream import REPLY, STREAM, Exchange

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}


def frozen_limiter(counters: CounterStore, now_s: float = 1_000_020.0) -> Limiter:
    return Limiter(counters, now_s=lambda: now_s)


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


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, 10 + 90),
        (UsageObject(prompt_tokens=3), 3 + 90),
        (UsageObject(completion_tokens=4), 10 + 4),
        (UsageObject(prompt_tokens=3, total_tokens=3), 3),
        (UsageObject(prompt_tokens=3, completion_tokens=4, total_tokens=9), 7),
        (UsageObject(prompt_tokens=-50, completion_tokens=4), 4),
    ],
)
def test_what_a_provider_does_not_report_counts_as_reserved(usage: UsageObject | None, tokens: int) -> None:
    reservation = Reservation("k", 0, 10, 90)
    assert reservation.used_tokens(usage, written=55) == tokens


def test_a_reply_that_nothing_bounds_and_nobody_counts_is_estimated() -> None:
    assert Reservation("k", 0, 10, None).used_tokens(None, written=55) == 65


def test_a_reservation_is_for_every_choice_and_never_below_the_prompt(tmp_path: Path) -> None:
    counters = CounterStore(tmp_path)
    row = key_row(KEY, "k", tokens_per_minute=1000)
    limiter = frozen_limiter(counters)
    several = limiter.admit(row, Envelope(model="m", max_tokens=50, n=4), 40)
    negative = limiter.admit(row, Envelope(model="m", max_tokens=-5000), 40)
    counters.close()
    assert several is not None and negative is not None
    assert (several.amount, negative.amount) == (210, 10)


def test_a_call_that_used_nothing_gives_its_tokens_back(tmp_path: Path) -> None:
    counters = CounterStore(tmp_path)
    limiter = frozen_limiter(counters)
    row = key_row(KEY, "k", tokens_per_minute=100)
    reservation = limiter.admit(row, Envelope(model="m", max_tokens=90), 4)
    assert reservation is not None
    with pytest.raises(LimitReached):
        limiter.admit(row, Envelope(model="m", max_tokens=90), 4)
    limiter.settle(reservation, 0)
    assert limiter.admit(row, Envelope(model="m", max_tokens=90), 4) is not None
    counters.close()


def test_a_new_minute_begins_from_zero_and_late_settlements_do_not_touch_it(tmp_path: Path) -> None:
    counters = CounterStore(tmp_path)
    row = key_row(KEY, "k", tokens_per_minute=100)
    early = frozen_limiter(counters).admit(row, Envelope(model="m", max_tokens=90), 4)
    later = frozen_limiter(counters, 1_000_080.0)
    assert later.admit(row, Envelope(model="m", max_tokens=90), 4) is not None
    assert early is not None
    later.settle(early, 0)
    with pytest.raises(LimitReached):
        later.admit(row, Envelope(model="m", max_tokens=90), 4)
    counters.close()


def admit_many(folder: str, results: "multiprocessing.Queue[int]") -> None:
    """Try 150 calls in a process of its own; say how many were let in."""
    counters = CounterStore(Path(folder))
    limiter = frozen_limiter(counters)
    row = key_row(KEY, "k", requests_per_minute=200)
    admitted = 0
    for _ in range(150):
        try:
            limiter.admit(row, Envelope(model="m"), 10)
        except LimitReached:
            continue
        admitted += 1
    counters.close()
    results.put(admitted)


def test_the_limit_is_exact_over_several_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=admit_many, args=(str(tmp_path), results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    total = sum(results.get(timeout=50) for _ in workers)
    for worker in workers:
        worker.join()
    results.close()
    results.join_thread()
    assert total == 200


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
