"""Money over recorded traffic: sums, why a call cost what it did, and what could have been saved."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.providers.prices import PriceBook
from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.spans import Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.ledger_types import CostQuery, Traffic
from penstock.traces.costs.advice import find_repeats
from penstock.traces.costs.errors import UnknownCall, UnknownDimension
from penstock.traces.costs.exports import read_export
from penstock.traces.costs.service import CostService, day_start_ns
from tests.fixtures.spans import T0, make_span

RATES = {"input_uncached": "2", "input_cache_read": "0.5", "output_text": "10"}
S = 1_000_000_000


def cards(wanted: Any) -> list[RateCard]:
    def card(model: str) -> RateCard:
        if model == "unknown":
            return RateCard(source="table", reason="table has no price for 'unknown'")
        factor = Decimal(1) if model == "big" else Decimal("0.1")
        rates = {name: Rate(usd=Decimal(usd) * factor) for name, usd in RATES.items()}
        return RateCard(source="table", sets=[RateSet(rates=rates)])

    return [card(model) for _, model in wanted]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def costs(store: DuckDBSpanStore) -> CostService:
    return CostService(store, PriceBook(cards))


def call(number: int, *, at_s: float = 0, ask: str = "hello", system: str = "", **fields: Any) -> Span:
    """Return the span of one call to `big` that read 1000 tokens and wrote 100: 0.003 USD."""
    messages = [{"role": "system", "content": system}] if system else []
    defaults: dict[str, Any] = {
        "kind": "llm",
        "service": "gateway",
        "route": "chat",
        "provider": "lab",
        "model": "big",
        "start_ns": T0 + int(at_s * S),
        "end_ns": T0 + int(at_s * S) + S,
        "usage": Usage(input_uncached=1000, output_text=100),
        "cost_usd": Decimal("0.003"),
        "cost_source": "table",
        "attributes": {"penstock.cost.rates": {"input_uncached": "2", "output_text": "10"}},
        "input": {"model": "chat", "messages": [*messages, {"role": "user", "content": ask}]},
    }
    return make_span(number, trace=number, **{**defaults, **fields})


def test_sums_come_with_their_total_and_unknown_groups_are_refused(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    store.append([call(1), call(2, model="small", cost_usd=None, cost_source="no price")])
    report = costs.sum_costs(CostQuery(), ["route", "model"])
    assert report.by == ["route", "model"]
    assert [row.group for row in report.rows] == [
        {"route": "chat", "model": "big"},
        {"route": "chat", "model": "small"},
    ]
    assert (report.total.n_calls, report.total.cost_usd, report.total.n_unpriced) == (2, Decimal("0.003"), 1)
    for wrong in (["colour"], ["model", "model"]):
        with pytest.raises(UnknownDimension):
            costs.sum_costs(CostQuery(), wrong)
    with pytest.raises(InvalidInput):
        costs.sum_costs(CostQuery(since_ns=2, until_ns=1), [])


def test_the_parts_of_a_cost_add_up_to_it(store: DuckDBSpanStore, costs: CostService) -> None:
    rates = {"input_uncached": "2", "output_text": "10"}
    store.append([call(1, cost_usd=Decimal("0.013"), attributes={"penstock.cost.rates": rates})])
    (one,) = costs.explain(f"{1:032X}")
    assert [(part.usage_class, part.tokens, part.usd) for part in one.parts] == [
        ("input_uncached", 1000, Decimal("0.002")),
        ("output_text", 100, Decimal("0.001")),
    ]
    assert one.other_usd == Decimal("0.010")
    assert sum((part.usd or 0 for part in one.parts), one.other_usd or 0) == one.call.cost_usd
    assert costs.explain(f"{1:016x}") == [one]
    with pytest.raises(UnknownCall):
        costs.explain("ffffffffffffffff")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "Priced by table, at the time of the call"),
        ({"cost_source": "table (input_audio at the input rate)"}, "no price of its own for these tokens"),
        ({"cost_source": "settings"}, "Priced by your own"),
        (
            {"cost_source": "settings (input_cache_read at the input rate)"},
            "input_cache_read at the input rate. If the provider charges otherwise, add theirs: penstock price edit lab/big",
        ),
        (
            {"cost_source": "settings has no price for output_text tokens", "cost_usd": None},
            "Add it: penstock price edit lab/big",
        ),
        ({"cost_source": "provider"}, "The provider itself told this sum"),
        ({"cost_source": "local", "cost_usd": Decimal(0)}, "runs here: no charge"),
        ({"cost_source": "no price for it", "cost_usd": None}, "The cost is unknown: no price for it"),
        ({"usage": Usage(input_uncached=1, estimated=True)}, "Tokens are estimated"),
        ({"kind": "attempt"}, "another attempt served the call"),
        ({"error_code": "PS-9661"}, "The worker died"),
        (
            {
                "cost_source": "cache",
                "cost_usd": Decimal(0),
                "attributes": {"penstock.cache": "hit", "penstock.saved_usd": "0.003"},
            },
            "It saved 0.003",
        ),
    ],
)
def test_why_says_where_the_number_is_from(
    store: DuckDBSpanStore, costs: CostService, fields: dict[str, Any], told: str
) -> None:
    store.append([call(1, **fields)])
    (one,) = costs.explain(f"{1:016x}")
    assert told in " ".join(one.why)


def test_a_cache_would_have_answered_what_was_asked_again_in_time(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    store.append(
        [
            call(1, at_s=0),
            call(2, at_s=50),
            call(3, at_s=101),  # the reply of the first is too old by then, and this one is kept
            call(4, at_s=150),
            call(5, at_s=10, ask="other"),
            call(6, at_s=20, project="elsewhere"),
            call(7, at_s=160, cost_usd=None, cost_source="no price"),
            call(8, at_s=30, cost_usd=Decimal(0), cost_source="cache", attributes={"penstock.cache": "hit"}),
        ]
    )
    advice = costs.advise(CostQuery(), ttl_s=100)
    (route,) = advice.cache
    assert (route.n_calls, route.n_repeats, route.n_unpriced) == (7, 3, 1)
    assert route.saved_usd == Decimal("0.006")
    assert advice.n_calls == 7


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("abc")), max_size=20), st.integers(1, 300))
def test_the_advice_on_caches_is_what_a_simulated_cache_does(
    asked: list[tuple[int, str]], ttl_s: int
) -> None:
    traffic = [
        Traffic(
            start_ns=at * S,
            project="p",
            route="r",
            provider="lab",
            model="big",
            cost_usd=Decimal(1),
            rates={},
            classes={},
            request_digest=what,
            prefix_digest=None,
            prefix_tokens=None,
        )
        for at, what in sorted(asked)
    ]
    kept: dict[str, int] = {}
    hits = 0
    for at, what in sorted(asked):
        if what in kept and at - kept[what] <= ttl_s:
            hits += 1
        else:
            kept[what] = at
    found = find_repeats(traffic, ttl_s=ttl_s)
    assert sum(one.n_repeats for one in found) == hits
    assert sum((one.saved_usd for one in found), Decimal(0)) == hits


def test_the_same_tokens_are_priced_at_cheaper_models_with_the_doubt_said(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    store.append([call(1), call(2), call(3, route="other")])
    advice = costs.advise(CostQuery(), candidates=["lab/small", "lab/unknown", "lab/big"])
    assert [(one.route, one.candidate, one.n_calls) for one in advice.models] == [
        ("chat", "lab/small", 2),
        ("other", "lab/small", 1),
    ]
    first = advice.models[0]
    assert (first.cost_usd, first.candidate_usd, first.saved_usd) == (
        Decimal("0.006"),
        Decimal("0.0006"),
        Decimal("0.0054"),
    )
    assert "if quality holds" in first.note
    with pytest.raises(InvalidInput):
        costs.advise(CostQuery(), candidates=["small"])


def test_beginnings_that_providers_had_just_seen_and_that_were_paid_in_full_are_counted(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    system = "Follow the rules. " * 400
    cached = Usage(input_uncached=200, input_cache_read=1800, output_text=1)
    full = Usage(input_uncached=2000, output_text=1)
    store.append(
        [
            call(1, at_s=0, system=system, usage=full, ask="1"),
            call(2, at_s=100, system=system, usage=full, ask="2"),
            call(3, at_s=200, system=system, usage=cached, ask="3"),
            call(4, at_s=900, system=system, usage=full, ask="4"),  # too late
            call(5, at_s=901, system="short", usage=full, ask="5"),
        ]
    )
    (one,) = costs.advise(CostQuery()).prefixes
    assert (one.n_calls, one.n_repeats, one.read_tokens) == (4, 2, 1800)
    tokens = one.prefix_tokens // 2
    assert one.missed_share == Decimal(2 * tokens - 1800) / (2 * tokens)
    assert one.saved_usd == Decimal("1.5") * (2 * tokens - 1800) / 1_000_000


def test_other_models_are_those_that_do_the_same_work(store: DuckDBSpanStore, costs: CostService) -> None:
    vectors = Usage(input_uncached=10)
    store.append(
        [
            call(1),
            call(2, model="small"),
            call(3, kind="embedding", provider="engine", model="minilm", usage=vectors),
            call(4, provider="lab", model="rerank", usage=vectors),
            call(5, kind="attempt", model="lost"),
        ]
    )
    advice = costs.advise(CostQuery())
    assert {(one.model, one.candidate) for one in advice.models} >= {("big", "lab/small")}
    assert not {"engine/minilm", "lab/rerank", "lab/lost"} & {
        one.candidate for one in advice.models if one.model == "big"
    }
    named = costs.advise(CostQuery(), candidates=["engine/minilm"])
    assert ("big", "engine/minilm") in {(one.model, one.candidate) for one in named.models}, (
        "asked for by name"
    )


def test_what_runs_here_is_no_difference_to_a_bill(store: DuckDBSpanStore, costs: CostService) -> None:
    own = {"provider": "engine", "cost_usd": Decimal(0), "cost_source": "local"}
    store.append([call(1), call(2, model="pocket", **own), call(3, kind="embedding", model="minilm", **own)])
    day = costs.sum_costs(CostQuery(), ["day"]).rows[0].group["day"]
    export = read_export(f"day,model,requests,input,output\n{day},big,1,1000,100\n".encode())
    found = costs.reconcile(export, provider=None, tolerance=Decimal(0))
    assert (found.is_within, found.n_compared) == (True, 3)
    assert costs.sum_costs(CostQuery(), []).total.n_calls == 3


def test_what_the_cache_answered_uses_no_tokens_and_estimates_are_counted_apart(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    kept = {"penstock.cache": "hit", "penstock.saved_usd": "0.003"}
    hit = call(2, provider=None, cost_usd=Decimal(0), cost_source="cache", attributes=kept)
    guessed = call(3, usage=Usage(input_uncached=7, output_text=5, estimated=True))
    store.append([call(1), hit, guessed])
    (by_provider, from_cache) = sorted(
        costs.sum_costs(CostQuery(), ["provider"]).rows, key=lambda row: row.n_cached
    )
    assert (by_provider.n_calls, by_provider.input_tokens, by_provider.output_tokens) == (2, 1007, 105)
    assert (by_provider.estimated_input_tokens, by_provider.estimated_output_tokens) == (7, 5)
    assert (from_cache.n_calls, from_cache.input_tokens, from_cache.output_tokens) == (1, 0, 0)
    assert (from_cache.classes, from_cache.saved_usd) == ({}, Decimal("0.003"))


def test_days_begin_at_midnight_utc() -> None:
    assert day_start_ns("2026-09-21") == 1_789_948_800 * S


def test_calls_that_the_cache_answered_are_no_difference_to_a_bill(
    store: DuckDBSpanStore, costs: CostService
) -> None:
    kept = {"penstock.cache": "hit", "penstock.saved_usd": "0.003"}
    hit = call(2, provider=None, cost_usd=Decimal(0), cost_source="cache", attributes=kept)
    store.append([call(1), hit])
    day = costs.sum_costs(CostQuery(), ["day"]).rows[0].group["day"]
    export = read_export(f"day,model,requests,input,output\n{day},big,1,1000,100\n".encode())
    found = costs.reconcile(export, provider=None, tolerance=Decimal(0))
    assert (found.is_within, found.n_compared) == (True, 3)
    with pytest.raises(InvalidInput, match="nope") as refused:
        costs.reconcile(export, provider="nope", tolerance=Decimal(0))
    assert "lab" in (refused.value.hint or "")
