"""The ledger: each call to a provider once, money as it was, and nothing that is not a call."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.base.digest import digest_request
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import TOKEN_CLASSES, Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.errors import SpanStoreUnreadable
from penstock.store.spans.ledger import LEDGER_COLUMNS
from penstock.store.spans.ledger_types import CostQuery
from penstock.store.spans.rows import RECOVERED
from penstock.store.spans.types import TraceQuery
from tests.fixtures.spans import T0, make_call_trace, make_span

ALL = CostQuery()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


def call(number: int = 1, *, trace: int = 1, **fields: Any) -> Span:
    """Return the gateway's span of one priced call."""
    defaults: dict[str, Any] = {
        "kind": "llm",
        "service": "gateway",
        "route": "chat",
        "provider": "openai",
        "model": "gpt",
        "usage": Usage(input_uncached=100, output_text=10),
        "cost_usd": Decimal("0.001"),
        "cost_source": "settings",
    }
    return make_span(number, trace=trace, **{**defaults, **fields})


def total(store: DuckDBSpanStore) -> tuple[int, Decimal | None]:
    (row,) = store.sum_costs(ALL, [])
    return row.n_calls, row.cost_usd


def test_only_calls_to_models_are_billed_and_an_app_is_not_counted_beside_its_calls(
    store: DuckDBSpanStore,
) -> None:
    trace = [span for span in make_call_trace() if span.service != "gateway"]
    around = call(
        1, provider="apps", cost_usd=Decimal(0), cost_source="local", versions={"app:handbook": "1"}
    )
    below = call(9, parent_id=f"{2:016x}")
    refused = call(10, cost_usd=Decimal(0), cost_source="not sent", provider=None, model=None, usage=None)
    store.append([around, *trace, below, refused])
    assert total(store) == (1, Decimal("0.001"))
    assert [row.span_id for row in store.find_billed(below.trace_id)] == [below.span_id]
    assert store.find_billed(below.span_id) == store.find_billed(below.trace_id)
    assert store.find_billed("nonsense") == []


@pytest.mark.parametrize("parent_comes", ["before", "with", "after"])
def test_the_step_is_the_span_around_the_call_whenever_that_arrives(
    store: DuckDBSpanStore, parent_comes: str
) -> None:
    parent = make_span(2, kind="chain", name="rewrite question")
    child = call(3, parent_id=parent.span_id)
    batches = {"before": [[parent], [child]], "with": [[child, parent]], "after": [[child], [parent]]}
    for batch in batches[parent_comes]:
        store.append(batch)
    (row,) = store.sum_costs(ALL, ["step"])
    assert row.group == {"step": "chain rewrite question"}


