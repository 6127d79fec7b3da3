"""The messages view of a trace: page by page what each model call was asked anew, and what it answered."""

from dataclasses import dataclass

from penstock.console.said import ShownMessage, call_names, keep_last, show_messages
from penstock.spec.spans import Span
from penstock.store.spans.types import Payload
from penstock.traces.conversation import Exchange, find_added, read_exchange
from penstock.traces.outline import Outline
from penstock.traces.service import TraceService
from penstock.traces.turns import agent_of, find_in_session, find_previous, list_model_calls

PAGE = 20


@dataclass(frozen=True, kw_only=True)
class ModelCall:
    """One call: what was added to the one before it of the same agent, and its answer."""

    number: int
    span: Span
    agent: str | None
    added: tuple[ShownMessage, ...]
    n_unshown: int
    """New messages before those that are shown."""
    standing: tuple[ShownMessage, ...]
    """Instructions; shown where they are new."""
    answered: tuple[ShownMessage, ...]
    n_before: int
    n_gone: int
    goes_on_from: tuple[str, str] | None
    """Trace and span of the call before, where that was in an earlier trace of the session."""
    is_dropped: bool
    has_talk: bool


@dataclass(frozen=True, kw_only=True)
class CallPage:
    """Some of a trace's model calls, in order."""

    calls: tuple[ModelCall, ...]
    n_calls: int
    first: int
    """Number of the first one on this page, from 1."""
    before: int | None
    """Number of the page before, if there is one."""
    after: int | None


def read_calls(
    traces: TraceService, outline: Outline, *, page: int = 0, span_id: str | None = None
) -> CallPage:
    """Return one page of calls; with `span_id` the page with that call, or with the first one below or after it."""
    rows = list_model_calls(outline)
    if span_id is not None:
        page = _page_of(outline, rows, span_id)
    page = max(0, min(page, (len(rows) - 1) // PAGE))
    shown = rows[page * PAGE : (page + 1) * PAGE]
    previous = find_previous(outline, rows)
    ids = {row: outline.id_of(row) for row in {*shown, *(previous[row] for row in shown if row in previous)}}
    spans = {span.span_id: span for span in traces.list_spans(outline.trace_id, list(ids.values()))}
    payloads = {row: traces.get_payload(outline.trace_id, span_id) for row, span_id in ids.items()}
    session = find_in_session(traces, outline) if rows and shown[0] == rows[0] else None
    opening = None if session is None else traces.get_payload(*session)
    calls = tuple(
        _read_call(
            spans[ids[row]],
            payloads[row],
            payloads[previous[row]] if row in previous else (opening if row == rows[0] else None),
            number=page * PAGE + place + 1,
            agent=agent_of(outline, row),
            session=session if row == rows[0] else None,
        )
        for place, row in enumerate(shown)
        if ids[row] in spans
    )
    return CallPage(
        calls=calls,
        n_calls=len(rows),
        first=page * PAGE + 1,
        before=page - 1 if page else None,
        after=page + 1 if (page + 1) * PAGE < len(rows) else None,
    )


def _read_call(
    span: Span,
    payload: Payload,
    before: Payload | None,
    *,
    number: int,
    agent: str | None,
    session: tuple[str, str] | None,
) -> ModelCall:
    exchange = read_exchange(payload.input, payload.output)
    earlier = None if before is None else read_exchange(before.input, before.output)
    added = find_added(exchange or Exchange(asked=[], answered=[]), earlier)
    fresh, n_unshown = keep_last([each for each in added.messages if not each.is_standing])
    names = call_names([*(exchange.asked if exchange else []), *(earlier.answered if earlier else [])])
    return ModelCall(
        number=number,
        span=span,
        agent=agent,
        added=show_messages(fresh, names),
        n_unshown=n_unshown,
        standing=show_messages([each for each in added.messages if each.is_standing]),
        answered=show_messages(exchange.answered, names) if exchange else (),
        n_before=added.n_before,
        n_gone=added.n_gone,
        goes_on_from=session if before is not None else None,
        is_dropped=payload.dropped or span.payload_dropped,
        has_talk=exchange is not None,
    )


def _page_of(outline: Outline, rows: list[int], span_id: str) -> int:
    wanted = outline.row_of(span_id)
    if wanted is None or not rows:
        return 0
    if wanted in rows:
        return rows.index(wanted) // PAGE
    end = wanted + outline.tree.n_below[wanted]
    below = [place for place, row in enumerate(rows) if wanted <= row <= end]
    if below:
        return below[0] // PAGE
    starts = outline.skeleton.start_ns
    at = starts[outline.tree.source[wanted]]
    later = [place for place, row in enumerate(rows) if starts[outline.tree.source[row]] >= at]
    return (later[0] if later else len(rows) - 1) // PAGE
