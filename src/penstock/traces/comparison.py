"""Two traces, or two parts of traces, side by side: which steps belong together, and in what they differ.

Steps are aligned level by level: the children of two steps that belong together are paired by kind and name, and what is
left over between them by kind alone, since names tell the model (`chat large` beside `chat small`).
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.spec.search import All, Compare
from penstock.store.spans.types import TraceQuery
from penstock.traces.alignment import Change, align, diff_words
from penstock.traces.conversation import plain_text, read_exchange
from penstock.traces.outline import Outline
from penstock.traces.service import TraceService, plain_id
from penstock.traces.tree import NO_ROW

MAX_PAIRS = 5000
MAX_TEXT = 40_000
_ALIKE_SHARE, _ALIKE_MS = 0.2, 20.0
"""Durations that differ by less than this are taken as the same."""


class WrongReference(InvalidInput):
    """What is to be compared is no trace and no span."""

    code = "PS-1991"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A trace, or a span of it with everything below."""

    trace_id: str
    span_id: str | None = None

    def __str__(self) -> str:
        return self.trace_id if self.span_id is None else f"{self.trace_id}/{self.span_id}"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One span; tokens and money are of it and everything below."""

    span_id: str
    name: str
    kind: str
    status: str
    model: str | None
    duration_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None
    n_errors: int

    @property
    def tokens(self) -> int | None:
        """In and out; None where neither is known."""
        known = [count for count in (self.input_tokens, self.output_tokens) if count is not None]
        return sum(known) if known else None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two steps that belong together; None where the other side has none."""

    depth: int
    left: Step | None
    right: Step | None

    @property
    def differs(self) -> bool:
        """Whether more than the clock differs."""
        one, two = self.left, self.right
        if one is None or two is None:
            return True
        facts = ("name", "status", "model", "input_tokens", "output_tokens", "cost_usd", "n_errors")
        return any(getattr(one, name) != getattr(two, name) for name in facts) or self.is_slower_or_faster

    @property
    def is_slower_or_faster(self) -> bool:
        """Whether the durations differ by more than they do anyway."""
        if self.left is None or self.right is None:
            return False
        one, two = self.left.duration_ms, self.right.duration_ms
        if one is None or two is None:
            return one is not two
        return abs(two - one) > max(_ALIKE_MS, _ALIKE_SHARE * max(one, two))


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of a comparison adds up to."""

    n_steps: int
    duration_ms: float | None
    tokens: int | None
    cost_usd: Decimal | None
    n_errors: int


class TraceDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Two references compared."""

    left: Reference
    right: Reference
    pairs: list[Pair]
    n_left_out: int
    """Pairs beyond `MAX_PAIRS`."""
    n_same: int
    """Pairs that do not differ, those beyond `MAX_PAIRS` counted too."""
    totals: tuple[Totals, Totals]
    """Of each side as a whole."""
    versions: list[tuple[str, str | None, str | None]]
    """What shaped one of them or both: asset, and its version left and right."""


class PayloadDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What went into two spans and came out of them, in words."""

    input: list[Change]
    output: list[Change]
    is_cut: bool
    """A text was longer than `MAX_TEXT` characters and compared up to there."""


def read_reference(text: str) -> Reference:
    """Return what `TRACE` or `TRACE/SPAN` names; raise `WrongReference`."""
    trace_id, _, span_id = text.strip().partition("/")
    reference = Reference(trace_id=plain_id(trace_id), span_id=span_id.strip().lower() or None)
    if len(reference.trace_id) != 32 or (reference.span_id is not None and len(reference.span_id) != 16):
        raise WrongReference(
            f"{text!r} names no trace and no span.",
            hint="Write the 32 characters of a trace's id, or `TRACE/SPAN` for a span and what is below it.",
        )
    return reference


def find_counterpart(traces: TraceService, reference: Reference) -> Reference | None:
    """Return the trace before this one of the same route, or else of the same name; of a span the span alike in it."""
    outline = traces.read_outline(reference.trace_id)
    summary = outline.summary
    field, value = ("route", summary.route) if summary.route else ("name", summary.name)
    same = Compare(field=field, operator="=", value=value)
    query = TraceQuery(where=All(parts=(same,)), until_ns=summary.start_ns, limit=1)
    rows = traces.list_traces(query).rows
    if not rows:
        return None
    row = None if reference.span_id is None else _row_of(outline, reference)
    if row is None:
        return Reference(trace_id=rows[0].trace_id)
    before = traces.read_outline(rows[0].trace_id)
    alike = [at for at in range(len(before.tree)) if _key(before, at) == _key(outline, row)]
    place = sum(_key(outline, at) == _key(outline, row) for at in range(row))
    if not alike:
        return Reference(trace_id=before.trace_id)
    return Reference(trace_id=before.trace_id, span_id=before.id_of(alike[min(place, len(alike) - 1)]))


def compare_traces(traces: TraceService, left: Reference, right: Reference) -> TraceDiff:
    """Return the two aligned; raise `UnknownTrace`, and `WrongReference` for a span that is not there."""
    one, two = traces.read_outline(left.trace_id), traces.read_outline(right.trace_id)
    rows = align_trees(one, _row_of(one, left), two, _row_of(two, right))
    stamps = one.skeleton.versions, two.skeleton.versions
    pairs = [
        Pair(
            depth=depth,
            left=None if at is None else _step(one, at),
            right=None if to is None else _step(two, to),
        )
        for at, to, depth in rows
    ]
    return TraceDiff(
        left=left,
        right=right,
        pairs=pairs[:MAX_PAIRS],
        n_left_out=max(0, len(rows) - MAX_PAIRS),
        n_same=sum(not pair.differs for pair in pairs),
        totals=(
            add_up([(pair.depth, pair.left) for pair in pairs]),
            add_up([(pair.depth, pair.right) for pair in pairs]),
        ),
        versions=[
            (asset, stamps[0].get(asset), stamps[1].get(asset)) for asset in sorted({*stamps[0], *stamps[1]})
        ],
    )


def add_up(pairs: Sequence[tuple[int, Step | None]]) -> Totals:
    """Return the sums of one side from all its steps with their depth: those on top hold everything below."""
    steps = [(depth, step) for depth, step in pairs if step is not None]
    tops = [step for depth, step in steps if depth == 0]
    durations = [step.duration_ms for step in tops if step.duration_ms is not None]
    tokens = [step.tokens for step in tops if step.tokens is not None]
    costs = [step.cost_usd for step in tops if step.cost_usd is not None]
    return Totals(
        n_steps=len(steps),
        duration_ms=max(durations, default=None),
        tokens=sum(tokens) if tokens else None,
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        n_errors=sum(step.n_errors for step in tops),
    )


def compare_payloads(traces: TraceService, left: Reference | None, right: Reference | None) -> PayloadDiff:
    """Return what differs in what went in and out of two spans; None stands for a side that has none."""
    one, two = _texts(traces, left), _texts(traces, right)
    return PayloadDiff(
        input=diff_words(one[0][:MAX_TEXT], two[0][:MAX_TEXT]),
        output=diff_words(one[1][:MAX_TEXT], two[1][:MAX_TEXT]),
        is_cut=any(len(text) > MAX_TEXT for text in (*one, *two)),
    )


def align_trees(
    left: Outline, left_top: int | None, right: Outline, right_top: int | None
) -> list[tuple[int | None, int | None, int]]:
    """Return pairs of rows, parents first, with their depth; without a top row whole traces are compared.

    The two top rows, or those that stand for the traces, belong together whatever they are called.
    """
    pairs: list[tuple[int | None, int | None, int]] = []
    work: list[tuple[int | None, int | None, int]] = []

    def push(ones: list[int], twos: list[int], depth: int) -> None:
        found = _pair_up(left, ones, right, twos)
        work.extend((at, to, depth) for at, to in reversed(found))

    tops = (
        [] if left_top is not None else _children(left, None),
        [] if right_top is not None else _children(right, None),
    )
    heads = left.root if left_top is None else left_top, right.root if right_top is None else right_top
    push([top for top in tops[0] if top != heads[0]], [top for top in tops[1] if top != heads[1]], 0)
    work.append((*heads, 0))
    while work:
        at, to, depth = work.pop()
        pairs.append((at, to, depth))
        push(
            _children(left, at) if at is not None else [],
            _children(right, to) if to is not None else [],
            depth + 1,
        )
    return pairs


def _pair_up(
    left: Outline, ones: list[int], right: Outline, twos: list[int]
) -> list[tuple[int | None, int | None]]:
    if not ones or not twos:
        return [*((one, None) for one in ones), *((None, two) for two in twos)]
    found = align([_key(left, row) for row in ones], [_key(right, row) for row in twos])
    settled: list[tuple[int | None, int | None]] = []
    gap_left: list[int] = []
    gap_right: list[int] = []

    def close_gap() -> None:
        inner = align([_key(left, row)[0] for row in gap_left], [_key(right, row)[0] for row in gap_right])
        settled.extend(
            (None if at is None else gap_left[at], None if to is None else gap_right[to]) for at, to in inner
        )
        gap_left.clear()
        gap_right.clear()

    for at, to in found:
        if at is not None and to is not None:
            close_gap()
            settled.append((ones[at], twos[to]))
        elif at is not None:
            gap_left.append(ones[at])
        elif to is not None:
            gap_right.append(twos[to])
    close_gap()
    return settled


def _key(outline: Outline, row: int) -> tuple[str, str]:
    at = outline.tree.source[row]
    return (outline.skeleton.kinds[at], outline.skeleton.names[at])


def _children(outline: Outline, row: int | None) -> list[int]:
    tree = outline.tree
    if row is None:
        return [at for at, parent in enumerate(tree.parents) if parent == NO_ROW]
    found, child, end = [], row + 1, row + tree.n_below[row] + 1
    while child < end:
        found.append(child)
        child += tree.n_below[child] + 1
    return found


def _row_of(outline: Outline, reference: Reference) -> int | None:
    if reference.span_id is None:
        return None
    row = outline.row_of(reference.span_id)
    if row is None:
        raise WrongReference(f"The trace {reference.trace_id} has no span {reference.span_id!r}.")
    return row


def _step(outline: Outline, row: int) -> Step:
    skeleton, at, sums = outline.skeleton, outline.tree.source[row], outline.tree.sums(row)
    end = skeleton.end_ns[at]
    return Step(
        span_id=outline.id_of(row),
        name=skeleton.names[at],
        kind=skeleton.kinds[at],
        status=skeleton.statuses[at],
        model=skeleton.models[at],
        duration_ms=None if end is None else (end - skeleton.start_ns[at]) / 1e6,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost_usd=sums.cost_usd,
        n_errors=sums.n_errors,
    )


def _texts(traces: TraceService, reference: Reference | None) -> tuple[str, str]:
    if reference is None or reference.span_id is None:
        return "", ""
    payload = traces.get_payload(reference.trace_id, reference.span_id)
    exchange = read_exchange(payload.input, payload.output)
    asked = _joined(exchange.asked) if exchange and exchange.asked else _as_json(payload.input)
    answered = _joined(exchange.answered) if exchange and exchange.answered else _as_json(payload.output)
    return asked, answered


def _joined(messages: Sequence[Any]) -> str:
    return "\n\n".join(f"{message.role}: {plain_text(message)}" for message in messages)


def _as_json(value: object) -> str:
    return "" if value is None else msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode()
