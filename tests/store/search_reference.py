"""What a condition means, told in plain Python over lists of spans: the search in SQL is held against it."""

import operator
import re
from collections.abc import Callable
from typing import Any

from penstock.spec.search import All, Compare, Condition, Either, Negated, Related, Words
from penstock.spec.spans import Span
from penstock.store.spans.rows import prepare_span
from penstock.store.spans.summaries import TraceSummary

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Trace:
    """One trace with all it takes to ask it."""

    def __init__(self, spans: list[Span], summary: TraceSummary) -> None:
        self.spans = spans
        self.summary = summary
        self.root = next(span for span in spans if int(span.span_id, 16) == summary.root_id)


def holds_for_trace(condition: Condition, trace: Trace) -> bool:
    """Return whether the trace satisfies the condition."""
    if isinstance(condition, All):
        return all(holds_for_trace(part, trace) for part in condition.parts)
    if isinstance(condition, Either):
        return any(holds_for_trace(part, trace) for part in condition.parts)
    if isinstance(condition, Negated):
        return not holds_for_trace(condition.condition, trace)
    if isinstance(condition, Related):
        return _count(condition, _related_to_root(condition.relation, trace), trace)
    if isinstance(condition, Words):
        return any(_has_words(condition, span) for span in trace.spans)
    if condition.operator == "!=":
        return not holds_for_trace(Compare(condition.field, "=", condition.value), trace)
    own = {
        "duration": trace.summary.duration_ms,
        "cost": trace.summary.cost_usd,
        "spans": trace.summary.n_spans,
        "errors": trace.summary.n_errors,
        "user": trace.summary.user_id,
    }
    if condition.field in own:
        return _compare(condition, own[condition.field])
    if condition.field in {"name", "kind", "status", "route", "http_status"}:
        return holds_for_span(condition, trace.root, trace)
    return any(holds_for_span(condition, span, trace) for span in trace.spans)


def holds_for_span(condition: Condition, span: Span, trace: Trace) -> bool:
    """Return whether the span satisfies the condition."""
    if isinstance(condition, All):
        return all(holds_for_span(part, span, trace) for part in condition.parts)
    if isinstance(condition, Either):
        return any(holds_for_span(part, span, trace) for part in condition.parts)
    if isinstance(condition, Negated):
        return not holds_for_span(condition.condition, span, trace)
    if isinstance(condition, Related):
        return _count(condition, _related_to_span(condition.relation, span, trace), trace)
    if isinstance(condition, Words):
        return _has_words(condition, span)
    if condition.operator == "!=":
        return not holds_for_span(Compare(condition.field, "=", condition.value), span, trace)
    return _compare(condition, _value(condition.field, span, trace))


def _count(part: Related, spans: list[Span], trace: Trace) -> bool:
    found = sum(holds_for_span(part.condition, span, trace) for span in spans)
    return _ORDER[part.operator](found, part.count)


def _related_to_root(relation: str, trace: Trace) -> list[Span]:
    if relation == "descendant":
        return [span for span in trace.spans if span is not trace.root]
    return _related_to_span(relation, trace.root, trace) if relation not in {"parent", "ancestor"} else []


def _related_to_span(relation: str, span: Span, trace: Trace) -> list[Span]:
    if relation == "any":
        return trace.spans
    if relation == "root":
        return [trace.root]
    if relation == "child":
        return [other for other in trace.spans if other.parent_id == span.span_id]
    if relation == "parent":
        return [other for other in trace.spans if other.span_id == span.parent_id]
    step = "child" if relation == "descendant" else "parent"
    reached: dict[str, Span] = {}
    waiting = _related_to_span(step, span, trace)
    while waiting:
        other = waiting.pop()
        if other.span_id not in reached:
            reached[other.span_id] = other
            waiting += _related_to_span(step, other, trace)
    return list(reached.values())


def _has_words(words: Words, span: Span) -> bool:
    parts = (prepare_span(span).search_text or "").lower().split("\x1e")
    if words.where == "anywhere":
        return words.text.lower() in "\x1e".join(parts)
    position = ("name", "input", "output").index(words.where)
    return len(parts) > position and words.text.lower() in parts[position]


def _value(field: str, span: Span, trace: Trace) -> Any:
    if field.startswith("attr."):
        return span.attributes.get(field.removeprefix("attr."))
    if field.startswith("version."):
        found = span.versions.get(field.removeprefix("version."))
        return None if found is None else found.split("@")[0]
    if field == "duration":
        return span.duration_ms
    if field == "tokens":
        usage = span.usage
        known = [] if usage is None else [usage.input_uncached, usage.input_cache_read, usage.output_text]
        return sum(count or 0 for count in known) if any(count is not None for count in known) else None
    if field in {"spans", "errors"}:
        return getattr(trace.summary, f"n_{field}")
    names = {"cost": "cost_usd", "user": "user_id", "start": "start_ns", "span": "span_id"}
    return getattr(span, names.get(field, field))


def _compare(part: Compare, value: Any) -> bool:
    if value is None:
        return False
    if part.operator == "exists":
        return True
    if part.operator == "contains":
        return str(part.value).lower() in str(value).lower()
    if part.operator == "starts":
        return str(value).lower().startswith(str(part.value).lower())
    if part.operator == "matches":
        return re.search(str(part.value), str(value)) is not None
    if part.field.startswith("attr.") and isinstance(value, str) and not isinstance(part.value, str):
        return False
    return _ORDER[part.operator](float(value) if part.field == "cost" else value, part.value)
