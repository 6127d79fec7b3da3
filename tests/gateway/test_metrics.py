"""Counts of all workers, dead ones included, as Prometheus and OpenMetrics read them, for those who may read them."""

import asyncio
import fcntl
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dialects.port import Envelope
from penstock.gateway.calls import AttemptRecord, Call
from penstock.gateway.endpoints import CALLS
from penstock.gateway.metering import families as named
from penstock.gateway.metering.cells import Cells, read_series
from penstock.gateway.metering.text import OPEN, PLAIN, choose_format, write_text
from penstock.gateway.metering.totals import Totals, collect
from penstock.gateway.metrics import Metrics
from penstock.gateway.metrics_page import is_loopback
from penstock.spec.routes import Route
from penstock.spec.usage import Cost, Usage
from tests.gateway.conftest import KEY, Bench, key_row, until_ready
from tests.gateway.routing.scripted import Scene, targets

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parse(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read a page as a scraper does; anything it could not read fails."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for line in page.decode().splitlines():
        if line.startswith("#"):
            continue
        found = SAMPLE.fullmatch(line)
        assert found is not None, line
        key = found.group(1), frozenset(LABEL.findall(found.group(2) or ""))
        assert key not in samples, f"twice: {line}"
        samples[key] = float(found.group(3))
    return samples


def value(page: bytes, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    wanted = set(labels.items())
    return sum(number for (found, pairs), number in parse(page).items() if found == name and wanted <= pairs)


def finished_call(model: str = "r", **fields: Any) -> Call:
    scene = Scene(Route(name=model, targets=targets("fake")))
    call = scene.call(model)
    assert call.route is not None
    call.target = call.route.targets[0]
    record = AttemptRecord(call.target)
    record.outcome = "served"
    call.attempt_log.append(record)
    call.attempts = 1
    call.http_status = 200
    call.overhead_ms = 0.4
    for name, content in fields.items():
        setattr(call, name, content)
    return call


async def page_of(metrics: Metrics) -> bytes:
    return await metrics.write_page(None, PLAIN)


async def test_a_call_is_counted_in_every_way() -> None:
    metrics = Metrics()
    usage = Usage(input_uncached=100, output_text=20)
    metrics.observe(
        finished_call(
            ttft_ms=30.0, usage=usage, cost=Cost(usd=Decimal("0.25"), source="s"), cache_state="miss"
        )
    )
    metrics.observe(finished_call())
    page = await page_of(metrics)
    place = {"route": "r", "provider": "fake", "model": "m"}
    assert value(page, "penstock_requests_total", **place, status="200", dialect="openai") == 2
    assert value(page, "penstock_attempts_total", provider="fake", outcome="served") == 2
    assert value(page, "penstock_cost_usd_total", **place) == 0.25
    assert value(page, "penstock_cache_total", route="r", state="miss") == 1
    assert value(page, "penstock_overhead_seconds_count", dialect="openai") == 2
    assert value(page, "penstock_overhead_seconds_sum") == pytest.approx(0.0008)
    assert value(page, "gen_ai_client_operation_duration_seconds_count", gen_ai_request_model="r") == 2
    assert value(page, "gen_ai_server_time_to_first_token_seconds_bucket", le="0.02") == 0
    assert value(page, "gen_ai_server_time_to_first_token_seconds_bucket", le="0.04") == 1
    assert value(page, "gen_ai_client_token_usage_sum", gen_ai_token_type="input") == 100
    assert value(page, "gen_ai_client_token_usage_bucket", gen_ai_token_type="output", le="16.0") == 0
    assert value(page, "gen_ai_client_token_usage_bucket", gen_ai_token_type="output", le="64.0") == 1


async def test_calls_of_unknown_cost_are_counted_and_are_no_zero_dollars() -> None:
    metrics = Metrics()
    unknown = Cost(usd=None, source="no price")
    for model in ("odd", "odd", "known"):
        metrics.observe(finished_call(model, cost=unknown))
    for usd in ("0", "0.5", "0.25"):
        metrics.observe(finished_call("known", cost=Cost(usd=Decimal(usd), source="s")))
    metrics.observe(finished_call("unserved", target=None, cost=Cost(usd=Decimal(0), source="not sent")))
    page = await page_of(metrics)
    assert value(page, "penstock_unpriced_total", route="odd") == 2
    assert value(page, "penstock_unpriced_total", route="known") == 1
    assert value(page, "penstock_cost_usd_total", route="known") == 0.75
    told = [line for line in page.decode().splitlines() if line.startswith("penstock_cost_usd_total{")]
    assert len(told) == 1, told


async def test_failures_retries_and_limits_are_counted() -> None:
    metrics = Metrics()
    lost = finished_call(http_status=502, error_code="PS-4214", attempts=3)
    for outcome in ("failed", "refused"):
        record = AttemptRecord(lost.attempt_log[0].target)
        record.outcome = outcome  # type: ignore[assignment]
        lost.attempt_log.append(record)
    metrics.observe(lost)
    limited = Call(CALLS["/v1/messages"], None)
    limited.envelope, limited.http_status, limited.error_code = Envelope(model="r"), 429, "PS-2641"
    metrics.observe(limited)
    page = await page_of(metrics)
    assert value(page, "penstock_retries_total", route="r") == 2
    assert value(page, "penstock_attempts_total", outcome="refused") == 1
    assert value(page, "penstock_errors_total", code="PS-4214") == 1
    assert value(page, "penstock_limits_refused_total", limit="budget") == 1
    assert value(page, "penstock_requests_total", status="429", dialect="anthropic", provider="") == 1
    duration = "gen_ai_client_operation_duration_seconds_count"
    assert value(page, duration, error_type="PS-4214") == 1


async def test_calls_that_a_fallback_served_count_for_the_route_asked_for() -> None:
    metrics = Metrics()
    fallen = finished_call("asked", cost=Cost(usd=Decimal("0.1"), source="s"), attempts=2)
    fallen.asked = fallen.route
    fallen.route = finished_call("spare").route
    for _ in range(3):
        metrics.observe(fallen)
    metrics.observe(finished_call("asked"))
    page = await page_of(metrics)
    assert value(page, "penstock_requests_total", route="asked") == 4
    assert value(page, "penstock_retries_total", route="asked") == 3
    assert value(page, "penstock_fallbacks_total", route="asked", to="spare") == 3
    assert b'penstock_cost_usd_total{route="asked",provider="fake",model="m"} 0.3\n' in page
    assert b'route="spare"' not in page


async def test_what_never_happened_has_no_series() -> None:
    metrics = Metrics()
    metrics.observe(
        finished_call(http_status=503, error_code="PS-4602", target=None, attempt_log=[], overhead_ms=None)
    )
    page = (await page_of(metrics)).decode()
    assert "penstock_requests_total{" in page
    for name in ("penstock_attempts_total", "penstock_overhead_seconds", "gen_ai_client_token_usage"):
        assert name not in page


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Metrics]]:
    """Makes workers that share a folder."""
    made: list[Metrics] = []

    def make() -> Metrics:
        made.append(Metrics(tmp_path))
        return made[-1]

    yield make
    for metrics in made:
        metrics.close()


