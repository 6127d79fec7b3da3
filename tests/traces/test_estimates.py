"""What calls cost that were made elsewhere: an estimate that says so, or nothing."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.providers.prices import PriceBook
from penstock.providers.rates import Rate, RateCard, RateSet
from penstock.spec.routes import PriceRow
from penstock.spec.snapshot import Snapshot
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.upkeep import DuckDBScan
from penstock.telemetry.mapping_table import load_table
from penstock.traces.estimates import CostEstimates, EstimatingSink
from penstock.traces.remap import remap_span
from tests.fixtures.spans import make_span

USAGE = Usage(input_uncached=1000, output_text=200)
LIST = Decimal("0.0045")


class Cards:
    """A price table of one model whose price rose on 1 January 2026."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, wanted: Sequence[tuple[str, str]]) -> list[RateCard]:
        self.asked += wanted
        return [self.card(*item) for item in wanted]

    def card(self, price_id: str, model: str) -> RateCard:
        if model != "gpt-4o":
            return RateCard(source="table 1", reason="table 1 has no price for it")
        old = {"input_uncached": Rate(usd=Decimal(1)), "output_text": Rate(usd=Decimal(1))}
        new = {"input_uncached": Rate(usd=Decimal("2.5")), "output_text": Rate(usd=Decimal(10))}
        return RateCard(
            source="table 1", sets=[RateSet(rates=old), RateSet(rates=new, starts_on="2026-01-01")]
        )


@pytest.fixture
def cards() -> Cards:
    return Cards()


@pytest.fixture
def estimates(tmp_path: Path, cards: Cards) -> CostEstimates:
    return CostEstimates(tmp_path / "snapshot.json", PriceBook(cards))


def sent(**fields: Any) -> Span:
    values: dict[str, Any] = {
        "kind": "llm",
        "provider": "openai",
        "model": "gpt-4o",
        "usage": USAGE,
        "cost_usd": None,
        "cost_source": None,
        "start_ns": 1_790_000_000 * 10**9,
        "attributes": {FOREIGN_MARK: 2},
        "service": "shop",
    }
    return make_span(1, **{**values, **fields})


def test_a_call_that_was_sent_in_gets_an_estimate_that_says_so(estimates: CostEstimates) -> None:
    (span,) = estimates.add([sent()])
    assert (span.cost_usd, span.cost_source) == (LIST, "estimate: table 1")


def test_the_price_is_that_of_the_time_of_the_call(estimates: CostEstimates) -> None:
    (span,) = estimates.add([sent(start_ns=1_700_000_000 * 10**9)])
    assert span.cost_usd == Decimal("0.0012")


def test_a_model_without_provider_is_priced_as_its_makers_and_the_source_says_so(
    estimates: CostEstimates,
) -> None:
    (span,) = estimates.add([sent(provider=None)])
    assert span.cost_usd == LIST
    assert span.cost_source == "estimate: table 1 (provider taken from the model's name)"


@pytest.mark.parametrize(
    "fields",
    [
        {"cost_usd": Decimal("0.5"), "cost_source": "reported by the sender"},
        {"cost_usd": Decimal(0), "cost_source": "reported by the sender"},
        {"usage": None},
        {"usage": Usage(input_uncached=5, reported_usd=Decimal(1))},
        {"model": None},
        {"model": "nobody-knows"},
        {"provider": "ollama"},
        {"provider": None, "model": "llama-3"},
        {"kind": "agent"},
        {"cache": "hit"},
        {"attributes": {}},
    ],
)
def test_what_tells_its_cost_or_cannot_be_priced_stays_as_it_came(
    estimates: CostEstimates, fields: dict[str, Any]
) -> None:
    span = sent(**fields)
    assert estimates.add([span]) == [span]


def test_own_prices_win_from_the_moment_they_are_set(tmp_path: Path, estimates: CostEstimates) -> None:
    assert estimates.add([sent()])[0].cost_usd == LIST
    row = PriceRow(
        provider="openai",
        model="gpt-4o",
        usd_per_million={"input_uncached": Decimal(7), "output_text": Decimal(0)},
    )
    snapshot = Snapshot(digest="d", written_ns=1, prices=(row,))
    (tmp_path / "snapshot.json").write_bytes(msgspec.json.encode(snapshot))
    (span,) = estimates.add([sent()])
    assert (span.cost_usd, span.cost_source) == (Decimal("0.007"), "estimate: settings")


def test_a_price_is_looked_up_once_and_for_all_models_of_a_round_at_once(
    estimates: CostEstimates, cards: Cards
) -> None:
    for _ in range(3):
        estimates.add([sent(), sent(model="x-1"), sent(provider="azure.ai.openai")])
    assert sorted(cards.asked) == [("azure", "gpt-4o"), ("openai", "gpt-4o"), ("openai", "x-1")]


def test_a_round_of_many_calls_is_priced_as_each_of_them_by_itself(
    tmp_path: Path, estimates: CostEstimates, cards: Cards
) -> None:
    rise_ns = 1_767_225_600 * 10**9  # the second in which the price rises
    times = (rise_ns - 1000, rise_ns - 10**9, rise_ns, rise_ns + 5)
    usages = (USAGE, Usage(input_uncached=1000, output_text=201), Usage(input_uncached=1000), None)
    spans = [
        sent(start_ns=start_ns, usage=usage, provider=provider, model=model)
        for start_ns in times
        for usage in usages
        for provider in ("openai", "azure.ai.openai", None, "nobody")
        for model in ("gpt-4o", "x-1", None)
    ]
    alone = [CostEstimates(tmp_path / "none", PriceBook(cards)).add([span])[0] for span in spans]
    assert estimates.add(spans) == alone
    costs = {span.cost_usd for span in alone}
    assert costs == {None, Decimal("0.0012"), Decimal("0.001201"), Decimal("0.001"), LIST, Decimal("0.00451"), Decimal("0.0025")}  # fmt: skip


def test_a_price_table_that_cannot_be_read_costs_the_estimate_alone(tmp_path: Path) -> None:
    def broken(_: Sequence[tuple[str, str]]) -> list[RateCard]:
        raise OSError("no such program")

    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    sink = EstimatingSink(store, CostEstimates(tmp_path / "none", PriceBook(broken)))
    assert sink.append([sent()]) == 1
    store.close()


def test_a_call_through_the_gateway_counts_once_as_the_gateway_billed_it(
    tmp_path: Path, estimates: CostEstimates
) -> None:
    client = sent()
    billed = msgspec.structs.replace(
        client,
        span_id="00000000000000aa",
        parent_id=client.span_id,
        service="gateway",
        attributes={},
        cost_usd=Decimal("0.003"),
        cost_source="genai-prices 1",
    )
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    EstimatingSink(store, estimates).append([client, billed])
    summary = store.get_summary(client.trace_id)
    store.close()
    assert (summary.cost_usd, summary.n_model_calls) == (Decimal("0.003"), 1)


def test_a_newer_mapping_keeps_the_estimate(tmp_path: Path, estimates: CostEstimates) -> None:
    attributes = {
        FOREIGN_MARK: 1,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
    }
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    EstimatingSink(store, estimates).append([sent(attributes=attributes, input=None, output=None)])
    spans, _ = DuckDBScan(store.file).scan_foreign(99, None, limit=10)
    again = remap_span(spans[0], load_table(), store)
    store.close()
    assert (again.cost_usd, again.cost_source) == (LIST, "estimate: table 1")
