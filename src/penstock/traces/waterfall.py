"""Lays the spans of a trace out as rows of a waterfall: pure, and sound for any input.

Missing parents, clocks that disagree, spans without end, cycles and 10,000 spans all give a drawing:
every span has exactly one row and every bar lies within 0…100 %. Spans whose parent is missing hang at the top
level and are counted; of a cycle the earliest span becomes a top-level row. No recursion, so depth is free.
"""

from collections.abc import Sequence

import msgspec

from penstock.spec.spans import Span


class WaterfallRow(msgspec.Struct, frozen=True, kw_only=True):
    """One bar. Offset and width are percent of the trace's duration; their sum is at most 100."""

    span_id: str
    depth: int
    """0 for top-level rows."""
    offset_pct: float
    width_pct: float
    ttft_pct: float | None
    """Where the first token came, percent of the trace's duration, or None."""
    is_open: bool
    """The end is unknown: the bar runs to the end of the trace."""
    is_orphan: bool
    """The span names a parent that is not in the trace."""
    n_below: int
    """Number of rows below that belong to this one."""
    span: Span


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, parents before children, siblings by start time."""

    rows: list[WaterfallRow]
    start_ns: int
    duration_ms: float
    n_orphans: int


def layout_waterfall(spans: Sequence[Span]) -> Waterfall:
    """Return the waterfall of a trace; of several records of one span the first counts."""
    by_id: dict[str, Span] = {}
    for span in sorted(spans, key=_order):
        by_id.setdefault(span.span_id, span)
    if not by_id:
        return Waterfall(rows=[], start_ns=0, duration_ms=0.0, n_orphans=0)
    start_ns = min(span.start_ns for span in by_id.values())
    end_ns = max(max(span.start_ns, span.end_ns or span.start_ns) for span in by_id.values())
    ordered = _walk(by_id)
    sizes = _count_below([depth for _, depth in ordered])
    rows = [
        _row(span, depth, n_below, start_ns, end_ns, is_orphan=_is_orphan(span, by_id))
        for (span, depth), n_below in zip(ordered, sizes, strict=True)
    ]
    return Waterfall(
        rows=rows,
        start_ns=start_ns,
        duration_ms=(end_ns - start_ns) / 1e6,
        n_orphans=sum(row.is_orphan for row in rows),
    )


def _order(span: Span) -> tuple[int, str]:
    return (span.start_ns, span.span_id)


def _is_orphan(span: Span, by_id: dict[str, Span]) -> bool:
    return span.parent_id is not None and span.parent_id not in by_id


def _walk(by_id: dict[str, Span]) -> list[tuple[Span, int]]:
    """Return (span, depth) parents first; whatever a cycle keeps from the top starts at its earliest span."""
    children: dict[str | None, list[Span]] = {}
    for span in by_id.values():
        parent = span.parent_id if span.parent_id in by_id else None
        children.setdefault(parent, []).append(span)
    ordered: list[tuple[Span, int]] = []
    seen: set[str] = set()
    for top in [*children.get(None, []), *by_id.values()]:
        stack = [(top, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            ordered.append((span, depth))
            stack += [(child, depth + 1) for child in reversed(children.get(span.span_id, []))]
    return ordered


def _count_below(depths: list[int]) -> list[int]:
    """Return how many following rows are deeper than each row, up to the next that is not."""
    counts = [0] * len(depths)
    waiting: list[int] = []
    for index, depth in enumerate([*depths, -1]):
        while waiting and depths[waiting[-1]] >= depth:
            row = waiting.pop()
            counts[row] = index - row - 1
        waiting.append(index)
    return counts


def _row(
    span: Span, depth: int, n_below: int, start_ns: int, end_ns: int, *, is_orphan: bool
) -> WaterfallRow:
    total = max(end_ns - start_ns, 1)
    until_ns = end_ns if span.end_ns is None else max(span.end_ns, span.start_ns)
    offset = min(100.0, (span.start_ns - start_ns) / total * 100)
    width = max(0.0, min(100.0 - offset, (until_ns - span.start_ns) / total * 100))
    ttft = None if span.ttft_ms is None else offset + span.ttft_ms * 1e6 / total * 100
    return WaterfallRow(
        span_id=span.span_id,
        depth=depth,
        offset_pct=offset,
        width_pct=width,
        ttft_pct=ttft if ttft is not None and offset <= ttft <= 100.0 else None,
        is_open=span.end_ns is None,
        is_orphan=is_orphan,
        n_below=n_below,
        span=span,
    )
