"""The one call with which gateways and apps leave a span behind."""

import logging
from collections.abc import Callable
from functools import partial

from penstock.spec.spans import Span
from penstock.telemetry.encode import encode_slim, encode_span
from penstock.telemetry.spool import SpoolWriter

Admit = Callable[[Span], tuple[Span, bytes]]
"""Returns a span as it may be kept, and its record: `SnapshotEdge.admit`."""
_log = logging.getLogger("penstock.recorder")


class SpanRecorder:
    """Writes spans to a spool. Never raises and never waits for the disk: a call outlives its record."""

    def __init__(self, spool: SpoolWriter, admit: Admit | None = None) -> None:
        """`admit` masks and leaves out what is not to be kept; None where that was done before."""
        self._spool = spool
        self._admit = admit
        self.failed_records = 0
        """Spans that could not even be encoded."""

    def record(self, span: Span, on_stored: Callable[[], None] | None = None) -> None:
        """Hand `span` to the spool; it is searchable once the collector has passed.

        `on_stored` is called, from the spool's thread, once it is on disk; never for one that was lost.
        """
        try:
            if self._admit is None:
                record = encode_span(span)
            else:
                span, record = self._admit(span)
        except Exception:  # the edge between a call and its record: the call must go on
            self.failed_records += 1
            _log.exception("span lost", extra={"span_name": span.name, "trace_id": span.trace_id})
            return
        has_payload = span.input is not None or span.output is not None
        self._spool.append(record, partial(encode_slim, span) if has_payload else None, on_stored)

    def close(self) -> None:
        """Flush what waits and close the spool."""
        self._spool.close()