async def test_workers_are_summed_whoever_is_asked(worker: Callable[[], Metrics]) -> None:
    workers = [worker() for _ in range(3)]
    for number, one in enumerate(workers, start=1):
        for _ in range(number):
            one.observe(finished_call())
    for one in workers:
        assert value(await page_of(one), "penstock_requests_total") == 6


def _count_until_killed(folder: Path, started: Any) -> None:
    metrics = Metrics(folder)
    for _ in range(5):
        metrics.observe(finished_call())
    metrics.note_state()
    started.set()
    signal.pause()


async def test_counts_of_a_killed_worker_stay_and_are_counted_once(
    tmp_path: Path, worker: Callable[[], Metrics]
) -> None:
    context = multiprocessing.get_context("spawn")
    own = worker()
    own.observe(finished_call())
    started = context.Event()
    child = context.Process(target=_count_until_killed, args=(tmp_path, started))
    child.start()
    try:
        assert await asyncio.to_thread(started.wait, 30)
        page = await page_of(own)
        assert value(page, "penstock_requests_total") == 6
        assert len([key for key in parse(page) if key[0] == "penstock_calls_in_flight"]) == 2
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.join(120)
        child.close()
    for _ in range(3):
        page = await page_of(own)
        assert value(page, "penstock_requests_total") == 6
        assert len([key for key in parse(page) if key[0] == "penstock_calls_in_flight"]) == 1
    assert len(list(tmp_path.glob("*.bin"))) == 1, "folded away"
    assert value(await page_of(worker()), "penstock_requests_total") == 6


