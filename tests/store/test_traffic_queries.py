"""Traffic by route and by provider: calls count for who served them, failed attempts for who was asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.spec.spans import Span, SpanEvent
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.traffic_queries import N_SLICES

MS = 1_000_000
HOUR = 3600 * 1000 * MS


def call(number: int, **fields: Any) -> Span:
    at = fields.pop("at", number * MS)
    told = {"status": "ok", "route": "chat", "provider": "cloud", "kind": "llm", **fields}
    return Span(
        trace_id=f"{number + 1:032x}",
        span_id=f"{number + 1:016x}",
        name="chat",
        service="gateway",
        start_ns=at,
        end_ns=at + 100 * MS,
        **told,
    )


def tried(provider: str, outcome: str = "failed") -> SpanEvent:
    attributes = {"provider": provider, "model": "m", "outcome": outcome, "reason": "503"}
    return SpanEvent(name="attempt failed", time_ns=1, attributes=attributes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    found = DuckDBSpanStore(tmp_path / "spans.duckdb")
    yield found
    found.close()


def test_routes_count_calls_by_slice(store: DuckDBSpanStore) -> None:
    spans = [call(1), call(2, status="error"), call(3, at=HOUR - 1), call(4, route="other")]
    store.append([*spans, call(5, at=HOUR), call(6, kind="attempt"), call(7, kind="app")])
    chat, other = store.list_route_traffic("route", 0, HOUR)
    assert (chat.name, chat.n_calls, chat.n_errors, other.n_calls) == ("chat", 3, 1, 1)
    assert (chat.p50_ms, chat.p95_ms) == (100.0, 100.0)
    assert len(chat.calls) == N_SLICES and (chat.calls[0], chat.calls[-1], chat.errors[0]) == (2, 1, 1)


def test_providers_count_what_was_asked_of_them_also_when_another_served(store: DuckDBSpanStore) -> None:
    saved = call(1, events=[tried("flaky"), tried("flaky"), tried("slow", "abandoned")])
    lost = call(2, status="error", provider="flaky", events=[tried("flaky")])
    broken = call(3, status="error")  # after its first content: no attempt failed
    other = call(4, events=[SpanEvent(name="note", time_ns=1, attributes={"provider": "none"})])
    store.append([saved, lost, broken, other, call(5, kind="attempt", provider="flaky")])
    found = {row.name: (row.n_calls, row.n_errors) for row in store.list_route_traffic("provider", 0, HOUR)}
    assert found == {"flaky": (3, 3), "cloud": (3, 1), "slow": (1, 0)}


def test_an_empty_window_has_no_traffic(store: DuckDBSpanStore) -> None:
    assert store.list_route_traffic("provider", 5, 5) == []
    assert store.list_route_traffic("route", 0, HOUR) == []
