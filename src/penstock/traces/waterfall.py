"""A trace as rows of a waterfall with all of its spans' facts: for commands and programs that want everything at once.

Where the rows lie is worked out in `tree`; pages draw from the skeleton, which has no objects. Every span has exactly
one row and every bar lies within 0…100 %.
"""

from collections.abc import Sequence

import msgspec

from penstock.spec.spans import Span
from penstock.store.spans.skeleton import skeleton_of
from penstock.traces.tree import OPEN, ORPHAN, build_tree


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
    """Return the waterfall of a trace; of several records of one span the first counts.

    Spans that bring scores and nothing else have no row: see `tree`.
    """
    known: dict[int, Span] = {}
    for span in sorted(spans, key=lambda each: (each.start_ns, each.span_id)):
        known.setdefault(int(span.span_id, 16), span)
    skeleton = skeleton_of(list(known.values()))
    tree = build_tree(skeleton)
    reach = (tree.start_ns, tree.end_ns)
    rows = [
        _row(known[skeleton.span_ids[source]], depth, n_below, flags, reach)
        for source, depth, n_below, flags in zip(
            tree.source, tree.depths, tree.n_below, tree.flags, strict=True
        )
    ]
    return Waterfall(
        rows=rows,
        start_ns=tree.start_ns,
        duration_ms=(tree.end_ns - tree.start_ns) / 1e6,
        n_orphans=tree.n_orphans,
    )


def _row(span: Span, depth: int, n_below: int, flags: int, reach: tuple[int, int]) -> WaterfallRow:
    start_ns, end_ns = reach
    total = max(end_ns - start_ns, 1)
    until_ns = end_ns if span.end_ns is None else max(span.end_ns, span.start_ns)
    offset = max(0.0, min(100.0, (span.start_ns - start_ns) / total * 100))
    width = max(0.0, min(100.0 - offset, (until_ns - span.start_ns) / total * 100))
    ttft = None if span.ttft_ms is None else offset + span.ttft_ms * 1e6 / total * 100
    return WaterfallRow(
        span_id=span.span_id,
        depth=depth,
        offset_pct=offset,
        width_pct=width,
        ttft_pct=ttft if ttft is not None and offset <= ttft <= 100.0 else None,
        is_open=bool(flags & OPEN),
        is_orphan=bool(flags & ORPHAN),
        n_below=n_below,
        span=span,
    )
