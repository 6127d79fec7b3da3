"""The record of traffic as datasets ask for it: calls and judgements out of the span store, told in OpenAI's shape.

A conversation that came in that shape is taken as it is; any other is read as the pages read it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.base.clock import iso_from_ns
from penstock.base.errors import InvalidInput, NotFound
from penstock.datasets.fields import Unfit, shape_messages
from penstock.datasets.types import Judgement, TrafficRow
from penstock.spec.search import All, Compare, Condition, Either, Negated
from penstock.spec.spans import Span
from penstock.store.spans.duckdb import DuckDBSpanStore
from penstock.store.spans.export_rows import DuckDBSpanExport
from penstock.store.spans.types import ScoreQuery, ScoreRow
from penstock.traces.conversation import Message, Part, plain_text, read_exchange
from penstock.traces.filters import build_query, build_span_query
from penstock.traces.lists import TraceListService

_PAGE = 100
_MODEL_CALL = Compare(field="kind", operator="=", value="llm")
_CORRECTIONS = frozenset({"correction", "expected", "expected_output"})
_OWN_CALLS = Either(
    parts=(
        Compare(field="session", operator="starts", value="eval:"),
        Compare(field="session", operator="starts", value="propose:"),
        Compare(field="session", operator="=", value="judges"),
        Compare(field="session", operator="starts", value="loadtest:"),
    )
)
"""Calls of evaluations, of proposals, of load tests and of judges that were tried: asked by Penstock, by nobody who uses the application."""


class RecordedTraffic:
    """Calls and judgements of the span store."""

    def __init__(self, spans: DuckDBSpanStore, lists: TraceListService) -> None:
        self._spans, self._lists = spans, lists
        self._whole = DuckDBSpanExport(spans.file)

    def find_calls(
        self,
        search: str,
        *,
        subject: str,
        since_ns: int | None,
        until_ns: int | None,
        project: str | None,
        limit: int,
    ) -> Iterator[TrafficRow]:
        """Yield what a search finds, newest first: `call` gives model calls, `trace` the root spans of traces.

        What Penstock itself asked (for evaluations, judges, proposals) is no traffic, unless the search names a session.
        """
        if subject not in {"call", "trace"}:
            raise InvalidInput(
                f"{subject!r} is nothing to make rows of.", hint="Use call or trace.", param="subject"
            )
        filters = {"q": search, "since_ns": since_ns, "until_ns": until_ns, "limit": min(limit, _PAGE)}
        more: tuple[Condition, ...] = ()
        if project is not None:
            more = (Compare(field="project", operator="=", value=project),)
        if "session" not in search:
            more = (*more, Negated(condition=_OWN_CALLS))
        found = self._calls(filters, more) if subject == "call" else self._roots(filters, more)
        for span, _ in zip(found, range(limit), strict=False):
            yield self._row(span)

    def get_call(self, trace_id: str, span_id: str | None) -> TrafficRow:
        """Return one span, or the trace's root; raise `NotFound`."""
        wanted = trace_id.strip().lower()
        span = self._span(wanted, span_id.strip().lower()) if span_id else self._root(wanted)
        if span is None:
            raise NotFound(f"There is no span {span_id or 'at all'} of trace {trace_id!r}.", trace=trace_id)
        return self._row(span)

    def list_judgements(
        self, *, name: str | None, since_ns: int | None, project: str | None, limit: int
    ) -> Iterator[Judgement]:
        """Yield what people judged, newest first; what only models or code judged is not feedback."""
        query = ScoreQuery(
            name=name, project=project, source="human", status="scored", since_ns=since_ns, limit=limit
        )
        for score in self._spans.list_scores(query):
            yield Judgement(
                name=score.name,
                value=score.value,
                label=score.label,
                comment=score.comment,
                correction=_correction(score),
                time_ns=score.time_ns,
                call=self._judged(score),
            )

    def _calls(self, filters: Mapping[str, object], more: tuple[Condition, ...]) -> Iterator[Span]:
        query = build_span_query(filters)
        query = msgspec.structs.replace(query, where=All(parts=(query.where, _MODEL_CALL, *more)))
        while True:
            page = self._lists.list_spans(query)
            keys = [(row.trace_id, row.span_id) for row in page.rows]
            whole = {(span.trace_id, span.span_id): span for span in self._whole.read_spans(keys)}
            yield from (whole[key] for key in keys if key in whole)
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    def _roots(self, filters: Mapping[str, object], more: tuple[Condition, ...]) -> Iterator[Span]:
        query = build_query(filters)
        query = msgspec.structs.replace(query, where=All(parts=(query.where, *more)))
        while True:
            page = self._lists.list_traces(query)
            for row in page.rows:
                span = self._root(row.trace_id)
                if span is not None:
                    yield span
            if page.next_cursor is None:
                return
            query = msgspec.structs.replace(query, cursor=page.next_cursor)

    def _root(self, trace_id: str) -> Span | None:
        spans = [span for span in self._spans.get_trace(trace_id) if span.kind != "evaluation"]
        root = next((span for span in spans if span.parent_id is None), spans[0] if spans else None)
        return None if root is None else self._span(trace_id, root.span_id)

    def _span(self, trace_id: str, span_id: str) -> Span | None:
        found = self._whole.read_spans([(trace_id, span_id)])
        return found[0] if found else None

    def _judged(self, score: ScoreRow) -> TrafficRow | None:
        if score.trace_id is None:
            return None
        span = self._span(score.trace_id, score.span_id) if score.span_id else self._root(score.trace_id)
        return None if span is None else self._row(span)

    def _row(self, span: Span) -> TrafficRow:
        messages, inputs, reply = read_payload(span.input, span.output)
        scores = {
            score.name: score.value if score.value is not None else score.label
            for score in self._spans.list_scores(ScoreQuery(trace_id=span.trace_id))
            if score.span_id in {None, span.span_id} and score.status == "scored"
        }
        facts: dict[str, Any] = {
            "model": span.model,
            "route": span.route,
            "status": span.status,
            "time": iso_from_ns(span.start_ns),
            "session": span.session_id,
            "scores": scores,
            "tools": span.input.get("tools") if isinstance(span.input, Mapping) else None,
        }
        return TrafficRow(
            trace_id=span.trace_id,
            span_id=span.span_id,
            messages=messages,
            inputs=inputs,
            reply=reply,
            dropped=span.payload_dropped or (span.input is None and span.output is None),
            status=span.status,
            group=span.session_id,
            facts={name: value for name, value in facts.items() if value},
        )


