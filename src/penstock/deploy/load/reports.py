"""A load test as a page: Markdown for a merge request, HTML in one file that needs nothing else. Pure."""

from collections.abc import Iterable, Sequence
from html import escape

from penstock.base.clock import iso_from_ns
from penstock.deploy.load.drawing import draw_histogram, draw_scatter, draw_series
from penstock.deploy.load.judging import tell_interval, tell_value
from penstock.deploy.load.types import (
    Estimate,
    Figures,
    LoadRecord,
    LoadResult,
    Shape,
    VerdictWord,
)

MARKS: dict[VerdictWord, str] = {"pass": "✓", "fail": "✗", "undecided": "?", "invalid": "!", "unjudged": "·"}
EXIT_CODES: dict[VerdictWord, int] = {"pass": 0, "unjudged": 0, "fail": 1, "undecided": 6, "invalid": 7}
"""Of `penstock loadtest run`, as those of gates."""
TIME_NAMES = {
    "ttft": "time to first token",
    "itl": "between tokens",
    "tpot": "per output token",
    "e2e": "end to end",
    "queueing": "waiting (over a call alone)",
    "ttft_sent": "first token, from sending",
    "e2e_sent": "end to end, from sending",
    "overhead": "gateway's own",
}
_STYLE = """
:root{color-scheme:light dark;--ink:#1c1b19;--paper:#faf9f6;--line:#d9d6cf;--soft:#6b675f;--accent:#1f6f8b;--bad:#a33;--good:#2c6e3f}
@media(prefers-color-scheme:dark){:root{--ink:#e8e6e1;--paper:#1b2026;--line:#3a424b;--soft:#9aa3ad;--accent:#6cb6d0;--bad:#e08a8a;--good:#8cc79d}}
body{font:14px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:64rem;padding:24px 16px}
h1{font-size:20px}h2{font-size:14px;margin-top:32px}p,li{max-width:48rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{border-bottom:1px solid var(--line);padding:4px 8px;text-align:right;white-space:nowrap}
th:first-child,td:first-child,td.text{text-align:left}td.text{white-space:normal}
.soft{color:var(--soft)}.pass{color:var(--good)}.fail,.invalid{color:var(--bad)}
svg{display:block;width:100%;height:auto;max-width:48rem}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .axis{stroke:var(--line)}svg .a{fill:var(--accent);stroke:var(--accent)}svg .b{fill:var(--bad);stroke:var(--bad)}
svg polyline{fill:none;stroke-width:1.5}
"""
Rows = Sequence[Sequence[str]]


def time_rows(figures: Figures) -> list[list[str]]:
    """Return a row for each measured time: name, median with interval, 90th, 95th and 99th percentile, mean, calls."""
    rows = []
    for measure, name in TIME_NAMES.items():
        spread = figures.spreads.get(measure)
        if spread is None:
            continue
        rows.append(
            [
                name,
                *(with_interval(each) for each in (spread.p50, spread.p90, spread.p95, spread.p99)),
                tell_value(spread.mean, "ms"),
                f"{spread.n:,}",
            ]
        )
    return rows


def with_interval(estimate: Estimate | None, unit: str = "ms") -> str:
    """Return `value (low–high)`; an open bound as `…`."""
    if estimate is None or estimate.value is None:
        return "–"
    if estimate.low is None and estimate.high is None:
        return tell_value(estimate.value, unit)
    low = "…" if estimate.low is None else tell_value(estimate.low, unit)
    high = "…" if estimate.high is None else tell_value(estimate.high, unit)
    return f"{tell_value(estimate.value, unit)} ({low}–{high})"


