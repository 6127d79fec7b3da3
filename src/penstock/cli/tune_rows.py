"""How runs, plans and comparisons are printed."""

from typing import Any

import msgspec

from penstock.base.late import late_imports
from penstock.cli.output import print_json, print_record, print_rows, time_text
from penstock.spec.tuning import RunRecord
from penstock.tuning.runs.types import RunComparison, RunPlan

with late_imports():
    from penstock.tuning.preflight import types as preflight_types
    from penstock.tuning.runs import progress

RUN_COLUMNS = ("run", "name", "method", "state", "steps", "best", "model", "base", "began")
_BASES = {
    "measured": "measured on this machine",
    "earlier": "as an earlier run here",
    "estimated": "estimated from this machine's arithmetic, not measured",
}


def run_row(record: RunRecord) -> dict[str, Any]:
    """Return a run as one line."""
    of = f"/{record.n_steps}" if record.n_steps else ""
    return {
        "run": record.id,
        "name": record.name,
        "method": record.method,
        "state": record.state if record.fault is None else f"{record.state} ({record.fault})",
        "steps": f"{record.step}{of}",
        "best": best_text(record.best),
        "model": (record.result or {}).get("model"),
        "base": record.base,
        "began": time_text(record.started_ns or record.created_ns),
    }


def best_text(best: dict[str, Any] | None) -> str | None:
    """Return `loss 1.23 at step 40`."""
    if not best or best.get("value") is None:
        return None
    return f"{best['metric']} {best['value']:.4g} at step {best['step']}"


def print_run(record: RunRecord, *, as_json: bool) -> None:
    """Print one run."""
    if as_json:
        print_json(record)
        return
    row = run_row(record)
    row["data"] = (record.recipe.get("data") or {}).get("train")
    row["frozen"] = record.frozen_digest
    row["planned"] = plan_text(record.plan)
    row["attempts"] = record.attempts or None
    row["job"] = record.job
    row["ended"] = time_text(record.finished_ns)
    if record.started_ns is not None and record.finished_ns is not None:
        row["took"] = progress.duration_text((record.finished_ns - record.started_ns) / 1e9)
    if record.result:
        row["digest"] = record.result.get("digest")
        row["further precisions"] = record.result.get("children") or None
        row["adapter"] = record.result.get("adapter")
    print_record({name: value for name, value in row.items() if value is not None}, as_json=False)
    if record.error:
        print(f"error: {record.error.get('message')}")
        if record.error.get("hint"):
            print(f"hint: {record.error['hint']}")
    for finding in (record.preflight or {}).get("findings", []):
        print(f"{finding['severity']}: {finding['code']}: {finding['message']}")
        where = preflight_types.rows_text(
            finding.get("rows", ()), finding.get("n_rows", 0), finding.get("source")
        )
        if where:
            print(f"  {where}")


def plan_text(plan: dict[str, Any] | None) -> str | None:
    """Return what a run was thought to take when it was prepared, in a line; None where nobody planned it."""
    if plan is None:
        return None
    seconds, memory, disk = plan.get("seconds"), plan.get("memory_bytes"), plan.get("disk_bytes")
    told = [
        None if seconds is None else f"{progress.duration_text(seconds)} of steps ({plan.get('time_basis')})",
        None if memory is None else f"{_size(memory)} of memory",
        None if disk is None else f"{_size(disk)} of disk",
        None if plan.get("cost_usd") is None else f"up to ${plan['cost_usd']:.2f} for the teacher",
    ]
    return ", ".join(each for each in told if each) or None


def print_plan(plan: RunPlan, *, as_json: bool) -> None:
    """Print what a run will take."""
    if as_json:
        print_json({**_plain(plan), "is_refused": plan.is_refused})
        return
    train = plan.recipe.get("train") or {}
    record = {
        "method": plan.recipe.get("method"),
        "base": (plan.recipe.get("base") or {}).get("model"),
        "learning rate": train.get("lr"),
        "parameters": _count(plan.n_parameters),
        "trained": _count(plan.n_trained),
        "rows": _count(plan.n_rows),
        "held out": _count(plan.n_heldout),
        "tokens": _count(plan.n_tokens),
        "steps": _count(plan.n_steps) or "the trainer counts them once rows are packed",
        "memory": _size(plan.memory_bytes),
        "disk": _size(plan.disk_bytes),
        "time": _time(plan),
        "teacher": None if plan.cost_usd is None else f"up to ${plan.cost_usd:.2f}",
        "machine": None if plan.machine_usd is None else f"${plan.machine_usd:.2f}",
        "device": plan.device,
    }
    print_record({name: value for name, value in record.items() if value is not None}, as_json=False)
    if plan.memory:
        print()
        rows = [
            {"memory": part.name, "size": _size(part.size_bytes), "why": part.why} for part in plan.memory
        ]
        print_rows(rows, ("memory", "size", "why"), as_json=False)
    for finding in plan.findings:
        print(
            f"{finding.severity}: {finding.code}: {finding.message}"
            + (f" {finding.hint}" if finding.hint else "")
        )
        if where := preflight_types.rows_text(finding.rows, finding.n_rows, finding.source):
            print(f"  {where}")
    print("this run is refused" if plan.is_refused else "nothing forbids this run")


def print_comparison(found: RunComparison, *, as_json: bool) -> None:
    """Print runs side by side."""
    if as_json:
        print_json(found)
        return
    names = [f"{run.name} {run.id[-6:]}" for run in found.runs]
    columns = ("", *names)
    rows = [{"": key, **dict(zip(names, values, strict=True))} for key, values in found.differences.items()]
    rows += [{"": key, **dict(zip(names, values, strict=True))} for key, values in found.figures.items()]
    print_rows(rows, columns, as_json=False)
    if not found.same_data:
        print("note: their held-out rows differ, so their held-out figures cannot be compared")


def _plain(plan: RunPlan) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(plan)
    return value


def _time(plan: RunPlan) -> str | None:
    if plan.seconds is None:
        return "unknown"
    pace = f"{plan.tokens_per_s:,.0f} tokens/s" if plan.tokens_per_s is not None else ""
    return f"about {progress.duration_text(plan.seconds)} of steps alone, {pace}, {_BASES[plan.time_basis or 'estimated']}"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _size(value: int | None) -> str | None:
    if value is None:
        return None
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"
