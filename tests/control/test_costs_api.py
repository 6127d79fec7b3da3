"""Money over REST: the same numbers as the ledger, exact, and only for those who may see them."""

import asyncio
import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.main.cost_access import reconcile_through
from penstock.spec.usage import Usage
from penstock.store.spans.ledger_types import CostQuery
from penstock.traces.costs.advice import Advice
from penstock.traces.costs.exports import read_export
from penstock.traces.costs.service import CostExplanation, CostReport
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished
from tests.fixtures.spans import T0, make_span

DAY = "2026-09-21"


@pytest.fixture
def billed(furnished: Furnished) -> Furnished:
    """The house with two more calls, at known prices."""
    furnished.spans.append(
        [
            make_span(
                number,
                trace=9000 + number,
                kind="llm",
                service="gateway",
                route="paid",
                provider="openai",
                model="gpt-4o-2024-08-06",
                key_id="key_paid",
                start_ns=T0 + number,
                usage=Usage(input_uncached=1000, output_text=100),
                cost_usd=Decimal("0.0035"),
                cost_source="settings",
                attributes={"penstock.cost.rates": {"input_uncached": "2.5", "output_text": "10"}},
                input={"model": "paid", "messages": [{"role": "user", "content": "Hi"}]},
            )
            for number in (1, 2)
        ]
    )
    return furnished


def test_sums_by_any_dimension_and_filter(owner: AsgiClient, billed: Furnished) -> None:
    found = owner.get("/api/v1/costs?by=model&by=key&route=paid").json()
    report = msgspec.convert(found, CostReport, strict=False)
    assert report == billed.services.costs.sum_costs(CostQuery(route="paid"), ["model", "key"])
    assert found["total"]["cost_usd"] == "0.007"
    assert [row["group"] for row in found["rows"]] == [{"model": "gpt-4o-2024-08-06", "key": "key_paid"}]
    refused = owner.get("/api/v1/costs?by=colour")
    assert (refused.status, refused.json()["error"]["code"]) == (400, "PS-1662")


def test_why_a_call_cost_what_it_did(owner: AsgiClient, billed: Furnished) -> None:
    found = owner.get(f"/api/v1/costs/calls/{9001:032x}").json()
    (one,) = msgspec.convert(found, list[CostExplanation], strict=False)
    assert [part.usd for part in one.parts] == [Decimal("0.0025"), Decimal("0.001")]
    missing = owner.get("/api/v1/costs/calls/ffffffffffffffff")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "PS-1661")


def test_advice_over_rest_is_the_service_s(owner: AsgiClient, billed: Furnished) -> None:
    found = owner.get("/api/v1/costs/advice?route=paid&ttl_s=60").json()
    advice = msgspec.convert(found, Advice, strict=False)
    assert advice.cache[0].n_repeats == 1
    assert advice.cache[0].saved_usd == Decimal("0.0035")


@pytest.mark.parametrize(("cost", "is_within"), [("0.007", True), ("0.0075", False)])
def test_an_export_is_compared_in_the_body_of_a_post(
    owner: AsgiClient, billed: Furnished, cost: str, is_within: bool
) -> None:
    text = f"Tag,Modell,usd\n{DAY},gpt-4o,{cost}\n".encode()
    path = "/api/v1/costs/reconcile?provider=openai&column=day=Tag&column=model=Modell&column=cost_usd=usd"
    found = owner.send("POST", path, body=text, headers={"content-type": "text/csv"}).json()
    assert found["is_within"] is is_within
    assert found["n_compared"] == 1


def test_a_long_export_is_compared_beside_the_event_loop_and_told_in_bounds(
    owner: AsgiClient, billed: Furnished, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    compare = billed.services.costs.reconcile

    def noting(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return compare(*arguments, **options)
        raise AssertionError("on the event loop")

    monkeypatch.setattr(billed.services.costs, "reconcile", noting)
    rows = "".join(f"{DAY},m{number},5,{'x' * 1100}\n" for number in range(3000))
    text = "day,model,input,note\n" + rows
    curl = {"content-type": "application/x-www-form-urlencoded"}
    assert len(text) > 3 * 1024 * 1024
    found = owner.send("POST", "/api/v1/costs/reconcile", body=text.encode(), headers=curl).json()
    assert len(threads) == 1
    assert (len(found["lines"]), found["n_differ"], found["n_compared"]) == (1000, 3001, 3001)


@pytest.mark.parametrize(
    ("query", "told"),
    [("column=nonsense", "maps no column"), ("column=day=", "maps no column"), ("provider=nope", "openai")],
)
def test_what_a_comparison_cannot_do_is_refused(
    owner: AsgiClient, billed: Furnished, query: str, told: str
) -> None:
    body = f"day,model,input\n{DAY},m,5\n".encode()
    refused = owner.send("POST", f"/api/v1/costs/reconcile?{query}", body=body)
    assert refused.status == 400
    assert told in refused.json()["error"]["message"] + refused.json()["error"]["hint"]


def test_the_command_line_compares_through_rest_what_it_has_read_itself(
    owner: AsgiClient, billed: Furnished
) -> None:
    class Remote:
        def sum_costs(self, query: CostQuery, by: Sequence[str]) -> CostReport:
            names = "".join(f"&by={name}" for name in by)
            wanted: dict[str, Any] = msgspec.to_builtins(query)
            filters = "&".join(f"{name}={value}" for name, value in wanted.items())
            return msgspec.convert(
                owner.get(f"/api/v1/costs?{filters}{names}").json(), CostReport, strict=False
            )

        def explain(self, identity: str) -> list[CostExplanation]:
            raise NotImplementedError

        def advise(self, query: CostQuery, *, ttl_s: int, candidates: Sequence[str]) -> Advice:
            raise NotImplementedError

    export = read_export(f"day,model,requests,input\n{DAY},gpt-4o,2,2000\n".encode())
    assert reconcile_through(Remote(), export, provider="openai", tolerance=Decimal(0)).is_within


def test_a_call_key_sees_no_money(app: Any, billed: Furnished) -> None:
    client = AsgiClient(app, bearer=billed.call_key)
    for path in ("/api/v1/costs", "/api/v1/costs/advice", f"/api/v1/costs/calls/{9001:032x}"):
        refused = client.get(path)
        assert refused.status == 403
        assert refused.json()["error"]["fields"]["permission"] == "cost.read"
