"""Figures and comparisons as rows of a table: words, marks and links made from what the services return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.console.formats import DASH
from penstock.console.interval_marks import (
    Mark,
    kind_of,
    mark_difference,
    mark_estimate,
    reaches,
    scale_of_parts,
)
from penstock.console.score_words import (
    explain_missing,
    format_difference,
    format_interval,
    format_likely,
    format_score,
    format_share_of,
    say_comparison,
    say_method,
)
from penstock.spec.evaluations import Comparison, Estimate


@dataclass(frozen=True, kw_only=True)
class EstimateLine:
    """One figure, ready to be read."""

    item: Estimate
    name: str
    value: str
    interval: str
    mark: Mark | None
    coverage: str
    is_thin: bool
    """A part of the cases has no score."""
    missing: str
    """Why there is no value or no interval; empty where there are both."""
    method: str
    deviation_within: str
    href: str | None = None
    is_corrected: bool = False


@dataclass(frozen=True, kw_only=True)
class ComparisonLine:
    """One comparison, ready to be read."""

    item: Comparison
    name: str
    baseline: str
    candidate: str
    difference: str
    interval: str
    mark: Mark | None
    likely: str
    """The p value after correction, where there was one."""
    sentence: str
    method: str
    href: str | None = None


def build_estimate_line(
    item: Estimate,
    scale: tuple[float, float],
    *,
    name: str | None = None,
    href: str | None = None,
    is_corrected: bool = False,
    reference: float | None = None,
) -> EstimateLine:
    """Return one figure drawn on an axis from `scale[0]` to `scale[1]`."""
    value = format_score(item.value, scale=item.scale, unit=item.unit)
    interval = format_interval(item)
    called = name if name is not None else (item.slice or item.name)
    words = f"{called}: {value}" + (f", {100 * item.level:g} % interval {interval}" if interval else "")
    return EstimateLine(
        item=item,
        name=called,
        value=value,
        interval=interval,
        mark=mark_estimate(item, scale, words, reference=reference),
        coverage=format_share_of((item.coverage or 0.0) * item.n_cases, item.n_cases),
        is_thin=item.n < item.n_cases or item.n_partial > 0,
        missing=explain_missing(item),
        method=say_method(item),
        deviation_within=DASH
        if item.deviation_within is None
        else format_score(item.deviation_within, scale="bounded", unit=item.unit),
        href=href,
        is_corrected=is_corrected,
    )


def build_estimate_lines(
    items: Sequence[Estimate],
    *,
    link_of: Callable[[Estimate], str | None] = lambda _: None,
    whole: Estimate | None = None,
) -> tuple[EstimateLine, ...]:
    """Return the parts of one figure in order, on one axis, with the figure itself as what they are held against."""
    scale = scale_of_parts([*items, *([whole] if whole else [])])
    reference = whole.value if whole else None
    return tuple(build_estimate_line(each, scale, href=link_of(each), reference=reference) for each in items)


def tell_ends(items: Sequence[Estimate]) -> str:
    """Return what the ends of the axis of several parts are: `0.76 to 0.92`."""
    if not any(each.value is not None for each in items):
        return ""
    low, high = scale_of_parts(items)
    first = items[0]
    return " to ".join(format_score(end, scale=first.scale, unit=first.unit) for end in (low, high))


def lay_beside(
    estimates: Sequence[Estimate], corrected: Sequence[Estimate]
) -> tuple[tuple[Estimate, bool], ...]:
    """Return the figures in order, each corrected one right after the raw one of its name."""
    rows: list[tuple[Estimate, bool]] = []
    for each in estimates:
        rows.append((each, False))
        rows += [(other, True) for other in corrected if other.name == each.name]
    return tuple(rows)


def build_comparison_lines(
    items: Sequence[Comparison],
    baseline: str,
    candidate: str,
    *,
    link_of: Callable[[Comparison], str | None] = lambda _: None,
    name_of: Callable[[Comparison], str] = lambda item: item.name,
) -> tuple[ComparisonLine, ...]:
    """Return the comparisons in order; those of one unit are drawn on one scale."""
    reach = reaches(items)
    lines = []
    for each in items:
        told = say_comparison(each, baseline, candidate)
        likely = each.p_adjusted if each.p_adjusted is not None else each.p_value
        lines.append(
            ComparisonLine(
                item=each,
                name=name_of(each),
                baseline=format_score(each.baseline, scale=each.scale, unit=each.unit),
                candidate=format_score(each.candidate, scale=each.scale, unit=each.unit),
                difference=format_difference(each),
                interval=format_interval(each),
                mark=mark_difference(each, reach.get(kind_of(each), 1.0), told),
                likely=format_likely(likely),
                sentence=told,
                method=say_method(each),
                href=link_of(each),
            )
        )
    return tuple(lines)
