"""Log events and the spans that they belong to, brought together whichever comes first.

Events of a span in the same round are joined before it is stored; events of a span that is stored already are added to
it; events whose span has not come wait, on disk as everything that was acknowledged, until it comes or a quarter of an
hour has passed. Those of a span that has not ended wait on, since the record that tells its end replaces the one they
were joined to.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from penstock.base.clock import now_ns
from penstock.base.errors import NotFound
from penstock.spec.spans import Span
from penstock.store.spans.types import Payload
from penstock.telemetry.counters import IngestCounters
from penstock.telemetry.encode import encode_span
from penstock.telemetry.otlp import LOG_EVENTS
from penstock.telemetry.payloads import fill_from_events
from penstock.telemetry.spool import SpoolReader, SpoolWriter, open_writer

WAIT_S = 900.0
MAX_WAITING = 50_000
MAX_WAITING_BYTES = 32 * 1024 * 1024
REWRITE_EVERY_S = 60.0
Key = tuple[str, str, str]
"""Trace, span and project: ids are known to many, so events of one project are never joined to spans of another."""


class SpanSource(Protocol):
    """Where stored spans are looked up and mended."""

    def get_spans(self, trace_id: str, span_ids: Sequence[str]) -> list[Span]:
        """Return the named spans of a trace that are stored, without payloads."""
        ...

    def get_payload(self, trace_id: str, span_id: str) -> Payload:
        """Return what went in and out of a span; raise `NotFound`."""
        ...

    def rewrite(self, spans: Sequence[Span]) -> int:
        """Put spans in the place of those stored under the same ids."""
        ...


def is_log_events(span: Span) -> bool:
    """Return whether a record is no span of its own but events of one."""
    return LOG_EVENTS in span.attributes


def join_events(span: Span, more: Sequence[Span]) -> Span:
    """Return `span` with the events of `more`, each once, and the payloads that they bring.

    Payloads that the span has from elsewhere stay.
    """
    known = {_identity(event) for event in span.events}
    events = list(span.events)
    for event in (event for other in more for event in other.events):
        if _identity(event) not in known:
            known.add(_identity(event))
            events.append(event)
    if len(events) == len(span.events):
        return span
    events.sort(key=lambda event: event.time_ns)
    asked, answered = fill_from_events(span.events, None, None)
    given, answer = fill_from_events(events, None, None)
    changes: dict[str, object] = {"events": events}
    if span.input is None or span.input == asked:
        changes["input"] = given
    if span.output is None or span.output == answered:
        changes["output"] = answer
    raised = next((event.attributes for event in events if "exception.type" in event.attributes), None)
    if raised is not None and span.status != "ok":
        changes["error_code"] = span.error_code or str(raised["exception.type"])
        message = raised.get("exception.message")
        changes["status_message"] = span.status_message or (None if message is None else str(message))
    return msgspec.structs.replace(span, **changes)


def _identity(event: object) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)


class LateEvents:
    """Events whose span has not come. Used by one collector, in its thread."""

    def __init__(
        self,
        spool_root: Path,
        source: SpanSource,
        counters: IngestCounters,
        *,
        clock: Callable[[], int] = now_ns,
        wait_s: float = WAIT_S,
    ) -> None:
        self._root = spool_root
        self._source = source
        self._counters = counters
        self._clock = clock
        self._wait_ns = int(wait_s * 1e9)
        self._waiting: dict[Key, list[Span]] = {}
        self._since: dict[Key, int] = {}
        self._bytes = 0
        self._met: set[Key] = set()
        """Those of the waiting whose span came, without its end."""
        self._given: dict[Key, tuple[int, list[Span]]] = {}
        """What was joined in the round that is under way: taken back if its spans are not stored."""
        self._writer: SpoolWriter | None = None
        self._reader: SpoolReader | None = None
        self._written_ns = 0

    @property
    def folder(self) -> Path | None:
        """Where the waiting ones lie; the collector leaves it to this."""
        return None if self._writer is None else self._writer.folder

    @property
    def n_waiting(self) -> int:
        """How many spans there are events for."""
        return len(self._waiting)

    def join(self, spans: list[Span]) -> tuple[list[Span], list[Span]]:
        """Return what is to be stored and what is to be rewritten; the events of others wait, durably, on return."""
        fresh: dict[Key, list[Span]] = {}
        whole: list[Span] = []
        for span in spans:
            if is_log_events(span):
                fresh.setdefault(_key_of(span), []).append(span)
            else:
                whole.append(span)
        if not fresh and not self._waiting:
            return whole, []
        joined = [self._joined(span, fresh) for span in whole]
        sent = [span for span in whole if span.is_foreign]
        ended = {_key_of(span) for span in sent if span.end_ns is not None}
        begun = {_key_of(span) for span in sent} - ended
        left = {key: found for key, found in fresh.items() if key not in ended}
        rewritten = self._join_stored(left, begun)
        self._wait_for(left)
        self._met |= begun & self._waiting.keys()
        self._expire()
        return joined, rewritten

    def _joined(self, span: Span, fresh: dict[Key, list[Span]]) -> Span:
        if not span.is_foreign:
            return span  # what our own processes recorded is nobody's to add to
        key = _key_of(span)
        waited = self._waiting.get(key, []) if span.end_ns is None else self._forget(key)
        more = fresh.get(key, []) + waited
        if not more:
            return span
        self._count_joined(more)
        return join_events(_opened(span), more)

    def _count_joined(self, found: Sequence[Span]) -> None:
        self._counters.add("logs", "joined", sum(len(each.events) for each in found))

    def _join_stored(self, left: dict[Key, list[Span]], begun: Collection[Key]) -> list[Span]:
        """Return the stored spans that `left` belongs to, with the events; those that have ended are taken out of it.

        What is `begun` comes in this very round, and is not looked for.
        """
        done: list[Span] = []
        by_trace: dict[str, dict[str, list[Key]]] = {}
        for key in left.keys() - begun:
            by_trace.setdefault(key[0], {}).setdefault(key[1], []).append(key)
        for trace_id, keys in by_trace.items():
            for stored in self._source.get_spans(trace_id, sorted(keys)):
                self._refuse_others(left, keys[stored.span_id], stored)
                more = left.get(_key_of(stored)) if stored.is_foreign else None
                if more is None or _key_of(stored) in begun:
                    continue
                if stored.end_ns is None:
                    self._met.add(_key_of(stored))
                else:
                    del left[_key_of(stored)]
                self._count_joined(more)
                done.append(join_events(self._with_payload(stored), more))
        return done

    def _refuse_others(self, left: dict[Key, list[Span]], keys: Sequence[Key], stored: Span) -> None:
        """Take out of `left` what was sent under the ids of a span of our own or of another project."""
        for key in keys:
            if not stored.is_foreign or key != _key_of(stored):
                n_events = sum(len(each.events) for each in left.pop(key))
                self._counters.add("dropped", "log events under the ids of somebody else's span", n_events)

    def _with_payload(self, span: Span) -> Span:
        try:
            payload = self._source.get_payload(span.trace_id, span.span_id)
        except NotFound:
            return span
        return msgspec.structs.replace(span, input=payload.input, output=payload.output)

    def _wait_for(self, left: dict[Key, list[Span]]) -> None:
        if not left:
            return
        taken: list[tuple[Key, list[Span], int]] = []
        records: list[bytes] = []
        n_keys, n_bytes = len(self._waiting), self._bytes
        for key, came in left.items():
            found = [span for span in came if span not in self._waiting.get(key, ())]
            encoded = [encode_span(span) for span in found]
            size = sum(map(len, encoded))
            if n_keys >= MAX_WAITING or n_bytes + size > MAX_WAITING_BYTES:
                self._counters.add("dropped", "log events, too many wait for their spans", len(found))
                continue
            taken.append((key, found, size))
            n_keys, n_bytes = n_keys + (key not in self._waiting), n_bytes + size
            records += encoded
        if records:
            self._open().append_durable(
                records
            )  # raises: then none of them is known, and the round brings them again
        for key, found, size in taken:
            self._waiting.setdefault(key, []).extend(found)
            self._since.setdefault(key, self._clock())
            self._bytes += size

    def _forget(self, key: Key) -> list[Span]:
        found = self._waiting.pop(key, None)
        if found is None:
            return []
        self._met.discard(key)
        self._given[key] = (self._since.pop(key), found)
        self._bytes -= sum(len(encode_span(span)) for span in found)
        return found

    def _expire(self) -> None:
        now = self._clock()
        for key in [key for key, since in self._since.items() if now - since > self._wait_ns]:
            was_met = key in self._met
            gone = self._forget(key)
            if not was_met:
                self._counters.add(
                    "dropped", "log events, their span never came", sum(len(each.events) for each in gone)
                )

    def rewind(self) -> None:
        """Take back what was joined in a round that could not be stored."""
        for key, (since, found) in self._given.items():
            self._waiting.setdefault(key, []).extend(found)
            self._since.setdefault(key, since)
            self._bytes += sum(len(encode_span(span)) for span in found)
        self._given = {}

    def settle(self) -> None:
        """Let go on disk of what does not wait any more; called once a round is stored."""
        self._given = {}
        if self._reader is None or self._writer is None:
            return
        now = self._clock()
        if self._waiting and now - self._written_ns < REWRITE_EVERY_S * 1e9:
            return
        while self._reader.read().payloads:
            continue
        position = self._reader.position
        if self._waiting:
            self._writer.append_durable(
                [encode_span(span) for found in self._waiting.values() for span in found]
            )
        self._reader.ack(position)
        self._written_ns = now

    def forget_where(self, is_doomed: Callable[[Span], bool]) -> int:
        """Give up the waiting events that are doomed, and write the rest anew; return how many were given up."""
        doomed = [key for key, found in self._waiting.items() if any(map(is_doomed, found))]
        n_events = sum(len(self._forget(key)) for key in doomed)
        self._given = {}
        if doomed:
            self._written_ns = 0
            self.settle()
        return n_events

    def close(self) -> None:
        """Leave what waits on disk to whoever comes next."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> SpoolWriter:
        if self._writer is None:
            self._writer = open_writer(self._root, "late")
            self._reader = SpoolReader(self._writer.folder)
            self._written_ns = self._clock()
        return self._writer


def _key_of(span: Span) -> Key:
    return span.trace_id, span.span_id, span.project


def _opened(span: Span) -> Span:
    """Return a span read back from the spool with its payloads parsed."""
    if isinstance(span.input, msgspec.Raw) or isinstance(span.output, msgspec.Raw):
        fields = {name: getattr(span, name) for name in Span.__struct_fields__}
        for name in ("input", "output"):
            if isinstance(fields[name], msgspec.Raw):
                fields[name] = msgspec.json.decode(fields[name])
        return Span(**fields)
    return span