def rate_lines(figures: Figures, level: float) -> list[str]:
    """Return throughput, goodput and errors as sentences."""
    lines = []
    done, tokens = figures.requests_per_s, figures.completion_tokens_per_s
    if done is not None:
        offered = f" of {figures.offered_per_s:.3g}/s that were due" if figures.offered_per_s else ""
        lines.append(
            f"{tell_value(done.value, '/s')} requests{tell_interval(done, '/s', level)}{offered}; {figures.n:,} calls"
            + (f" in {figures.duration_s:.1f} s" if figures.duration_s else "")
            + f", at most {figures.max_in_flight} open at once."
        )
    if tokens is not None:
        prompt = figures.prompt_tokens_per_s
        lines.append(
            f"{tell_value(tokens.value, '/s')} completion tokens{tell_interval(tokens, '/s', level)}"
            + (f" and {tell_value(prompt, '/s')} prompt tokens" if prompt is not None else "")
            + f" (from usage: {figures.mean_completion_tokens or 0:.1f} and {figures.mean_prompt_tokens or 0:.1f} a call)."
        )
    if figures.goodput is not None and figures.goodput_per_s is not None:
        lines.append(
            f"Goodput: {tell_value(figures.goodput_per_s.value, '/s')} requests that kept every limit on single calls, "
            f"{tell_value(figures.goodput.value, '%')} of all{tell_interval(figures.goodput, '%', level)}."
        )
    lines += [f"{each.n} × {each.kind}: {each.example}" for each in figures.errors]
    return lines


def stage_rows(result: LoadResult) -> list[list[str]]:
    """Return a row for each stage."""
    rows = []
    for stage in result.stages:
        figures = stage.figures
        spreads = figures.spreads

        def p95(measure: str, spreads: dict = spreads) -> str:  # type: ignore[type-arg]
            spread = spreads.get(measure)
            return with_interval(spread.p95) if spread is not None else "–"

        rows.append(
            [
                stage.target,
                tell_stage(stage.shape),
                f"{figures.n:,}",
                f"{figures.n_failed:,}",
                with_interval(figures.requests_per_s, "/s"),
                p95("ttft"),
                p95("e2e"),
                with_interval(figures.goodput, "%"),
                stage.verdict.word if stage.verdict is not None else "–",
            ]
        )
    return rows


STAGE_HEAD = ["target", "asked", "calls", "failed", "requests", "ttft p95", "e2e p95", "goodput", "verdict"]
TIME_HEAD = ["time", "p50", "p90", "p95", "p99", "mean", "n"]


def tell_stage(shape: Shape) -> str:
    """Return how calls of a stage arrive."""
    if shape.kind == "closed":
        return f"{shape.concurrency} at once"
    if shape.kind == "ramp" and shape.to_rate is not None:
        return f"{shape.rate:g}→{shape.to_rate:g}/s"
    return f"{shape.rate:.3g}/s {shape.kind}"


def to_markdown(record: LoadRecord) -> str:
    """Return the report as Markdown."""
    lines = [f"# Load test: {_plain(record.name)}", "", _headline(record), ""]
    result = record.result
    if result is None:
        return "\n".join(lines)
    for title, parts in _sections(record, result):
        lines += [f"## {title}", ""]
        for part in parts:
            if isinstance(part, str):
                lines += [_plain(part), ""]
            else:
                head, rows = part
                lines.append(f"| {' | '.join(map(_plain, head))} |")
                lines.append(f"|---|{'--:|' * (len(head) - 1)}")
                lines += [f"| {' | '.join(map(_plain, row))} |" for row in rows]
                lines.append("")
    return "\n".join(lines)


def to_html(record: LoadRecord) -> str:
    """Return the report as one HTML document, charts drawn into it."""
    body = [f"<h1>{escape(record.name)}</h1>", f"<p>{escape(_headline(record))}</p>"]
    result = record.result
    if result is not None:
        for title, parts in _sections(record, result):
            body.append(f"<h2>{escape(title)}</h2>")
            body += [
                f"<p>{escape(part)}</p>" if isinstance(part, str) else _html_table(*part) for part in parts
            ]
        body += _html_charts(result)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(record.name)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _sections(
    record: LoadRecord, result: LoadResult
) -> Iterable[tuple[str, list[str | tuple[list[str], Rows]]]]:
    level = record.spec.level
    if result.verdict.limits:
        rows = [
            [each.limit, f"{MARKS[each.verdict]} {each.verdict}", f"{each.sentence}. {each.next}".strip()]
            for each in result.verdict.limits
        ]
        yield "Limits", [(["limit", "verdict", "what was found"], rows)]
    if result.found is not None:
        rates = [[f"{rate:.3g}/s", word] for rate, word in result.found.runs]
        yield "Rates that were tried", [(["rate", "verdict"], rates)]
    if result.comparison is not None:
        yield "Comparison", [result.comparison.sentence, (COMPARISON_HEAD, comparison_rows(result))]
    for figures in result.targets:
        yield figures.label, [*rate_lines(figures, level), (TIME_HEAD, time_rows(figures))]
    if len(result.stages) > 1:
        yield "Stages", [(STAGE_HEAD, stage_rows(result))]
    for title, groups in (
        ("By class of the mix", result.classes),
        ("By version that answered", result.versions),
    ):
        if len(groups) > 1 or (groups and title.startswith("By version")):
            yield title, [(GROUP_HEAD, [group_row(each) for each in groups])]
    if result.effects:
        yield "Length of the reply", [each.sentence for each in result.effects]
    if result.engine is not None:
        models = result.engine.get("models", [])
        rows = [[str(each.get(name, "–")) for name in ENGINE_HEAD] for each in models]
        table: list[str | tuple[list[str], Rows]] = [(list(ENGINE_HEAD), rows)] if rows else []
        yield "What the engine counted", [*tell_gone(result), *table]
    yield "How it was measured", [result.loop_note, result.sending.sentence, *result.notes]


