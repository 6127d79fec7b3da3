"""What an evaluation takes from the trace of a call: nothing before all of it can be there."""

from decimal import Decimal
from pathlib import Path
from typing import cast

from penstock.main.control_client import ControlClient
from penstock.main.eval_ports import LATE_NS, StoredTraceFacts
from penstock.main.local_links import RestTraceFacts
from penstock.spec.usage import Usage
from penstock.store.spans.duckdb import DuckDBSpanStore
from tests.fixtures.spans import make_span

TRACE = f"{1:032x}"


def test_the_model_call_of_a_prompt_is_waited_for_a_while(tmp_path: Path) -> None:
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    store.append([make_span(9, kind="evaluation", service="control")])
    assert StoredTraceFacts(store).find([TRACE]) == {}, "a judgement may come before the call it judges"
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


class ToldTraces:
    """A control process that says of one trace what it is given."""

    def __init__(self) -> None:
        self.spans: list[dict[str, object]] = []

    def get(self, path: str) -> dict[str, object]:
        assert path == f"/api/v1/traces/{TRACE}"
        rows = [{"span": span} for span in self.spans]
        summary = {"duration_ms": 5.0, "cost_usd": "0.25", "n_unpriced": 0 if len(rows) > 1 else 1}
        return {"summary": summary, "waterfall": {"rows": rows}, "versions": {}}


def test_a_run_in_the_callers_process_waits_for_the_same_calls() -> None:
    told = ToldTraces()
    facts = RestTraceFacts(cast("ControlClient", told), clock=lambda: 10)
    root = {"span_id": "1", "parent_id": None, "kind": "llm", "provider": "apps", "end_ns": 9}
    told.spans = [root]
    assert facts.find([TRACE]) == {}
    told.spans.append({"span_id": "2", "parent_id": "1", "kind": "llm", "provider": "engine", "end_ns": 8})
    assert facts.find([TRACE])[TRACE].cost_usd == Decimal("0.25")


def test_the_renderer_of_each_model_call_is_among_the_versions(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    store = DuckDBSpanStore(tmp_path / "spans.duckdb")
    root = make_span(1, kind="llm", service="gateway", provider="engine", model="pocket",
                     attributes={"penstock.renderer.digest": digest})  # fmt: skip
    store.append([root])
    assert root.end_ns is not None
    facts = StoredTraceFacts(store, clock=lambda: (root.end_ns or 0) + LATE_NS + 1)
    stamp = f"{'a' * 12}@{digest}"
    assert facts.find([TRACE])[TRACE].versions == {"renderer:pocket": stamp}
    store.close()
    told = ToldTraces()
    told.spans = [
        {"span_id": "1", "kind": "llm", "provider": "engine", "end_ns": 9, "model": "pocket",
         "attributes": {"penstock.renderer.digest": digest}},
    ]  # fmt: skip
    told.spans.append({"span_id": "2", "parent_id": "1", "kind": "llm", "provider": "engine", "end_ns": 8})
    over_rest = RestTraceFacts(cast("ControlClient", told), clock=lambda: 10)
    assert over_rest.find([TRACE])[TRACE].versions == {"renderer:pocket": stamp}
