"""Lays a trace's skeleton out as a tree of rows: pure, without recursion, and sound for any input.

Missing parents, clocks that disagree, spans without end, cycles and 100,000 spans all give a tree: every span has one
row, parents above children, siblings by start time. Spans whose parent is missing hang at the top; of a cycle the
earliest span becomes a top-level row. The surprise: an `evaluation` span that only brings scores has no row. It was
written when somebody judged, perhaps days later, so it is counted at the row that it judges.
"""

from bisect import bisect_left
from collections.abc import Iterable, Set
from decimal import Decimal
from itertools import accumulate

import msgspec

from penstock.store.spans.rows import plain_decimal
from penstock.store.spans.skeleton import Skeleton
from penstock.store.spans.summaries import ATTEMPT, EVALUATION, MODEL_KINDS, RERANK
from penstock.traces.critical_path import find_critical_path

ORPHAN, OPEN, CYCLE, EARLY, LATE, CRITICAL, DROPPED, BILLED = (1 << bit for bit in range(8))
"""Flags of a row: its parent is missing; its end is unknown; it was cut out of a cycle; it starts before its parent; it
ends after it; it is on the critical path; its payload was dropped; its tokens and money count (see `Sums`)."""
SKEW_NS = 1_000_000
"""Below this a child outside its parent says nothing: many clocks count in milliseconds."""
MIN_RUN, MIN_ATTEMPTS = 3, 2
NO_ROW = -1
_ASKING = MODEL_KINDS | {RERANK}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Siblings of one kind and name in a row, such as retries or the rounds of a loop: they can be shown as one."""

    row: int
    """Of the first one."""
    size: int


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What a row and everything below it used. Model calls with another one below them do not count: a gateway's call
    around an app around a model's call is one call."""

    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    n_calls: int
    n_unpriced: int
    """Calls without a known price: the sum leaves them out."""
    n_errors: int


class TraceTree(msgspec.Struct, frozen=True, kw_only=True):
    """All rows in order; one entry a row in each list."""

    source: list[int]
    """Position of the row's span in the skeleton."""
    parents: list[int]
    """Row of the parent, or -1 for top-level rows."""
    depths: list[int]
    n_below: list[int]
    """Number of rows below that belong to this one."""
    flags: list[int]
    scores: list[int]
    """Judgements of the row's span."""
    critical_ns: dict[int, int]
    """By row: the time on the critical path that the row spent itself, not waiting for a child."""
    runs: list[Run]
    start_ns: int
    end_ns: int
    n_orphans: int
    n_cycles: int
    n_trace_scores: int
    """Judgements of the trace as a whole, or of a span that is not here."""
    totals: "Totals"

    def __len__(self) -> int:
        return len(self.source)

    def sums(self, row: int) -> Sums:
        """Return what the row and everything below it used, without going through it."""
        return self.totals.between(row, row + self.n_below[row] + 1)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What counts, and the sums up to each of it: the difference of two is the sum of the rows between them."""

    billed: list[int]
    """Rows whose tokens and money count, ascending; the lists below have one entry more, beginning with nothing."""
    failed: list[int]
    """Rows that failed, ascending."""
    input_tokens: list[int]
    output_tokens: list[int]
    n_input_known: list[int]
    n_output_known: list[int]
    cost_usd: list[Decimal]
    n_priced: list[int]

    def between(self, first: int, end: int) -> Sums:
        """Return the sums over the rows in `[first, end)`."""
        low, high = bisect_left(self.billed, first), bisect_left(self.billed, end)

        def count(sums: list[int]) -> int:
            return sums[high] - sums[low]

        n_calls, n_priced = high - low, count(self.n_priced)
        return Sums(
            input_tokens=count(self.input_tokens) if count(self.n_input_known) else None,
            output_tokens=count(self.output_tokens) if count(self.n_output_known) else None,
            cost_usd=plain_decimal(self.cost_usd[high] - self.cost_usd[low]) if n_priced else None,
            n_calls=n_calls,
            n_unpriced=n_calls - n_priced,
            n_errors=bisect_left(self.failed, end) - bisect_left(self.failed, first),
        )


def build_tree(skeleton: Skeleton) -> TraceTree:
    """Return the tree of a trace. Linear in the number of spans, but for the sorting of children on the critical path."""
    judging = {at for at, kind in enumerate(skeleton.kinds) if kind == EVALUATION}
    parent_of, orphans = _find_parents(skeleton)
    scores, hidden, n_trace_scores = _place_scores(skeleton, parent_of)
    order, depths, cuts = _walk(parent_of, hidden)
    row_of = [NO_ROW] * (len(skeleton) + 1)  # the last place is that of no parent
    for row, at in enumerate(order):
        row_of[at] = row
    parents = [row_of[parent_of[at]] if depth else NO_ROW for at, depth in zip(order, depths, strict=True)]
    n_below = _count_below(parents)
    starts = [skeleton.start_ns[at] for at in order]
    ends = [skeleton.end_ns[at] for at in order]
    skip = {row for row, at in enumerate(order) if at in judging} if judging else frozenset[int]()
    start_ns, end_ns = _reach(starts, ends, skip)
    critical = find_critical_path(
        starts,
        [max(end_ns if end is None else end, start) for start, end in zip(starts, ends, strict=True)],
        parents,
        n_below,
        skip=skip,
    )
    flags = _flag(starts, ends, parents, skip)
    for row in critical:
        flags[row] |= CRITICAL
    for at, flag in (*((at, ORPHAN) for at in orphans - hidden), *((at, CYCLE) for at in cuts)):
        flags[row_of[at]] |= flag
    if any(skeleton.payload_dropped):
        for row, at in enumerate(order):
            flags[row] |= DROPPED if skeleton.payload_dropped[at] else 0
    billed = _find_billed(skeleton, order, n_below)
    for row in billed:
        flags[row] |= BILLED
    return TraceTree(
        source=order,
        parents=parents,
        depths=depths,
        n_below=n_below,
        flags=flags,
        scores=[scores.get(at, 0) for at in order] if scores else [0] * len(order),
        critical_ns=critical,
        runs=_find_runs(skeleton, order, parents, n_below),
        start_ns=start_ns,
        end_ns=end_ns,
        n_orphans=len(orphans - hidden),
        n_cycles=len(cuts),
        n_trace_scores=n_trace_scores,
        totals=_sum_up(skeleton, order, billed),
    )


def _find_parents(skeleton: Skeleton) -> tuple[list[int], set[int]]:
    """Return each span's parent as a position (-1: none here), and the spans that name one which is missing."""
    position = {span_id: at for at, span_id in enumerate(skeleton.span_ids)}
    find = position.get
    parents = [NO_ROW if parent is None else find(parent, NO_ROW) for parent in skeleton.parent_ids]
    orphans = {
        at
        for at, (found, named) in enumerate(zip(parents, skeleton.parent_ids, strict=True))
        if found == NO_ROW and named is not None
    }
    return parents, orphans