def leave_dead_worker(folder: Path, name: str, amount: float) -> None:
    cells = Cells(folder / name)
    at = cells.place(named.RETRIES, ("r",))
    assert at is not None
    cells.floats[at] = amount
    cells.close()


def retries(totals: Totals) -> float:
    return totals[named.RETRIES.name, ("r",)][0]


def test_a_death_between_the_two_steps_of_folding_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_dead_worker(tmp_path, "1-1.bin", 3.0)
    own = Cells(None)
    raw = own.read()
    monkeypatch.setattr("penstock.gateway.metering.totals._remove", lambda folder, names: None)
    assert retries(collect(tmp_path, raw, "own.bin")) == 3.0
    assert (tmp_path / "1-1.bin").exists(), "the process died before it removed the file"
    monkeypatch.undo()
    leave_dead_worker(tmp_path, "1-2.bin", 4.0)
    assert retries(collect(tmp_path, raw, "own.bin")) == 7.0
    assert list(tmp_path.glob("*.bin")) == []
    assert retries(collect(tmp_path, raw, "own.bin")) == 7.0


def test_while_somebody_else_folds_nothing_is_folded_but_all_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_dead_worker(tmp_path, "1-1.bin", 3.0)
    monkeypatch.setattr("penstock.gateway.metering.totals._LOCK_WAIT_S", 0.0)
    with (tmp_path / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert retries(collect(tmp_path, Cells(None).read(), "own.bin")) == 3.0
    assert (tmp_path / "1-1.bin").exists()


@given(cut=st.integers(0, 400), noise=st.binary(max_size=40))
def test_a_damaged_file_is_read_as_far_as_it_goes(cut: int, noise: bytes) -> None:
    cells = Cells(None, size=4096)
    for number in range(3):
        at = cells.place(named.RETRIES, (f"route {number}",))
        assert at is not None
        cells.floats[at] = 1.0
    whole = list(read_series(cells.read()))
    found = list(read_series(cells.read()[:cut] + noise))
    assert len(found) <= len(whole)
    assert [name for name, _ in found][: max(0, len(found) - 1)] == [name for name, _ in whole][
        : max(0, len(found) - 1)
    ]


async def test_labels_of_callers_cannot_fill_the_memory() -> None:
    metrics = Metrics()
    metrics.observe(finished_call("early"))
    number = 0
    while metrics._cells.has_room:
        number += 1
        metrics.place(named.DURATION, ("chat", "p", f"route {number}", "m", ""))
    n_series = len(metrics._series)
    for late in range(20):
        call = finished_call(f"late {late}", attempts=2)
        call.attempt_log.append(call.attempt_log[0])
        metrics.observe(call)
    metrics.observe(finished_call("early"))
    assert len(metrics._series) == n_series + 1
    page = await page_of(metrics)
    assert value(page, "penstock_requests_total", route="other", status="200") == 20
    assert value(page, "penstock_retries_total", route="other") == 20
    assert value(page, "penstock_requests_total", route="early") == 2


async def test_model_names_that_callers_make_up_take_no_room() -> None:
    metrics = Metrics()
    for number in range(50):
        scene = Scene(Route(name="fake/*", targets=targets("fake")))
        for call in (scene.call(f"fake/made-up-{number}"), scene.call("fake/known")):
            assert call.route is not None
            call.target = call.route.targets[0]
            call.attempt_log.append(AttemptRecord(call.target))
            call.attempts, call.http_status = 1, 200
            call.attempt_log[0].outcome = "served"
            if "made-up" in call.target.model:
                call.attempt_log[0].outcome, call.http_status, call.error_code = "refused", 404, "PS-4604"
            metrics.observe(call)
    page = await page_of(metrics)
    assert b"made-up" not in page
    assert value(page, "penstock_requests_total", route="fake/*", model="*", status="404") == 50
    assert value(page, "penstock_attempts_total", model="*", outcome="refused") == 50
    assert value(page, "penstock_requests_total", route="fake/known", model="known", status="200") == 50


def test_what_has_no_place_of_its_own_takes_no_memory_either() -> None:
    metrics = Metrics()
    for number in range(20_000):
        metrics.count(named.ATTEMPTS, "p", f"model-{number}", "failed")
    n_places = len(metrics._single)
    for number in range(1000):
        metrics.count(named.ATTEMPTS, "p", f"late-{number}", "failed")
    assert len(metrics._single) == n_places < 20_000


def test_a_full_file_counts_new_series_with_others() -> None:
    cells = Cells(None, size=256)
    assert cells.place(named.RETRIES, ("first",)) is not None
    assert cells.place(named.RETRIES, ("x" * 300,)) is None
    assert cells.place(named.RETRIES, ("first",)) is not None


NASTY = st.text(max_size=20)


@given(routes=st.lists(NASTY, unique=True, max_size=5), content_type=st.sampled_from([PLAIN, OPEN]))
def test_whatever_a_route_is_called_the_page_can_be_read(routes: list[str], content_type: bytes) -> None:
    totals: Totals = {(named.RETRIES.name, (route,)): [2.5] for route in routes}
    page = write_text(totals, content_type)
    lines = [line for line in page.decode().split("\n") if line and not line.startswith("#")]
    assert len(lines) == len(routes)
    for line in lines:
        found = re.fullmatch(r'penstock_retries_total\{route="((?:[^"\\\n]|\\["\\n])*)"\} 2\.5', line)
        assert found is not None
        assert re.sub(r"\\(.)", lambda part: {"n": "\n"}.get(part[1], part[1]), found.group(1)) in routes


def test_buckets_are_cumulative_and_end_with_the_count() -> None:
    n_values = named.OVERHEAD.n_values
    values = [float(number) for number in range(n_values)]
    page = write_text({(named.OVERHEAD.name, ("openai",)): values}, PLAIN).decode()
    counts = [float(number) for number in re.findall(r"_bucket\{.*\} (\S+)", page)]
    assert counts == sorted(counts)
    assert 'le="+Inf"} 78' in page
    assert '_count{dialect="openai"} 78' in page


def test_openmetrics_names_counters_without_their_suffix_and_ends_with_eof() -> None:
    totals: Totals = {(named.RETRIES.name, ("r",)): [1.0]}
    page = write_text(totals, OPEN).decode()
    assert "# TYPE penstock_retries counter\n" in page
    assert page.endswith("# EOF\n")
    assert "# TYPE penstock_retries_total counter\n" in write_text(totals, PLAIN).decode()
    assert choose_format(b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5") == OPEN
    assert choose_format(b"*/*") == PLAIN


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("gate", False)],
)  # fmt: skip
def test_only_listeners_of_this_machine_are_open(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def get(bench: Bench, path: str = "/metrics", **headers: str) -> tuple[int, bytes, str]:
    assert bench.client is not None
    async with bench.client.get(bench.url + path, headers=headers) as response:
        return response.status, await response.read(), response.headers["content-type"]


async def test_the_page_needs_a_key_that_may_read_it(bench: Bench) -> None:
    bench.write(keys=[key_row(KEY, "caller"), key_row("ps-m", "prometheus", scopes=("metrics",)), key_row("ps-o", "o", scopes=("owner",))])  # fmt: skip
    await until_ready(bench)
    assert (await get(bench))[0] == 401
    status, body, _ = await get(bench, authorization=f"Bearer {KEY}")
    assert status == 403
    assert "scope `metrics`" in json.loads(body)["error"]["message"]
    assert (await get(bench, authorization="Bearer ps-o"))[0] == 200
    status, body, content_type = await get(bench, authorization="Bearer ps-m")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert (await bench.post({"model": "triage", "messages": []}, key="ps-m")).status == 403


async def test_a_served_call_is_on_the_page_with_its_target(ready: Bench) -> None:
    assert ready.gateway is not None
    ready.gateway._metrics_open = True
    response = await ready.post({"model": "triage", "messages": [{"role": "user", "content": "hi"}]})
    assert response.status == 200
    await ready.sink.wait()
    _, page, _ = await get(ready)
    place = {"route": "triage", "provider": "fake", "model": "gpt-4o-mini"}
    assert value(page, "penstock_requests_total", **place, status="200") == 1
    assert value(page, "gen_ai_client_token_usage_sum", gen_ai_token_type="output") == 8
    assert value(page, "penstock_breaker_state", **place) == 0
    assert value(page, "penstock_target_in_flight", **place) == 0
    assert value(page, "penstock_workers") == 1
    assert value(page, "penstock_resident_memory_bytes") > 1e6
