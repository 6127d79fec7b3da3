"""The edge that every span passes before it is written: masked, without content where none is to be kept, cut to size.

Rules come from the snapshot, as they reach gateways. While no snapshot can be read, the last rules hold; before there
was any, nothing of content is kept.
"""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.spec.masks import MaskRule
from penstock.spec.snapshot import Limits
from penstock.spec.spans import Span, SpanEvent
from penstock.telemetry.cutting import cut
from penstock.telemetry.encode import encode_span
from penstock.telemetry.mapping_table import MappingTable, load_table
from penstock.telemetry.masks import MaskSet

LARGE_RECORD_BYTES = 256 * 1024
"""Below this nothing is looked at more closely."""
_WORD = re.compile(r"[A-Za-z0-9_.:/$-]{1,100}")
"""What a code or a class of errors looks like, and a sentence does not."""


class EdgeRules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for spans on their way in."""

    capture_payloads: bool = True
    project_capture: Mapping[str, bool] = {}
    """Projects that keep content, or do not, unlike all others."""
    max_payload_bytes: int = 1024 * 1024
    masks: tuple[MaskRule, ...] = ()

    def captures(self, project: str) -> bool:
        """Return whether content of a project's spans is kept."""
        return self.project_capture.get(project, self.capture_payloads)


NOTHING_KEPT = EdgeRules(capture_payloads=False)
"""Holds before any rules could be read."""


def rules_of(limits: Limits) -> EdgeRules:
    """Return the rules that a snapshot brings."""
    return EdgeRules(
        capture_payloads=limits.capture_payloads,
        project_capture=limits.project_capture,
        max_payload_bytes=limits.max_payload_bytes,
        masks=limits.masks,
    )


class _Ready:
    """Rules, and what follows from them for every span."""

    def __init__(self, rules: EdgeRules) -> None:
        self.rules = rules
        self.captures_all = rules.capture_payloads and all(rules.project_capture.values())
        self.masks = MaskSet(rules.masks) if rules.masks else None
        self.large_bytes = min(LARGE_RECORD_BYTES, rules.max_payload_bytes)


class Edge:
    """Applies the rules. Safe to use from several threads."""

    def __init__(self, rules: EdgeRules | None = None, *, table: MappingTable | None = None) -> None:
        self._table = table or load_table()
        self._ready = _Ready(rules or EdgeRules())

    def take_rules(self, rules: EdgeRules) -> None:
        """Go by these rules from now on."""
        if rules != self._ready.rules:
            self._ready = _Ready(rules)

    def admit(self, span: Span) -> tuple[Span, bytes]:
        """Return the span as it may be kept, and its record for the spool."""
        ready = self._ready
        if not ready.captures_all and not ready.rules.captures(span.project):
            span = withhold(span, self._table)
        if ready.masks is not None:
            span = ready.masks.apply(span)
        record = encode_span(span)
        if len(record) > ready.large_bytes:
            smaller = cut(span, ready.rules.max_payload_bytes)
            if smaller is not span:
                return smaller, encode_span(smaller)
        return span, record


class SnapshotEdge:
    """An edge that follows the rules of a snapshot's file."""

    def __init__(self, path: Path, edge: Edge | None = None) -> None:
        self._path = path
        self._edge = edge or Edge(NOTHING_KEPT)
        self._guard = threading.Lock()
        self._seen: tuple[int, int, int] | None = None

    def admit(self, span: Span) -> tuple[Span, bytes]:
        """Return the span as it may be kept, and its record for the spool."""
        return self.refresh().admit(span)

    def refresh(self) -> Edge:
        """Look whether there are other rules, and return the edge that goes by them."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            return self._edge
        if seen != self._seen:
            with self._guard:
                self._read(seen)
        return self._edge

    def _read(self, seen: tuple[int, int, int]) -> None:
        try:
            limits = msgspec.json.decode(self._path.read_bytes(), type=_LimitsOnly).limits
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return
        self._edge.take_rules(rules_of(limits))
        self._seen = seen


class _LimitsOnly(msgspec.Struct, frozen=True):
    limits: Limits = Limits()


def withhold(span: Span, table: MappingTable) -> Span:
    """Return a span without what people wrote and models said; names, tags, times, tokens, money and versions stay.

    Messages of errors go too, since they quote what was asked. Of a foreign span's attributes those stay whose names are
    known to hold no such thing; of unknown names only numbers and truth values do.
    """
    attributes = _without_content(span.attributes, table) if span.is_foreign else span.attributes
    return msgspec.structs.replace(
        span,
        status_message=None,
        error_code=span.error_code if _is_word(span.error_code) else None,
        attributes=attributes,
        events=[
            SpanEvent(
                name=event.name, time_ns=event.time_ns, attributes=_without_content(event.attributes, table)
            )
            for event in span.events
        ],
        links=[msgspec.structs.replace(link, attributes={}) for link in span.links],
        scores=[msgspec.structs.replace(score, comment=None, evidence={}) for score in span.scores],
        input=None,
        output=None,
        payload_dropped=True,
    )


def _without_content(attributes: dict[str, Any], table: MappingTable) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in attributes.items():
        facts = table.look_up(name)
        if (
            facts.is_content
            or facts.field == "status_message"
            or (facts.field == "error_code" and not _is_word(value))
        ):
            continue
        if facts.is_known or name == "resource" or isinstance(value, bool | int | float):
            kept[name] = value
    return kept


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
