"""Load tests on a terminal: the plan, the report, two side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.base.late import late_imports
from penstock.cli.output import print_rows, printable, time_text
from penstock.deploy.load.sides import SideBySide
from penstock.deploy.load.types import LoadPlan, LoadRecord

with late_imports():
    from penstock.deploy.load import judging, reports


def print_plan(plan: LoadPlan) -> None:
    """Print what a test would do and cost."""
    time = "" if plan.seconds is None else f" in {plan.seconds:,.0f} s"
    print(
        f"About {plan.n_calls:,.0f} calls{time}; {plan.prompt_tokens:,.0f} prompt tokens, "
        f"at most {plan.completion_tokens:,.0f} completion tokens."
    )
    cost = "unknown" if plan.cost_usd is None else f"at most ${plan.cost_usd:.4f}"
    print(f"Cost: {cost}" + (f", to {', '.join(plan.providers)}." if plan.is_hosted else " (local)."))
    for note in plan.notes:
        print(note)


def print_record_report(record: LoadRecord) -> None:
    """Print a test: verdict first, then limits, times, rates, and how far to believe it."""
    if record.verdict is not None:
        print(f"{reports.MARKS[record.verdict]} {record.verdict}: {printable(record.sentence)}")
    else:
        print(f"{record.state}: {printable(record.sentence or record.name)}")
    result = record.result
    if result is None:
        print(f"Load test {record.id}.")
        return
    for limit in result.verdict.limits:
        print(f"  {reports.MARKS[limit.verdict]} {limit.limit}: {printable(limit.sentence)}")
        if limit.next:
            print(f"      {limit.next}")
    if result.comparison is not None:
        print()
        _table(reports.COMPARISON_HEAD, reports.comparison_rows(result))
    for figures in result.targets:
        print(f"\n{printable(figures.label)}")
        _table(reports.TIME_HEAD, reports.time_rows(figures))
        for line in reports.rate_lines(figures, record.spec.level):
            print(f"  {printable(line)}")
    if len(result.stages) > 1 and result.comparison is None:
        print()
        _table(reports.STAGE_HEAD, reports.stage_rows(result))
    for groups in (result.classes, result.versions):
        if len(groups) > 1:
            print()
            _table(reports.GROUP_HEAD, [reports.group_row(each) for each in groups])
    print()
    for effect in result.effects:
        print(printable(effect.sentence))
    for line in (result.loop_note, result.sending.sentence, *reports.tell_gone(result), *result.notes):
        print(printable(line))
    print(f"Load test {record.id}; each call: penstock loadtest export {record.id}")


def print_sides(sides: SideBySide) -> None:
    """Print two tests side by side."""
    rows = [
        {
            "measure": row.measure,
            "first": reports.with_interval(row.first, row.unit),
            "second": reports.with_interval(row.second, row.unit),
            "ratio": None if row.ratio is None else f"{row.ratio:.2f}×",
            "": "apart" if row.is_apart else "",
        }
        for row in sides.rows
    ]
    print_rows(rows, ("measure", "first", "second", "ratio", ""), as_json=False)
    for note in sides.notes:
        print(note)


def summary_row(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a list."""
    against = f" against {told['against']}" if told.get("against") else ""
    rate = told.get("requests_per_s")
    return {
        "id": told["id"],
        "route": f"{told['route']}{against}",
        "asked": told["shape"],
        "state": told["state"],
        "verdict": told.get("verdict"),
        "calls": told["n_calls"],
        "ttft p95": _ms(told.get("ttft_p95_ms")),
        "e2e p95": _ms(told.get("e2e_p95_ms")),
        "requests/s": None if rate is None else f"{rate:.3g}",
        "made": time_text(told["created_ns"]),
    }


def _ms(value: float | None) -> str | None:
    return None if value is None else judging.tell_value(value, "ms")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    named = [dict(zip(head, row, strict=True)) for row in rows]
    print_rows(named, list(head), as_json=False)
