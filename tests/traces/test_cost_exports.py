"""Providers' exports: each known form is read into the same numbers, anything else is refused with what is missing."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import InvalidInput
from penstock.store.spans.ledger_types import CostRow
from penstock.traces.costs.errors import UnreadableExport
from penstock.traces.costs.exports import Export, ExportRow, read_export
from penstock.traces.costs.reconcile import Reconciliation, base_name, reconcile

FOLDER = Path(__file__).parent / "exports"
DAY = "2026-09-21"
GPT = {"input": 4100, "input_cache_read": 500, "output": 210, "requests": 3}
CLAUDE = {
    "input": 3200,
    "input_cache_read": 200,
    "input_cache_write": 500,
    "input_cache_write_1h": 1000,
    "output": 500,
}


def read(name: str, **columns: str) -> Export:
    return read_export((FOLDER / name).read_bytes(), columns=columns)


@pytest.mark.parametrize(
    ("name", "kind", "model", "counts"),
    [
        ("openai_usage.json", "openai usage", "gpt-4o-2024-08-06", GPT),
        ("openai_usage.csv", "openai usage", "gpt-4o-2024-08-06", GPT),
        ("openai_costs.json", "openai costs", "gpt-4o-2024-08-06", {"cost_usd": "0.0135"}),
        ("openai_costs.csv", "openai costs", "gpt-4o-2024-08-06", {"cost_usd": "0.0135"}),
        ("anthropic_usage.json", "anthropic usage", "claude-sonnet-4-5-20250929", CLAUDE),
        ("anthropic_usage.csv", "anthropic usage", "claude-sonnet-4-5-20250929", CLAUDE),
        ("anthropic_costs.json", "anthropic costs", None, {"cost_usd": "1.2378912"}),
    ],
)
def test_each_form_gives_day_model_and_disjoint_numbers(
    name: str, kind: str, model: str | None, counts: dict[str, Any]
) -> None:
    export = read(name)
    assert export.kind == kind
    row = export.rows[0]
    assert (row.day, row.model) == (DAY, model)
    assert {key: value for key, value in row.counts.items() if value} == {
        key: Decimal(value) for key, value in counts.items()
    }


def test_any_other_csv_is_read_by_the_names_of_its_columns() -> None:
    export = read(
        "other.csv", day="Tag", model="Modell", input="Tokens ein", output="Tokens aus", cost_usd="Betrag"
    )
    assert export.rows == [
        ExportRow(
            day=DAY,
            model="gpt-4o",
            counts={"input": Decimal(4100), "output": Decimal(210), "cost_usd": Decimal("0.0135")},
        )
    ]


@pytest.mark.parametrize(
    "header",
    [
        "date,model,input_tokens,output_tokens,cost",
        "Date,Model,Prompt Tokens,Completion Tokens,Cost (USD)",
        "usage_date,model_name,input,output,total_cost",
    ],
)
def test_usual_names_of_columns_need_no_map(header: str) -> None:
    export = read_export(f"{header}\n{DAY},gpt-4o,4100,210,0.0135\n".encode())
    assert reconcile(export, [ours()], tolerance=Decimal(0)).is_within
    assert list(export.rows[0].counts) == ["input", "output", "cost_usd"]


def test_of_two_columns_for_one_thing_one_counts() -> None:
    export = read_export(f"day,model,prompt_tokens,input_tokens,input\n{DAY},m,1,2,3\n".encode())
    assert export.rows[0].counts == {"input": Decimal(3)}


@pytest.mark.parametrize(
    ("data", "columns", "told"),
    [
        (b"", {}, "empty"),
        (b"{", {}, "no valid JSON"),
        (b'{"data": []}', {}, "no buckets"),
        (b"a,b\n1,2\n", {}, "no column for the day"),
        (b"day,input\n2026-09-21,x\n", {}, "'x' in 'input' is no number"),
        (b"day,input\n2026-09-21,NaN\n", {}, "no number"),
        (b"day,input\nyesterday,1\n", {}, "'yesterday' is no day"),
        (b"day,input\n2026-09-21,1\n", {"model": "Model"}, "no column 'Model'"),
        (b"day,n\n2026-09-21,1\n", {"tokens": "n"}, "'tokens' is nothing that is compared"),
        (b'{"data": [{"start_time": "x", "results": [{}]}]}', {}, "no day"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, columns: dict[str, str], told: str) -> None:
    with pytest.raises(UnreadableExport, match=told):
        read_export(data, columns=columns)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "results", "start_time", "starting_at", "amount", "value", "cache_creation"]
                ),
                inner,
                max_size=3,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_garbage_is_refused_and_never_more(data: bytes) -> None:
    try:
        read_export(data)
    except InvalidInput:
        return


def test_names_of_models_meet_with_and_without_date_and_vendor() -> None:
    for name in ("gpt-4o", "gpt-4o-2024-08-06", "openai/gpt-4o-2024-08-06", "GPT-4o-latest"):
        assert base_name(name) == "gpt-4o"
    assert base_name("claude-sonnet-4-5-20250929") == "claude-sonnet-4-5"
    assert base_name("gpt-4o-mini") != "gpt-4o"


# -- comparison


def ours(model: str = "gpt-4o", day: str = DAY, **fields: Any) -> CostRow:
    defaults: dict[str, Any] = {
        "group": {"day": day, "model": model},
        "n_calls": 3,
        "cost_usd": Decimal("0.0135"),
        "n_unpriced": 0,
        "n_estimated": 0,
        "estimated_usd": None,
        "input_tokens": 4100,
        "output_tokens": 210,
        "classes": {
            "input_uncached": 3600,
            "input_cache_read": 500,
            "output_text": 200,
            "output_reasoning": 10,
        },
        "n_cached": 0,
        "saved_usd": None,
    }
    return CostRow(**{**defaults, **fields})


MINI = ours(
    "gpt-4o-mini-2024-07-18", n_calls=1, cost_usd=Decimal(0), classes={"input_uncached": 7, "output_text": 3}
)


def compare(name: str, *rows: CostRow, tolerance: str = "0.01") -> Reconciliation:
    return reconcile(read(name), rows, tolerance=Decimal(tolerance))


@pytest.mark.parametrize("name", ["openai_usage.json", "openai_usage.csv"])
def test_books_that_agree_have_nothing_to_say(name: str) -> None:
    result = compare(name, ours(), MINI, ours("gpt-4o", "2026-08-01"))
    assert result.is_within
    assert result.lines == []
    assert result.n_compared >= 6


def test_calls_from_the_cache_are_no_requests_of_the_provider() -> None:
    assert compare("openai_usage.json", ours(n_calls=8, n_cached=5), MINI).is_within


def test_differences_are_ordered_by_weight_and_say_what_is_likely() -> None:
    few = {"input_uncached": 3600, "input_cache_read": 450, "output_text": 210}
    result = compare("openai_usage.json", ours(classes=few, n_estimated=2))
    assert not result.is_within
    by_key = {(line.model, line.measure): line for line in result.lines}
    assert "none of this went through the gateway" in by_key["gpt-4o-mini", "input"].causes[0]
    cached = by_key["gpt-4o", "input_cache_read"]
    assert (cached.ours, cached.theirs, cached.difference, cached.share) == (450, 500, -50, Decimal("0.1"))
    assert "2 of our calls are estimates" in cached.causes[0]
    assert [line.share for line in result.lines] == sorted(
        (line.share for line in result.lines), reverse=True
    )
    assert compare("openai_usage.json", ours(classes=few), MINI, tolerance="0.2").is_within


def only_line(data: str, *rows: CostRow) -> list[str]:
    """Return the causes of the only difference on `DAY`."""
    result = reconcile(read_export(data.encode()), rows, tolerance=Decimal("0.01"))
    (line,) = (line for line in result.lines if line.day == DAY)
    return line.causes


def test_when_tokens_agree_the_price_is_what_differs() -> None:
    (cause, later) = only_line(
        f"day,model,input,output,cost_usd\n{DAY},gpt-4o,4100,210,0.0067", ours(n_unpriced=1)
    )
    assert "the price differs" in cause
    assert "last day" in later


def test_a_cause_is_named_only_where_it_can_explain_the_size() -> None:
    calls = {"n_calls": 22, "n_estimated": 3, "estimated_input_tokens": 300, "estimated_output_tokens": 20}
    mine = ours(**calls, estimated_usd=Decimal("0.001"))
    later = "\n2026-09-22,gpt-4o,0"
    for theirs, told in [
        (3900, "3 of our calls are estimates"),
        (4300, "3 of our calls are estimates"),
        (2600, "nothing we know of"),
        (4450, "calls with this account that did not go"),
    ]:
        (cause,) = only_line(f"day,model,input\n{DAY},gpt-4o,{theirs}{later}", mine)
        assert told in cause, theirs
    (cause,) = only_line(f"day,model,requests\n{DAY},gpt-4o,21{later}", mine)
    assert "around midnight" in cause, "an estimate is a request all the same"
    for theirs, told in [("0.02", "1 of our calls have no known price"), ("0.0129", "around midnight")]:
        (cause, *_) = only_line(f"day,model,cost_usd\n{DAY},gpt-4o,{theirs}{later}", ours(n_unpriced=1))
        assert told in cause, theirs
    (cause, *_) = only_line(f"day,model,input\n{DAY},gpt-4o,5000", ours())
    assert "last day" not in cause, "what is missing there cannot be more than ours"


def test_costs_without_models_are_compared_by_day() -> None:
    claude = ours("claude-sonnet-4-5", cost_usd=Decimal("1.2378912"))
    assert compare("anthropic_costs.json", claude).is_within
    (line,) = compare("anthropic_costs.json", claude, ours("claude-haiku-4-5")).lines
    assert (line.model, line.difference) == ("(all models)", Decimal("0.0135"))


def test_what_the_export_lacks_is_named_too() -> None:
    result = compare("openai_usage.json", ours(), MINI, ours("o3"))
    assert {line.model for line in result.lines} == {"o3"}
    assert "the export lacks this" in result.lines[0].causes[0]


counts = st.integers(0, 10**6)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), counts, counts), max_size=4), st.permutations(range(4))
)
def test_the_order_and_splitting_of_rows_changes_nothing(
    rows: list[tuple[str, int, int]], order: list[int]
) -> None:
    given_rows = [
        ExportRow(day=DAY, model=model, counts={"input": Decimal(one), "output": Decimal(two)})
        for model, one, two in rows
    ]
    export = Export(kind="csv", provider=None, rows=given_rows)
    shuffled = Export(
        kind="csv", provider=None, rows=[given_rows[number] for number in order if number < len(given_rows)]
    )
    mine = [
        ours(model, n_calls=0, cost_usd=None, classes={"input_uncached": one, "output_text": two})
        for model, one, two in rows
    ]
    first = reconcile(export, mine, tolerance=Decimal(0))
    assert first.is_within
    assert reconcile(shuffled, mine, tolerance=Decimal(0)) == first
