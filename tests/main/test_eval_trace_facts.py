"""What an evaluation takes from the trace of a call: nothing before all of it can be there."""

from decimal import Decimal
from pathlib import Path

from penstock.main.eval_ports import LATE_NS, StoredTraceFacts
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.fixtures.spans import make_span

TRACE = f"{1:032x}"


def test_the_model_call_of_a_prompt_is_waited_for_a_while(tmp_path: Path) -> None:
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    root = make_span(1, kind="llm", service="gateway", provider="apps", cost_usd=None)
    store.append([root])
    assert root.end_ns is not None
    clock = [root.end_ns + 1]
    facts = StoredTraceFacts(store, clock=lambda: clock[0])
    assert facts.find([TRACE]) == {}
    clock[0] += LATE_NS
    assert TRACE in facts.find([TRACE]), "an app may have called no model"
    clock[0] = root.end_ns + 2
    inner = make_span(
        2, parent_id=f"{3:016x}", kind="llm", service="gateway", provider="openai", model="m",
        cost_usd=Decimal("0.25"), cost_source="list", usage=Usage(input_uncached=3, output_text=4),
    )  # fmt: skip
    store.append([inner])
    assert facts.find([TRACE]) == {}, "the step that asked it says whose call it is"
    store.append([make_span(3, parent_id=root.span_id, kind="app", service="apps")])
    assert facts.find([TRACE])[TRACE].cost_usd == Decimal("0.25")
    store.close()
