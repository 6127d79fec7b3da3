"""Lays a trace's skeleton out as a tree of rows: pure, without recursion, and sound for any input.

Missing parents, clocks that disagree, spans without end, cycles and 100,000 spans all give a tree: every span has one
row, parents above children, siblings by start time. Spans whose parent is missing hang at the top; of a cycle the
earliest span becomes a top-level row. The surprise: an `evaluation` span that only brings scores has no row. It was
written when somebody judged, perhaps days later, so it is counted at the row that it judges.
"""

from collections.abc import Set
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
        """Return what the row and everything below it used; O(1)."""
        return self.totals.between(row, row + self.n_below[row] + 1)


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums from the first row up to each row: the difference of two is the sum of the rows between them."""

    input_tokens: list[int]
    output_tokens: list[int]
    n_input_known: list[int]
    n_output_known: list[int]
    cost_usd: list[Decimal]
    n_priced: list[int]
    n_calls: list[int]
    n_errors: list[int]

    def between(self, first: int, end: int) -> Sums:
        """Return the sums over the rows in `[first, end)`."""

        def count(sums: list[int]) -> int:
            return sums[end] - sums[first]

        n_calls, n_priced = count(self.n_calls), count(self.n_priced)
        return Sums(
            input_tokens=count(self.input_tokens) if count(self.n_input_known) else None,
            output_tokens=count(self.output_tokens) if count(self.n_output_known) else None,
            cost_usd=plain_decimal(self.cost_usd[end] - self.cost_usd[first]) if n_priced else None,
            n_calls=n_calls,
            n_unpriced=n_calls - n_priced,
            n_errors=count(self.n_errors),
        )


def build_tree(skeleton: Skeleton) -> TraceTree:
    """Return the tree of a trace. Linear in the number of spans, but for the sorting of children on the critical path."""
    judging = {at for at, kind in enumerate(skeleton.kinds) if kind == EVALUATION}
    parent_of, orphans = _find_parents(skeleton)
    children, tops = _group(parent_of)
    scores, hidden, n_trace_scores = _place_scores(skeleton, parent_of, children)
    if hidden:
        children = {at: [child for child in below if child not in hidden] for at, below in children.items()}
        tops = [top for top in tops if top not in hidden]
    order, depths, cuts = _walk(len(skeleton), children, tops, hidden)
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


def _group(parent_of: list[int]) -> tuple[dict[int, list[int]], list[int]]:
    """Return the children of each span that has some, and the spans on top; both by start time, as the skeleton is."""
    children: dict[int, list[int]] = {}
    for at, parent in enumerate(parent_of):
        known = children.get(parent)
        if known is None:
            children[parent] = [at]
        else:
            known.append(at)
    return children, children.pop(NO_ROW, [])


def _place_scores(
    skeleton: Skeleton, parent_of: list[int], children: dict[int, list[int]]
) -> tuple[dict[int, int], set[int], int]:
    """Return how many judgements each span has, the spans that are nothing else, and how many judge the trace."""
    scores: dict[int, int] = {}
    hidden: set[int] = set()
    n_trace_scores = 0
    if not any(skeleton.n_scores):
        return scores, hidden, n_trace_scores
    for at, n_scores in enumerate(skeleton.n_scores):
        if not n_scores:
            continue
        is_mark = skeleton.kinds[at] == EVALUATION and at not in children
        target = parent_of[at] if is_mark else at
        if is_mark:
            hidden.add(at)
        if target == NO_ROW:
            n_trace_scores += n_scores
        else:
            scores[target] = scores.get(target, 0) + n_scores
    if len(hidden) == len(skeleton):  # a trace of judgements alone, as those of a session have
        return {at: count for at, count in enumerate(skeleton.n_scores) if count}, set(), 0
    return scores, hidden, n_trace_scores


def _walk(
    n_spans: int, children: dict[int, list[int]], tops: list[int], hidden: set[int]
) -> tuple[list[int], list[int], set[int]]:
    """Return the spans parents first, their depths, and those at which a cycle was cut open."""
    order: list[int] = []
    depth_of = [0] * n_spans
    seen = [False] * n_spans
    find = children.get

    def descend(top: int) -> None:
        depth_of[top] = 0
        stack = [top]
        while stack:
            at = stack.pop()
            if seen[at]:
                continue
            seen[at] = True
            order.append(at)
            below = find(at)
            if below is not None:
                deeper = depth_of[at] + 1
                for child in reversed(below):
                    if not seen[child]:
                        depth_of[child] = deeper
                        stack.append(child)

    for top in tops:
        descend(top)
    cuts: set[int] = set()
    if len(order) + len(hidden) < n_spans:
        for at in range(n_spans):
            if not seen[at] and at not in hidden:
                cuts.add(at)
                descend(at)
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
    """Return the rows of model calls with no other one below them, and of lost attempts."""
    asked = [
        (kind := skeleton.kinds[at]) in MODEL_KINDS
        or (kind == RERANK and (skeleton.cost_usd[at] is not None or skeleton.input_tokens[at] is not None))
        for at in order
    ]
    above = list(accumulate(asked, initial=0))
    return [
        row
        for row, at in enumerate(order)
        if (asked[row] and above[row + n_below[row] + 1] == above[row + 1]) or skeleton.kinds[at] == ATTEMPT
    ]


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
    n_rows, statuses = len(order), skeleton.statuses
    given, answered, known_in, known_out, priced, calls = ([0] * n_rows for _ in range(6))
    money: list[Decimal] = [Decimal(0)] * n_rows
    for row in billed:
        at = order[row]
        calls[row] = 1
        if (count := skeleton.input_tokens[at]) is not None:
            given[row], known_in[row] = count, 1
        if (count := skeleton.output_tokens[at]) is not None:
            answered[row], known_out[row] = count, 1
        if (cost := skeleton.cost_usd[at]) is not None:
            money[row], priced[row] = cost, 1
    return Totals(
        input_tokens=_running(given),
        output_tokens=_running(answered),
        n_input_known=_running(known_in),
        n_output_known=_running(known_out),
        cost_usd=list(accumulate(money, initial=Decimal(0))),
        n_priced=_running(priced),
        n_calls=_running(calls),
        n_errors=_running([statuses[at] == "error" for at in order]),
    )


def _running(counts: list[int]) -> list[int]:
    return list(accumulate(counts, initial=0))
