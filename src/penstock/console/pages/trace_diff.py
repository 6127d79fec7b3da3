"""Two traces or spans side by side: aligned steps, what differs, and the words that changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from penstock.access.declarations import needs
from penstock.access.permissions import Permission
from penstock.console.formats import DASH, format_count, format_money, format_ms
from penstock.console.rendering import Page, Renderer
from penstock.console.services import ConsoleServices
from penstock.store.spans.types import TraceRow
from penstock.traces.comparison import (
    Pair,
    PayloadDiff,
    Reference,
    Step,
    Totals,
    TraceDiff,
    compare_payloads,
    compare_traces,
    find_counterpart,
    read_reference,
)

MAX_ROWS = 500
_Number = TypeVar("_Number", float, int, Decimal)


@dataclass(frozen=True, kw_only=True)
class DiffLine:
    """One pair of steps, ready to be read."""

    pair: Pair
    name: str
    kind: str
    href: str
    is_chosen: bool
    duration: str
    tokens: str
    cost: str


@dataclass(frozen=True, kw_only=True)
class DiffPage(Page):
    """The comparison; `diff` is None while one side is missing."""

    template: ClassVar[str] = "trace_diff.html"
    a: str
    b: str
    left: TraceRow
    right: TraceRow | None
    is_guess: bool
    """Nobody said what to compare with, so the trace before of the same route was taken."""
    diff: TraceDiff | None
    lines: tuple[DiffLine, ...]
    n_same: int
    only_differing: bool
    n_hidden: int
    toggle_href: str
    words: PayloadDiff | None
    chosen: Pair | None
    totals: tuple[tuple[str, str, str, str], ...]
    """Name, left, right, and the difference."""


def create_router(services: ConsoleServices, renderer: Renderer) -> APIRouter:
    """Return `/traces/diff`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/traces/diff")
    @needs(Permission.TRACES_READ, Permission.TRACES_CONTENT)
    def show_diff(request: Request, *, a: str, b: str = "", pair: str = "", all: bool = False) -> Response:  # noqa: A002 - the word in the URL
        left = read_reference(a)
        is_guess = not b.strip()
        before = find_counterpart(services.traces, left) if is_guess else None
        right = (left if before else None) if is_guess else read_reference(b)
        left = before or left
        summary = services.traces.read_outline(left.trace_id).summary
        base = {"a": str(left), "b": str(right) if right else ""}
        diff = compare_traces(services.traces, left, right) if right else None
        shown = [each for each in diff.pairs if all or each.differs] if diff else []
        chosen = _choose(diff, pair) if diff else None
        words = None
        if chosen and right:
            one = Reference(trace_id=left.trace_id, span_id=chosen.left.span_id) if chosen.left else None
            two = Reference(trace_id=right.trace_id, span_id=chosen.right.span_id) if chosen.right else None
            words = compare_payloads(services.traces, one, two)
        lines = tuple(_line(each, base, chosen, is_all=all) for each in shown[:MAX_ROWS])
        n_wanted = len(diff.pairs) + diff.n_left_out - (0 if all else diff.n_same) if diff else 0
        page = DiffPage(
            frame=renderer.frame(request, "Comparison", "/traces"),
            a=base["a"],
            b=base["b"],
            left=summary,
            right=services.traces.read_outline(right.trace_id).summary if right else None,
            is_guess=is_guess,
            diff=diff,
            lines=lines,
            n_same=diff.n_same if diff else 0,
            only_differing=not all,
            n_hidden=n_wanted - len(lines),
            toggle_href=f"/traces/diff?{urlencode({**base, **({} if all else {'all': 'true'})})}",
            words=words,
            chosen=chosen,
            totals=_totals(*diff.totals) if diff else (),
        )
        return renderer.show(page)

    return router


def _choose(diff: TraceDiff, pair: str) -> Pair | None:
    """Return the pair that was asked for, else the deepest first one whose model calls differ, else the first."""
    one, _, two = pair.partition(":")
    for each in diff.pairs:
        if pair and _id(each.left) == one and _id(each.right) == two:
            return each
    told = [
        each for each in diff.pairs if each.left and each.right and each.left.kind == "llm" and each.differs
    ]
    return max(told, key=lambda each: each.depth, default=diff.pairs[0] if diff.pairs else None)


def _id(step: Step | None) -> str:
    return step.span_id if step else ""


def _line(pair: Pair, base: dict[str, str], chosen: Pair | None, *, is_all: bool) -> DiffLine:
    one, two = pair.left, pair.right
    some = two or one
    assert some is not None  # a pair has at least one side
    name = f"{one.name} → {two.name}" if one and two and one.name != two.name else some.name
    query = {**base, "pair": f"{_id(one)}:{_id(two)}", **({"all": "true"} if is_all else {})}
    return DiffLine(
        pair=pair,
        name=name,
        kind=some.kind,
        href=f"/traces/diff?{urlencode(query)}#words",
        is_chosen=pair is chosen,
        duration=_change(one.duration_ms, two.duration_ms, _ms) if one and two else "",
        tokens=_change(one.tokens, two.tokens, format_count) if one and two else "",
        cost=_change(one.cost_usd, two.cost_usd, format_money) if one and two else "",
    )


def _ms(value: float | None) -> str:
    return format_ms(value)


def _change(one: _Number | None, two: _Number | None, show: Callable[[_Number], str]) -> str:
    """Return the difference with its sign; empty when it is none or cannot be told."""
    if one is None or two is None or one == two:
        return ""
    sign = "+" if two > one else "−"
    share = f" ({sign}{abs(float(two - one) / float(one)) * 100:.0f} %)" if one else ""
    return f"{sign}{show(abs(two - one))}{share}"


def _totals(one: Totals, two: Totals) -> tuple[tuple[str, str, str, str], ...]:
    return (
        _total("Duration", (one.duration_ms, two.duration_ms), _ms),
        _total("Tokens", (one.tokens, two.tokens), format_count),
        _total("Cost", (one.cost_usd, two.cost_usd), format_money),
        _total("Failed spans", (one.n_errors, two.n_errors), format_count),
        _total("Steps", (one.n_steps, two.n_steps), format_count),
    )


def _total(name: str, sides: Sequence[Any], show: Callable[[Any], str]) -> tuple[str, str, str, str]:
    one, two = sides
    gap = _change(one, two, show) or ("none" if one == two else DASH)
    return (name, show(one), show(two), gap)
