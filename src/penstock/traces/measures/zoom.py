"""The way from a point to the traces behind it: a search and a window."""

from collections.abc import Callable, Mapping

from penstock.spec.measures import MODEL_CALLS, MetricQuery
from penstock.spec.search import All, Compare, Condition, Either, Negated, Related
from penstock.spec.search_fields import BY_NAME
from penstock.traces.measures.types import Zoom

Render = Callable[[Condition], str]
_ORDERS = {"latency": "slowest", "ttft": "slowest", "overhead": "slowest", "cost": "dearest"}


def build_zoom(
    query: MetricQuery, group: Mapping[str, str | None], start_ns: int | None, *, render: Render
) -> Zoom:
    """Return what finds the traces (or spans) of one group in one slice, in the order that explains the measure."""
    measure = query.measures[0]
    parts: list[Condition] = []
    if query.where != All():
        parts.extend(query.where.parts if isinstance(query.where, All) else (query.where,))
    if query.subject == "call" and not _asks_kind(parts) and "kind" not in group:
        parts.append(Either(tuple(Compare("kind", "=", kind) for kind in MODEL_CALLS)))
    parts.extend(_member_of(name, value, of_traces=query.subject == "trace") for name, value in group.items())
    if measure in {"errors", "error_share"}:
        failed = Compare("status", "=", "error")
        if failed not in parts:
            parts.append(failed)
    since_ns, until_ns = query.since_ns, query.until_ns
    if start_ns is not None and query.bucket_ns is not None:
        since_ns, until_ns = max(since_ns, start_ns), min(until_ns, start_ns + query.bucket_ns)
    return Zoom(
        search=render(parts[0] if len(parts) == 1 else All(tuple(parts))) if parts else "",
        since_ns=since_ns,
        until_ns=until_ns,
        spans=query.subject != "trace",
        order=_ORDERS.get(measure.partition("_")[0], "newest"),  # type: ignore[arg-type]  # values of the table above
    )


def _member_of(name: str, value: str | None, *, of_traces: bool) -> Condition:
    field = BY_NAME.get(name)
    named = field.name if field is not None else name
    is_member = Compare(named, "exists") if value is None else Compare(named, "=", value)
    # Lists of traces ask any span for some fields; a trace's group is what its root says.
    asks_any = of_traces and name != "tag" and (field is None or field.of_trace == "any")
    condition: Condition = Related("root", is_member) if asks_any else is_member
    return Negated(condition) if value is None else condition


def _asks_kind(parts: list[Condition]) -> bool:
    return any(isinstance(part, Compare) and part.field == "kind" for part in parts)
