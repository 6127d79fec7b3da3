"""How evaluations are printed: records, figures with intervals, comparisons, leaderboards."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.cli.output import print_record, print_rows, printable, time_text

LIST_COLUMNS = ("id", "name", "target", "dataset", "state", "done", "score", "cost", "created")
_PLAIN = 1000.0


def list_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of one evaluation in a list."""
    n_cases, repeats = record.get("n_cases"), record.get("spec", {}).get("repeats", 1)
    asked = None if n_cases is None else n_cases * repeats
    return {
        "id": record["id"],
        "name": record["name"],
        "target": record.get("target"),
        "dataset": record.get("dataset") or record.get("spec", {}).get("file"),
        "state": record["state"],
        "done": f"{record.get('n_outputs', 0)}/{asked if asked is not None else '?'}",
        "score": ", ".join(column["name"] for column in record.get("columns", ())[:3]),
        "cost": money(record.get("cost_usd"), record.get("n_cost_unknown", 0)),
        "created": time_text(record.get("created_ns")),
        **record,
    }


def record_rows(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return one evaluation as name and value."""
    row = list_row(record)
    versions = [f"{asset}@{stamp}" for asset, stamp in record.get("versions", {}).items()]
    shown: dict[str, Any] = {
        name: row.get(name) for name in ("id", "name", "state", "target", "dataset", "done", "cost")
    }
    counts = [
        f"{record[name]} {word}"
        for name, word in (
            ("n_ok", "answered"),
            ("n_refused", "refused"),
            ("n_errors", "failed"),
            ("n_skipped", "not asked"),
            ("n_cached", "kept from before"),
        )
        if record.get(name)
    ]
    shown["outputs"] = ", ".join(counts) or None
    shown["p50 latency"] = (
        None if record.get("p50_latency_ms") is None else f"{record['p50_latency_ms']:.0f} ms"
    )
    shown["versions"] = versions or None
    shown["created"] = row["created"]
    shown["finished"] = time_text(record.get("finished_ns"))
    if record.get("experiment_id"):
        shown["experiment"] = record["experiment_id"]
    if record.get("reason"):
        shown["reason"] = record["reason"]
    return shown


def print_estimates(report: Mapping[str, Any], *, with_slices: bool = True) -> None:
    """Print figures: value, interval, how many cases, coverage, what is missing."""
    rows = [_estimate_row(each) for each in report["estimates"]]
    rows += [_estimate_row(each, "corrected") for each in report.get("corrected", ())]
    columns = ["score", "value", "interval", "n", "coverage", "missing", "method"]
    print_rows(rows, columns, as_json=False, empty="No scores yet.")
    if with_slices and report.get("slices"):
        print()
        parts = [_estimate_row(each) for each in report["slices"]]
        print_rows(parts, ["slice", "score", "value", "interval", "n", "coverage"], as_json=False)
    if report.get("errors"):
        print()
        print_rows(
            [{**each, "example": printable(each["example"])[:120]} for each in report["errors"]],
            ["where", "code", "n", "case_id", "example"],
            as_json=False,
        )
    for note in report.get("notes", ()):
        print(note)


def _estimate_row(estimate: Mapping[str, Any], suffix: str = "") -> dict[str, Any]:
    n, n_cases = estimate.get("n", 0), estimate.get("n_cases", 0)
    missing = [
        f"{estimate[name]} {word}"
        for name, word in (
            ("n_undefined", "undefined"),
            ("n_errors", "errors"),
            ("n_skipped", "not asked"),
            ("n_partial", "in part"),
        )
        if estimate.get(name)
    ]
    share = estimate.get("scored_share")
    if share is None and n_cases:
        share = n / n_cases
    low, high = estimate.get("low"), estimate.get("high")
    return {
        "score": f"{estimate['name']} ({suffix})" if suffix else estimate["name"],
        "slice": estimate.get("slice"),
        "value": figure(estimate.get("value"), estimate),
        "interval": None
        if low is None or high is None
        else f"{figure(low, estimate)} to {figure(high, estimate)}",
        "n": n,
        "coverage": None if share is None else f"{share * 100:.0f} %",
        "missing": ", ".join(missing) or None,
        "method": estimate.get("method"),
    }


def figure(value: float | None, estimate: Mapping[str, Any]) -> str | None:
    """Return a figure with its unit."""
    if value is None:
        return None
    unit = estimate.get("unit")
    if unit == "usd":
        return f"${value:.6f}"
    text = f"{value:,.0f}" if abs(value) >= _PLAIN else f"{value:.4g}"
    return f"{text} {unit}" if unit else text


def print_comparison(report: Mapping[str, Any]) -> None:
    """Print a comparison: one line a score, then sentences and problems."""
    for problem in report.get("problems", ()):
        print(f"Note: {problem}")
    rows = [_comparison_row(each) for each in report["comparisons"]]
    columns = ["score", "baseline", "candidate", "difference", "interval", "p", "pairs", "w/l/t", "verdict"]
    print_rows(rows, columns, as_json=False, empty="They have no score in common.")
    told = [each for each in report.get("slices", ()) if each.get("word") in {"better", "worse"}]
    if told:
        print()
        parts = [_comparison_row(each) for each in told]
        print_rows(
            parts, ["slice", "score", "difference", "interval", "p", "pairs", "verdict"], as_json=False
        )
    print()
    for sentence in report.get("sentences", ()):
        print(sentence)


def _comparison_row(comparison: Mapping[str, Any]) -> dict[str, Any]:
    low, high = comparison.get("low"), comparison.get("high")
    p = comparison.get("p_adjusted", comparison.get("p_value"))
    counts = [comparison.get(name, 0) for name in ("n_wins", "n_losses", "n_ties")]
    interval = None
    if low is not None and high is not None:
        interval = f"{figure(low, comparison)} to {figure(high, comparison)}"
    return {
        "score": comparison["name"],
        "slice": comparison.get("slice"),
        "baseline": figure(comparison.get("baseline"), comparison),
        "candidate": figure(comparison.get("candidate"), comparison),
        "difference": figure(comparison.get("difference"), comparison),
        "interval": interval,
        "p": None if p is None else f"{p:.3g}",
        "pairs": comparison.get("n_pairs", 0),
        "w/l/t": "/".join(map(str, counts)),
        "verdict": comparison.get("word", "undecided"),
    }


def print_leaderboard(board: Mapping[str, Any]) -> None:
    """Print a leaderboard and what can be said of the best."""
    rows = []
    for row in board["rows"]:
        quality = row.get("quality") or {}
        low, high = quality.get("low"), quality.get("high")
        rows.append(
            {
                "rank": row.get("rank"),
                "cell": row["key"],
                board["score"] or "score": figure(quality.get("value"), quality),
                "interval": None if low is None else f"{figure(low, quality)} to {figure(high, quality)}",
                "n": quality.get("n", 0),
                "cost/case": money(row.get("cost_per_case_usd"), 0),
                "p50 latency": None
                if row.get("p50_latency_ms") is None
                else f"{row['p50_latency_ms']:.0f} ms",
                "front": "yes" if row["is_front"] else "",
                "evaluation": row["evaluation_id"],
            }
        )
    score = board["score"] or "score"
    columns = ["rank", "cell", score, "interval", "n", "cost/case", "p50 latency", "front", "evaluation"]
    print_rows(rows, columns, as_json=False, empty="There is nothing to be ranked yet.")
    for problem in board.get("problems", ()):
        print(f"Note: {problem}")
    print(board["sentence"])


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what an evaluation would do and cost."""
    spec = plan["spec"]
    detectable = [
        f"{each['difference'] * 100:.1f} points at {each['discordance'] * 100:.0f} % differing pairs"
        for each in plan.get("detectable", ())
        if each.get("difference") is not None
    ]
    groups = f" in {plan['n_groups']} groups" if plan.get("n_groups") else ""
    kept = f" ({plan['n_kept']} more are kept already)" if plan.get("n_kept") else ""
    target = spec["target"]
    print_record(
        {
            "target": target.get("model")
            or target.get("python")
            or target.get("outputs")
            or target.get("http"),
            "cases": f"{plan['n_cases']}{groups}, {spec.get('repeats', 1)} each",
            "calls": f"{plan['n_calls']}{kept}",
            "judge calls": plan.get("n_judge_calls", 0),
            "tokens": None
            if plan.get("input_tokens") is None
            else f"about {plan['input_tokens']:,} in, {plan['output_tokens']:,} out",
            "cost": f"{money(plan.get('cost_usd'), 0) or 'unknown'}. {plan.get('cost_note', '')}",
            "detectable": "; ".join(detectable) or None,
        },
        as_json=False,
    )
    for problem in plan.get("problems", ()):
        print(f"Note: {problem}")


def money(amount: Any, n_unknown: int) -> str | None:
    """Return dollars, and how many calls they leave out."""
    if amount is None:
        return f"unknown ({n_unknown} calls)" if n_unknown else None
    text = f"${float(amount):.4f}" if float(amount) < 1 else f"${float(amount):.2f}"
    return f"{text} + {n_unknown} unknown" if n_unknown else text


def case_lines(view: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
    """Return one case as a line."""
    case, outputs = view["case"], view.get("outputs", ())
    output = outputs[0] if outputs else {}
    inputs = case.get("inputs", {})
    asked = inputs.get("input") or (inputs and next(iter(inputs.values()))) or ""
    if not asked and case.get("messages"):
        asked = case["messages"][-1].get("content", "")
    error = output.get("error") or {}
    row: dict[str, Any] = {
        "case": case["id"],
        "input": printable(str(asked))[:60],
        "expected": None if case.get("expected") is None else printable(str(case["expected"]))[:40],
        "output": printable(str(output.get("text") or error.get("message") or output.get("status", "ok")))[
            :60
        ]
        if outputs
        else None,
        "trace": output.get("trace_id"),
    }
    for score in view.get("scores", ()):
        if not names or score["name"] in names:
            value = view.get("means", {}).get(score["name"])
            row[score["name"]] = score.get("status") if value is None else f"{value:.4g}"
    return row
