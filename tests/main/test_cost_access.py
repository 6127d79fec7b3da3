"""Money for commands and pages: what the prices of the moment are."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from penstock.deploy.snapshots import build_snapshot
from penstock.main.cost_access import create_costs
from penstock.spec.routes import PriceRow, Provider
from penstock.spec.snapshot import Snapshot
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.ledger_types import CostQuery
from tests.fixtures.spans import T0, make_span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBSpanStore]:
    opened = DuckDBSpanStore(tmp_path / "spans.duckdb", threads=1)
    yield opened
    opened.close()


def snapshot(*prices: PriceRow) -> Snapshot:
    cheap = Provider(name="cheap", base_url="http://127.0.0.1:9/v1", auth="none", local=True)
    return build_snapshot(
        providers=[cheap] if prices else [], routes=[], keys=[], limits=Snapshot(written_ns=1, digest="").limits,
        prices=prices,
    )  # fmt: skip


def test_advice_knows_providers_and_prices_that_were_published_after_the_start(
    store: DuckDBSpanStore,
) -> None:
    store.append(
        [
            make_span(
                1,
                kind="llm",
                service="gateway",
                route="r",
                provider="dear",
                model="big",
                start_ns=T0,
                usage=Usage(input_uncached=1000, output_text=100),
                cost_usd=Decimal(1),
                cost_source="settings",
            )
        ]
    )
    published = [snapshot()]
    costs = create_costs(store, lambda: published[-1])
    assert costs.advise(CostQuery(), candidates=["cheap/small"]).models == []
    rates = {"input_uncached": Decimal(1), "output_text": Decimal(2)}
    published.append(snapshot(PriceRow(provider="cheap", model="*", usd_per_million=rates)))
    (advice,) = costs.advise(CostQuery(), candidates=["cheap/small"]).models
    assert (advice.candidate, advice.candidate_usd) == ("cheap/small", Decimal("0.0012"))
    published.append(snapshot(PriceRow(provider="cheap", model="*", usd_per_million={"input_uncached": Decimal(0), "output_text": Decimal(0)})))  # fmt: skip
    (advice,) = costs.advise(CostQuery(), candidates=["cheap/small"]).models
    assert advice.candidate_usd == 0