def tell_gone(result: LoadResult) -> list[str]:
    """Return a sentence about engines that ended while the test ran, if any did."""
    gone = [] if result.engine is None else result.engine.get("gone", [])
    if not gone:
        return []
    named = ", ".join(str(each.get("version") or each.get("name")) for each in gone)
    sentence = (
        f"Engines ended during the test ({named}), as in a hot swap: what they counted is not in the engines' figures, "
        "which are lower than the sender's."
    )
    return [sentence]


COMPARISON_HEAD = ["measure", "ratio", "first", "second", "pairs"]
GROUP_HEAD = ["", "calls", "failed", "ttft p50", "ttft p95", "e2e p50", "e2e p95", "tokens a call"]
ENGINE_HEAD = (
    "name",
    "version",
    "slots",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "busy_s",
)


def comparison_rows(result: LoadResult) -> list[list[str]]:
    """Return a row for each compared measure."""
    if result.comparison is None:
        return []
    return [
        [
            each.measure,
            with_interval(Estimate(value=each.value, low=each.low, high=each.high), "x"),
            tell_value(each.first, "ms"),
            tell_value(each.second, "ms"),
            str(each.n_pairs),
        ]
        for each in result.comparison.ratios
    ]


def group_row(figures: Figures) -> list[str]:
    """Return the row of a class or version."""
    cells = [figures.label, f"{figures.n:,}", f"{figures.n_failed:,}"]
    for measure in ("ttft", "e2e"):
        spread = figures.spreads.get(measure)
        cells += [with_interval(None if spread is None else each) for each in _ends(spread)]
    mean = figures.mean_completion_tokens
    return [*cells, "–" if mean is None else f"{mean:.1f}"]


def _ends(spread: object) -> tuple[Estimate | None, Estimate | None]:
    return getattr(spread, "p50", None), getattr(spread, "p95", None)


def _headline(record: LoadRecord) -> str:
    when = iso_from_ns(record.created_ns)[:16].replace("T", " ")
    mark = "" if record.verdict is None else f"{MARKS[record.verdict]} {record.verdict}: "
    return f"{mark}{record.sentence or record.state} ({when} UTC, {record.id})"


def _html_table(head: Sequence[str], rows: Rows) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        made = "".join(
            f"<{tag}{' class=text' if tag == 'td' and len(cell) > 60 else ''}>{escape(cell)}</{tag}>"
            for cell in cells
        )
        return f"<tr>{made}</tr>"

    return (
        f'<div class="wide"><table><thead>{row(head, "th")}</thead>'
        f"<tbody>{''.join(row(each, 'td') for each in rows)}</tbody></table></div>"
    )


def _html_charts(result: LoadResult) -> list[str]:
    charts, found = result.charts, []
    for measure, chart in charts.histograms.items():
        found += [f"<h2>{escape(TIME_NAMES.get(measure, measure))}</h2>", draw_histogram(chart)]
    if charts.series:
        found += ["<h2>Over time</h2>", draw_series(charts.series)]
    if charts.scatter:
        found += ["<h2>End to end by completion tokens</h2>", draw_scatter(charts.scatter)]
    return found


def _plain(text: str) -> str:
    """Text that no Markdown table or page can be broken by."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