def _place_scores(skeleton: Skeleton, parent_of: list[int]) -> tuple[dict[int, int], set[int], int]:
    """Return how many judgements each span has, the spans that are nothing else, and how many judge the trace."""
    scores: dict[int, int] = {}
    hidden: set[int] = set()
    n_trace_scores = 0
    bringing = [at for at, n_scores in enumerate(skeleton.n_scores) if n_scores]
    has_children = set(parent_of) if bringing else set()
    for at in bringing:
        is_mark = skeleton.kinds[at] == EVALUATION and at not in has_children
        target = parent_of[at] if is_mark else at
        if is_mark:
            hidden.add(at)
        if target == NO_ROW:
            n_trace_scores += skeleton.n_scores[at]
        else:
            scores[target] = scores.get(target, 0) + skeleton.n_scores[at]
    if len(hidden) == len(skeleton):  # a trace of judgements alone, as those of a session have
        return {at: skeleton.n_scores[at] for at in bringing}, set(), 0
    return scores, hidden, n_trace_scores


def _walk(parent_of: list[int], hidden: set[int]) -> tuple[list[int], list[int], set[int]]:
    """Return the spans parents first, their depths, and those at which a cycle was cut open.

    Children are chained through two lists, first child and next sibling: a list for each span would cost more than all of
    the rest.
    """
    n_spans = len(parent_of)
    first, following = (
        [NO_ROW] * (n_spans + 1),
        [NO_ROW] * n_spans,
    )  # the last place of `first` is for those on top
    for at in range(n_spans - 1, -1, -1):
        if at not in hidden:
            parent = parent_of[at]
            following[at] = first[parent]
            first[parent] = at
    order: list[int] = []
    depth_of = [0] * n_spans
    seen = [False] * n_spans

    def descend(stack: list[int], *, is_cut: bool) -> None:
        while stack:
            at = stack.pop()
            depth = depth_of[at]
            after = following[at]
            if after != NO_ROW and not is_cut:
                depth_of[after] = depth
                stack.append(after)
            is_cut = False
            if seen[at]:
                continue
            seen[at] = True
            order.append(at)
            below = first[at]
            if below != NO_ROW:
                if not seen[below]:
                    depth_of[below] = depth + 1
                stack.append(below)

    if first[NO_ROW] != NO_ROW:
        descend([first[NO_ROW]], is_cut=False)
    cuts: set[int] = set()
    if len(order) + len(hidden) < n_spans:
        for at in range(n_spans):
            if not seen[at] and at not in hidden:
                cuts.add(at)
                descend([at], is_cut=True)
    return order, [depth_of[at] for at in order], cuts


