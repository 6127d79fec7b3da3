"""Measures as lines for people: values with unit, interval, what is left out, and the change."""

from collections.abc import Sequence
from typing import Any

from penstock.cli.output import time_text
from penstock.spec.measures import Measure, MetricCell
from penstock.traces.measures.types import Report, ReportRow


def value_text(cell: MetricCell, measure: Measure) -> str | None:
    """Return a value as people read it, None where it is unknown."""
    if cell.value is None:
        return None
    if measure.unit == "usd":
        return f"{cell.exact:f}" if cell.exact is not None else f"{cell.value:.6g}"
    if measure.unit == "share":
        return f"{cell.value * 100:.4g}%"
    if measure.unit == "ms":
        return f"{cell.value:.1f}" if cell.value < 1000 else f"{cell.value:.0f}"
    return f"{cell.value:.4g}" if cell.value != int(cell.value) else str(int(cell.value))


def report_rows(report: Report) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Return columns and rows of a table: groups, slice, count, values, and changes where something was compared."""
    titles = {measure.name: _column(measure) for measure in report.measures}
    columns = [*report.by, *(["from"] if report.bucket_ns is not None else []), "n"]
    for measure in report.measures:
        columns.append(titles[measure.name])
        if report.compared is not None:
            columns.append(f"{measure.name} change")
    return columns, [_row(report, row, titles) for row in report.rows]


def list_cells(report: Report) -> list[str]:
    """Return a line for each measure of a report of one row."""
    row = report.rows[0]
    lines = []
    for measure in report.measures:
        cell = row.cells[measure.name]
        text = value_text(cell, measure)
        line = f"{measure.title}: {'unknown' if text is None else text}{_unit(measure)}"
        if cell.low is not None and cell.high is not None and measure.unit == "share":
            line += f" ({cell.low * 100:.3g} to {cell.high * 100:.3g}%)"
        line += f", n {cell.n}" + (f", {cell.n_left_out} left out" if cell.n_left_out else "")
        change = row.change.get(measure.name)
        if change is not None:
            line += f", {change * 100:+.1f}% against before"
        lines.append(line)
    return lines


def _row(report: Report, row: ReportRow, titles: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {**row.group, "n": row.n, "from": time_text(row.start_ns)}
    for measure in report.measures:
        found[titles[measure.name]] = value_text(row.cells[measure.name], measure)
        change = row.change.get(measure.name)
        found[f"{measure.name} change"] = None if change is None else f"{change * 100:+.1f}%"
    return found


def _column(measure: Measure) -> str:
    unit = {"ms": " ms", "usd": " usd"}.get(measure.unit, "")
    return f"{measure.name}{unit}"


def _unit(measure: Measure) -> str:
    return {"ms": " ms", "usd": " USD", "tokens": " tokens", "tokens/s": " tokens/s"}.get(measure.unit, "")