def read_payload(sent: Any, received: Any) -> tuple[list[dict[str, Any]], dict[str, Any], Any]:
    """Return what was asked as messages in OpenAI's shape (or else as inputs), and what was answered."""
    exchange = read_exchange(sent, received)
    answered = exchange.answered if exchange is not None else []
    reply = _text_of(answered[-1]) if answered else received if exchange is None else None
    if isinstance(sent, Mapping) and isinstance(sent.get("messages"), list) and "system" not in sent:
        try:
            return shape_messages(sent["messages"]), {}, reply
        except Unfit:
            pass
    if exchange is not None and exchange.asked:
        return [_message(each) for each in exchange.asked], {}, reply
    if isinstance(sent, Mapping):
        return [], dict(sent), reply
    return [], {} if sent is None else {"input": sent}, reply


def _message(message: Message) -> dict[str, Any]:
    role = "assistant" if message.role == "model" else message.role
    calls = [_call(part, number) for number, part in enumerate(message.parts) if part.kind == "tool_call"]
    images = [part for part in message.parts if part.kind == "image"]
    text = _text_of(message)
    if role == "tool" and message.parts:
        return {
            "role": "tool",
            "tool_call_id": message.parts[0].call_id or "",
            "content": plain_text(message),
        }
    made: dict[str, Any] = {"role": role, "content": text}
    if images:
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        made["content"] = parts + [{"type": "image_url", "image_url": {"url": part.text}} for part in images]
    elif text is None and not calls:
        made["content"] = plain_text(message)
    if calls:
        made["tool_calls"] = calls
    return made


def _text_of(message: Message) -> str | None:
    texts = [part.text for part in message.parts if part.kind == "text"]
    return "\n".join(texts) if texts else None


def _call(part: Part, number: int) -> dict[str, Any]:
    return {
        "id": part.call_id or f"call_{number}",
        "type": "function",
        "function": {"name": part.name or "tool", "arguments": part.text},
    }


def _correction(score: ScoreRow) -> str | None:
    """Return what a person said the answer should have been: in the evidence, or as the score that is named so."""
    for name in ("correction", "expected"):
        told = score.evidence.get(name)
        if isinstance(told, str) and told.strip():
            return told
    if score.name.lower() in _CORRECTIONS:
        told = score.comment or score.label
        return told if told and told.strip() else None
    return None
