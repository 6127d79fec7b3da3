"""The model calls of a trace in order, and which one each of them goes on from."""

from penstock.spec.search import Compare
from penstock.store.spans.types import TraceQuery
from penstock.traces.outline import Outline
from penstock.traces.service import TraceService
from penstock.traces.tree import BILLED, NO_ROW

_AGENTS = frozenset({"agent", "app"})


def list_model_calls(outline: Outline) -> list[int]:
    """Return the rows of the calls that asked a model to say something, by start time."""
    skeleton, tree = outline.skeleton, outline.tree
    rows = [
        row
        for row, (source, flags) in enumerate(zip(tree.source, tree.flags, strict=True))
        if flags & BILLED and skeleton.kinds[source] == "llm"
    ]
    return sorted(rows, key=lambda row: (skeleton.start_ns[tree.source[row]], row))


def find_previous(outline: Outline, calls: list[int]) -> dict[int, int]:
    """Return for each call the one before it of the same agent; the first ones have none.

    An agent is the nearest `agent` or `app` span above; without one the calls of a trace are one talk.
    """
    skeleton, tree = outline.skeleton, outline.tree
    agents: list[int] = []
    for row, parent in enumerate(tree.parents):
        if skeleton.kinds[tree.source[row]] in _AGENTS:
            agents.append(row)
        else:
            agents.append(NO_ROW if parent == NO_ROW else agents[parent])
    latest: dict[int, int] = {}
    previous: dict[int, int] = {}
    for call in calls:
        agent = agents[call]
        if agent in latest:
            previous[call] = latest[agent]
        latest[agent] = call
    return previous


def agent_of(outline: Outline, row: int) -> str | None:
    """Return the name of the agent or app that a row belongs to."""
    skeleton, tree = outline.skeleton, outline.tree
    while row != NO_ROW:
        source = tree.source[row]
        if skeleton.kinds[source] in _AGENTS:
            return skeleton.agents[source] or skeleton.names[source]
        row = tree.parents[row]
    return None


def find_in_session(traces: TraceService, outline: Outline) -> tuple[str, str] | None:
    """Return trace and span of the last model call of the session's trace before this one, if there is one."""
    session_id = outline.summary.session_id
    if session_id is None:
        return None
    same = Compare(field="session", operator="=", value=session_id)
    rows = traces.list_traces(TraceQuery(where=same, until_ns=outline.summary.start_ns, limit=1)).rows
    if not rows:
        return None
    earlier = traces.read_outline(rows[0].trace_id)
    calls = list_model_calls(earlier)
    return (earlier.trace_id, earlier.id_of(calls[-1])) if calls else None