def test_a_record_that_comes_again_is_billed_once_also_after_its_trace_was_deleted(
    store: DuckDBSpanStore,
) -> None:
    store.append([call()])
    store.append([call()])
    assert total(store) == (1, Decimal("0.001"))
    for table in ("spans", "traces", "payloads"):
        store.file._connection.execute(f"DELETE FROM {table}").fetchall()
    assert store.list_traces(TraceQuery()).rows == []
    assert total(store) == (1, Decimal("0.001"))
    store.append([call()])
    assert total(store) == (1, Decimal("0.001"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_was_recovered_gives_way_to_the_worker_s_own_record(
    store: DuckDBSpanStore, order: tuple[int, int]
) -> None:
    own = call(end_ns=None, status="unset")
    recovered = call(cost_usd=Decimal(9), attributes={RECOVERED: True})
    for number in order:
        store.append([(own, recovered)[number]])
    assert total(store) == (1, Decimal("0.001"))


def test_what_somebody_sent_is_never_billed_whatever_it_calls_itself(store: DuckDBSpanStore) -> None:
    store.append([call(), call(2, cost_usd=Decimal(5), attributes={FOREIGN_MARK: 1})])
    assert total(store) == (1, Decimal("0.001"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_somebody_sent_never_takes_the_place_of_a_call(
    store: DuckDBSpanStore, order: tuple[int, int]
) -> None:
    own = call(end_ns=None, status="unset", payload_dropped=True)
    sent = make_span(
        1,
        service="shop",
        key_id="key_2",
        input="q",
        output="a",
        cost_usd=Decimal(0),
        attributes={FOREIGN_MARK: 1},
    )
    for number in order:
        store.append([(own, sent)[number]])
    store.append([sent, own])
    assert total(store) == (1, Decimal("0.001"))
    assert [span.service for span in store.get_trace(own.trace_id)] == ["gateway"]


def test_sums_by_any_dimension_add_up_and_say_what_they_leave_out(store: DuckDBSpanStore) -> None:
    day_ns = 86_400 * 10**9
    store.append(
        [
            call(1, key_id="key_a", user_id="ann", versions={"prompt:triage": "3"}),
            call(2, key_id="key_b", model="big", usage=Usage(input_image=7, estimated=True)),
            call(3, key_id="key_b", model="big", cost_usd=None, cost_source="no price", usage=None),
            call(4, key_id="key_b", start_ns=T0 + day_ns, cost_usd=Decimal("0.25")),
            call(
                5,
                cost_usd=Decimal(0),
                cost_source="cache",
                attributes={"penstock.cache": "hit", "penstock.saved_usd": "0.5"},
            ),
        ]
    )
    for dimension in (
        "day",
        "model",
        "provider",
        "key",
        "user",
        "project",
        "route",
        "prompt",
        "step",
        "source",
    ):
        rows = store.sum_costs(ALL, [dimension])
        assert sum(row.n_calls for row in rows) == 5
        assert sum(row.cost_usd or 0 for row in rows) == Decimal("0.252")
    assert [row.group["prompt"] for row in store.sum_costs(ALL, ["prompt"])] == [None, "prompt:triage@3"]
    by_model = {row.group["model"]: row for row in store.sum_costs(ALL, ["model"])}
    assert (by_model["big"].n_unpriced, by_model["big"].n_estimated) == (1, 1)
    assert by_model["big"].estimated_usd == Decimal("0.001")
    assert by_model["big"].classes == {"input_image": 7}
    assert (by_model["gpt"].n_cached, by_model["gpt"].saved_usd) == (1, Decimal("0.5"))
    (one,) = store.sum_costs(CostQuery(key="key_b", until_ns=T0 + day_ns, model="big"), ["day", "key"])
    assert (one.n_calls, one.group) == (2, {"day": "2026-09-21", "key": "key_b"})


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.dictionaries(st.sampled_from(TOKEN_CLASSES), st.integers(0, 999), max_size=4),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_tokens_of_the_ledger_are_the_tokens_of_the_calls(
    store: DuckDBSpanStore, calls: list[tuple[int, dict[str, int]]]
) -> None:
    for table in ("spans", "traces", "payloads", "ledger"):
        store.file._connection.execute(f"DELETE FROM {table}").fetchall()
    spans = [
        call(number, trace=trace, usage=Usage(**counts))
        for number, (trace, counts) in enumerate(calls, start=1)
    ]
    store.append(spans)
    (row,) = store.sum_costs(ALL, [])
    usages = [span.usage for span in spans if span.usage is not None]
    for total_of, attribute in ((row.input_tokens, "input_tokens"), (row.output_tokens, "output_tokens")):
        assert (total_of or 0) == sum(getattr(usage, attribute) or 0 for usage in usages)
    for name in TOKEN_CLASSES:
        assert row.classes.get(name, 0) == sum(getattr(usage, name) or 0 for usage in usages)


def test_equal_requests_are_known_by_their_digest_whoever_sends_them_and_however(
    store: DuckDBSpanStore,
) -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    same = {"stream": True, "user": "ann", **dict(reversed(ask.items()))}
    store.append([call(1, input=ask), call(2, input=same), call(3, input={**ask, "temperature": 1})])
    digests = [row.request_digest for row in store.list_traffic(ALL, limit=10)]
    assert digests[0] == digests[1] == digest_request(ask)
    assert digests[2] != digests[0]


def test_a_file_of_the_first_version_is_brought_up_to_date_with_its_calls_in_the_ledger(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.duckdb"
    store = DuckDBSpanStore(path)
    parent = make_span(2, kind="chain", name="plan")
    store.append([parent, call(1, parent_id=parent.span_id), call(3, versions={"app:x": "1"})])
    store.close()
    with duckdb.connect(str(path)) as connection:  # as the first version had it
        for name in ("input_image", "input_cache_write_1h", "output_image"):
            connection.execute(f"ALTER TABLE spans DROP COLUMN {name}").fetchall()
        connection.execute("DROP TABLE ledger").fetchall()
        connection.execute("UPDATE store_meta SET schema_version = 1").fetchall()
    with pytest.raises(SpanStoreUnreadable, match="older"):
        DuckDBSpanStore(path, read_only=True)
    store = DuckDBSpanStore(path)
    assert total(store) == (1, Decimal("0.001"))
    assert store.sum_costs(ALL, ["step"])[0].group == {"step": "chain plan"}
    later = call(8, usage=Usage(input_image=5, input_cache_write_1h=6, output_image=7, output_text=1))
    store.append([later])
    (found,) = (span for span in store.get_trace(later.trace_id) if span.span_id == later.span_id)
    assert found.usage == later.usage
    summary = store.get_summary(later.trace_id)
    assert summary is not None
    assert (summary.input_tokens, summary.output_tokens) == (100 + 100 + 11, 10 + 10 + 8)
    store.close()
    reader = DuckDBSpanStore(path, read_only=True)
    assert total(reader)[0] == 2
    reader.close()


def test_the_ledger_has_a_column_for_every_usage_class() -> None:
    assert set(TOKEN_CLASSES) <= {name for name, _ in LEDGER_COLUMNS}
