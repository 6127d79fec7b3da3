"""One trace ready to be drawn: its row in lists, its skeleton and its tree, and the columns that a browser draws from."""

from collections.abc import Sequence

import msgspec
import numpy as np

from penstock.store.spans.skeleton import Skeleton
from penstock.store.spans.types import TraceRow
from penstock.traces.tree import BILLED, CYCLE, OPEN, ORPHAN, TraceTree

STATUSES = ("unset", "ok", "error")
N_ON_PATH = 4
QUIET_NS = 15 * 60 * 1_000_000_000
"""A trace with loose ends that has been quiet for so long is not waited for any more."""


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A trace without its payloads."""

    trace_id: str
    summary: TraceRow
    skeleton: Skeleton
    tree: TraceTree

    def id_of(self, row: int) -> str:
        """Return the span id of a row."""
        return f"{self.skeleton.span_ids[self.tree.source[row]]:016x}"

    @property
    def root(self) -> int:
        """The row that stands for the trace: the first one on top whose parent was not left behind."""
        tops = [row for row, depth in enumerate(self.tree.depths) if depth == 0]
        return next((row for row in tops if not self.tree.flags[row] & (ORPHAN | CYCLE)), tops[0])

    def row_of(self, span_id: str) -> int | None:
        """Return the row of a span, or None when it has none."""
        try:
            return self.tree.source.index(self.skeleton.span_ids.index(int(span_id, 16)))
        except ValueError:
            return None

    def has_span(self, span_id: str) -> bool:
        """Return whether the span is in the trace, with a row or without."""
        try:
            return int(span_id, 16) in self.skeleton.span_ids
        except ValueError:
            return False

    def is_live(self, now_ns: int) -> bool:
        """Return whether more of it is to be expected: something is open or missing, and it was heard of lately."""
        if not self.tree.source:
            return False
        has_loose_ends = bool(self.tree.n_orphans) or any(flag & OPEN for flag in self.tree.flags)
        return has_loose_ends and now_ns - self.tree.end_ns < QUIET_NS


class OutlineColumns(msgspec.Struct, frozen=True, kw_only=True):
    """The tree as a browser gets it: one entry a row in every list, about 85 bytes a row.

    Times are microseconds from `start_ms` on. A number in `names`, `kinds` and `models` is a place in the list of that name in
    `words`, -1 is none. Money is rounded to 12 digits here; `/spans` has it exact.
    """

    trace_id: str
    n_spans: int
    n_rows: int
    start_ms: float
    """Milliseconds since the epoch."""
    duration_us: int
    is_live: bool
    n_orphans: int
    n_cycles: int
    n_trace_scores: int
    words: dict[str, list[str]]
    ids: list[str]
    parents: list[int]
    depths: list[int]
    below: list[int]
    names: list[int]
    kinds: list[int]
    models: list[int]
    starts: list[int]
    lengths: list[int | None]
    """None while the span is open."""
    statuses: list[int]
    """Place in `words.statuses`."""
    flags: list[int]
    """Bits: 1 orphan, 2 open, 4 cut out of a cycle, 8 starts before its parent, 16 ends after it, 32 on the critical path,
    64 payload dropped, 128 its tokens and money count in sums."""
    tokens_in: list[int | None]
    tokens_out: list[int | None]
    cost: list[float | None]
    ttft: list[int | None]
    scores: list[int]
    runs: list[tuple[int, int]]
    """First row and number of alike siblings that follow one another."""
    path: list[tuple[str, int, int]]
    """Where the time of the critical path went: name, percent, and the row that took most of it."""


def to_columns(outline: Outline, *, is_live: bool) -> OutlineColumns:
    """Return the columns of an outline."""
    skeleton, tree = outline.skeleton, outline.tree
    order, start_ns = tree.source, tree.start_ns
    names, name_words = _number([skeleton.names[at] for at in order])
    kinds, kind_words = _number([skeleton.kinds[at] for at in order])
    models, model_words = _number([skeleton.models[at] for at in order])
    ends, starts, costs = skeleton.end_ns, skeleton.start_ns, skeleton.cost_usd
    status_of = {word: place for place, word in enumerate(STATUSES)}
    return OutlineColumns(
        trace_id=outline.trace_id,
        n_spans=len(skeleton),
        n_rows=len(tree),
        start_ms=start_ns / 1e6,
        duration_us=(tree.end_ns - start_ns) // 1000,
        is_live=is_live,
        n_orphans=tree.n_orphans,
        n_cycles=tree.n_cycles,
        n_trace_scores=tree.n_trace_scores,
        words={
            "names": name_words,
            "kinds": kind_words,
            "models": model_words,
            "statuses": list(STATUSES),
        },
        ids=_write_ids(skeleton.span_ids, order),
        parents=tree.parents,
        depths=tree.depths,
        below=tree.n_below,
        names=names,
        kinds=kinds,
        models=models,
        starts=[(starts[at] - start_ns) // 1000 for at in order],
        lengths=[None if (end := ends[at]) is None else max(0, end - starts[at]) // 1000 for at in order],
        statuses=[status_of.get(skeleton.statuses[at], 0) for at in order],
        flags=tree.flags,
        tokens_in=_pick(skeleton.input_tokens, order),
        tokens_out=_pick(skeleton.output_tokens, order),
        cost=[
            None if not flag & BILLED or (cost := costs[at]) is None else float(f"{float(cost):.12g}")
            for at, flag in zip(order, tree.flags, strict=True)
        ],
        ttft=[None if (ms := skeleton.ttft_ms[at]) is None else round(ms * 1000) for at in order],
        scores=tree.scores,
        runs=[(run.row, run.size) for run in tree.runs],
        path=sum_path(outline),
    )


def sum_path(outline: Outline) -> list[tuple[str, int, int]]:
    """Return the names that took most of the critical path: share in percent, and the row that took most of it."""
    skeleton, tree = outline.skeleton, outline.tree
    total = sum(tree.critical_ns.values())
    if total <= 0 or len(tree) < 2:
        return []
    times: dict[str, int] = {}
    longest: dict[str, tuple[int, int]] = {}
    for row, own_ns in tree.critical_ns.items():
        name = skeleton.names[tree.source[row]]
        times[name] = times.get(name, 0) + own_ns
        if own_ns > longest.get(name, (-1, 0))[0]:
            longest[name] = (own_ns, row)
    best = sorted(times.items(), key=lambda item: -item[1])[:N_ON_PATH]
    return [
        (name, round(100 * own_ns / total), longest[name][1])
        for name, own_ns in best
        if own_ns * 100 >= total
    ]


def _number(values: Sequence[str | None]) -> tuple[list[int], list[str]]:
    """Return each value's place among the words that occur, and those words; -1 for none."""
    words = [word for word in dict.fromkeys(values) if word is not None]
    places: dict[str | None, int] = {word: place for place, word in enumerate(words)}
    places[None] = -1
    return [places[value] for value in values], words


def _write_ids(span_ids: list[int], order: list[int]) -> list[str]:
    """Return the ids in hex: as one text that is cut up, which is three times as fast as each by itself."""
    text = np.array([span_ids[at] for at in order], dtype=">u8").tobytes().hex()
    return [text[at : at + 16] for at in range(0, len(text), 16)]


def _pick(column: list[int | None], order: list[int]) -> list[int | None]:
    return [column[at] for at in order]