def _count_below(parents: list[int]) -> list[int]:
    counts = [0] * len(parents)
    for row in range(len(parents) - 1, -1, -1):
        if parents[row] != NO_ROW:
            counts[parents[row]] += counts[row] + 1
    return counts


def _reach(starts: list[int], ends: list[int | None], skip: Set[int]) -> tuple[int, int]:
    """Return when the trace began and ended; what was judged afterwards does not make it longer."""
    if not starts:
        return 0, 0
    if skip and len(skip) < len(starts):
        timed = [row for row in range(len(starts)) if row not in skip]
        starts, ends = [starts[row] for row in timed], [ends[row] for row in timed]
    return min(starts), max(*starts, *(end or 0 for end in ends), 0)


def _flag(starts: list[int], ends: list[int | None], parents: list[int], skip: Set[int]) -> list[int]:
    """Return what the times of each row say."""
    flags = [0] * len(starts)
    for row, (start, end, parent) in enumerate(zip(starts, ends, parents, strict=True)):
        flag = OPEN if end is None else 0
        if parent != NO_ROW:
            if start < starts[parent] - SKEW_NS:
                flag |= EARLY
            above = ends[parent]
            if end is not None and above is not None and end > above + SKEW_NS and row not in skip:
                flag |= LATE
        flags[row] = flag
    return flags


def _find_billed(skeleton: Skeleton, order: list[int], n_below: list[int]) -> list[int]:
    """Return the rows of model calls with no other one below them, and of lost attempts; ascending."""
    asking = [row for row, at in enumerate(order) if skeleton.kinds[at] in _ASKING and _asks(skeleton, at)]
    following = [*asking[1:], len(order)] if asking else []
    leaves = [row for row, after in zip(asking, following, strict=True) if after > row + n_below[row]]
    attempts = [row for row, at in enumerate(order) if skeleton.kinds[at] == ATTEMPT]
    return sorted(leaves + attempts)


def _asks(skeleton: Skeleton, at: int) -> bool:
    return (
        skeleton.kinds[at] != RERANK
        or skeleton.cost_usd[at] is not None
        or skeleton.input_tokens[at] is not None
    )


def _find_runs(skeleton: Skeleton, order: list[int], parents: list[int], n_below: list[int]) -> list[Run]:
    """Return the runs of alike siblings, by their first row. Single records and chains have none."""
    kinds = [skeleton.kinds[at] for at in order]
    names = [skeleton.names[at] for at in order]
    runs: list[Run] = []
    n_rows = len(order)
    counted: set[int] = set()
    for row, below in enumerate(n_below):
        after = row + below + 1
        if after >= n_rows or names[after] != names[row] or parents[after] != parents[row] or row in counted:
            continue
        size, kind = 1, kinds[row]
        while (
            after < n_rows
            and parents[after] == parents[row]
            and names[after] == names[row]
            and kinds[after] == kind
        ):
            counted.add(after)
            size += 1
            after += n_below[after] + 1
        if size >= (MIN_ATTEMPTS if kind == ATTEMPT else MIN_RUN):
            runs.append(Run(row=row, size=size))
    return runs


def _sum_up(skeleton: Skeleton, order: list[int], billed: list[int]) -> Totals:
    spans = [order[row] for row in billed]
    given = [skeleton.input_tokens[at] for at in spans]
    answered = [skeleton.output_tokens[at] for at in spans]
    costs = [skeleton.cost_usd[at] for at in spans]
    return Totals(
        billed=billed,
        failed=[row for row, at in enumerate(order) if skeleton.statuses[at] == "error"],
        input_tokens=_running(count or 0 for count in given),
        output_tokens=_running(count or 0 for count in answered),
        n_input_known=_running(count is not None for count in given),
        n_output_known=_running(count is not None for count in answered),
        cost_usd=list(accumulate((cost or Decimal(0) for cost in costs), initial=Decimal(0))),
        n_priced=_running(cost is not None for cost in costs),
    )


def _running(counts: Iterable[int]) -> list[int]:
    return list(accumulate(counts, initial=0))
