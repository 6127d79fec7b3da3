"""Makes parts of spans unreadable by rule, before they are written anywhere.

What cannot be masked is not kept: where a rule fails on a span, its payloads and attributes are dropped and the span
says so. A masked span carries `penstock.masked`, how many places each rule met, so that nobody takes the replacement for
what was said.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.spec.masks import MaskPlace, MaskRule
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.telemetry.finders import Finder, built_in, own_pattern

MASKED = "penstock.masked"
"""Attribute: rule to the number of places it met."""
FAILED = "(failed)"
"""Counted in place of a rule where masking failed and the content was dropped."""
_MAX_DEPTH = 100
_log = logging.getLogger("penstock.masks")


class _Rule:
    """A rule ready for use; one whose pattern is wrong fails at each use, and so lets nothing through."""

    def __init__(self, rule: MaskRule) -> None:
        self.name = rule.name
        self.where: frozenset[MaskPlace] = frozenset(rule.where)
        self.project = rule.project
        self.replacement = rule.replacement or f"[{rule.name}]"
        self.find: Finder | None
        try:
            self.find = built_in(rule.builtin) if rule.builtin else own_pattern(rule.pattern or "")
        except (ValueError, KeyError, ImportError):
            _log.exception("a mask cannot be used, so payloads are dropped", extra={"mask": rule.name})
            self.find = None


class MaskSet:
    """All rules together. Safe to use from several threads."""

    def __init__(self, rules: Sequence[MaskRule] = ()) -> None:
        self.rules = tuple(rules)
        self._ready = [_Rule(rule) for rule in rules]

    def __bool__(self) -> bool:
        return bool(self._ready)

    def apply(self, span: Span) -> Span:
        """Return `span` with what the rules meet replaced. Never raises: what cannot be masked is dropped."""
        rules = [rule for rule in self._ready if rule.project is None or rule.project == span.project]
        if not rules:
            return span
        try:
            return _Pass(rules).run(span)
        except Exception:  # the edge: whatever went wrong, nothing unmasked may pass
            _log.exception(
                "a span could not be masked, its content is dropped", extra={"trace_id": span.trace_id}
            )
            return strip(span)

    def apply_value(self, value: Any, place: MaskPlace, project: str) -> Any:
        """Return a value that belongs to `place` of a span, masked; None where that fails."""
        rules = [rule for rule in self._ready if rule.project in (None, project)]
        try:
            return _Pass(rules).mask(value, place)
        except Exception:  # as above
            _log.exception("a value could not be masked and is dropped")
            return None


def strip(span: Span) -> Span:
    """Return a span without anything that could hold text of people: ids, times, counts, money and names of models."""
    kept = {FOREIGN_MARK: span.attributes[FOREIGN_MARK]} if FOREIGN_MARK in span.attributes else {}
    return msgspec.structs.replace(
        span,
        name=f"{span.kind} (masked)",
        status_message=None,
        user_id=None,
        session_id=None,
        tags=[],
        attributes={**kept, MASKED: {FAILED: 1}},
        events=[],
        links=[msgspec.structs.replace(link, attributes={}) for link in span.links],
        scores=[msgspec.structs.replace(score, comment=None, evidence={}) for score in span.scores],
        input=None,
        output=None,
        payload_dropped=True,
    )


class _Pass:
    """One span's way through the rules."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules
        self._met: Counter[str] = Counter()
        self._active: list[_Rule] = []

    def run(self, span: Span) -> Span:
        """Return the masked span; raise when a rule cannot be applied."""
        changes: dict[str, Any] = {
            "input": self.mask(span.input, "input"),
            "output": self.mask(span.output, "output"),
        }
        if any("attributes" in rule.where for rule in self._rules):
            for name in ("name", "status_message", "attributes", "tags"):
                changes[name] = self.mask(getattr(span, name), "attributes")
            changes["events"] = [
                msgspec.structs.replace(event, attributes=self.mask(event.attributes, "attributes"))
                for event in span.events
            ]
            changes["links"] = [
                msgspec.structs.replace(link, attributes=self.mask(link.attributes, "attributes"))
                for link in span.links
            ]
            changes["scores"] = [
                msgspec.structs.replace(
                    score,
                    label=self.mask(score.label, "attributes"),
                    comment=self.mask(score.comment, "attributes"),
                    evidence=self.mask(score.evidence, "attributes"),
                )
                for score in span.scores
            ]
        if any("identity" in rule.where for rule in self._rules):
            self._mask_identity(span, changes)
        if not self._met:
            return span
        changes["attributes"] = {**changes.get("attributes", span.attributes), MASKED: dict(self._met)}
        return msgspec.structs.replace(span, **changes)

    def _mask_identity(self, span: Span, changes: dict[str, Any]) -> None:
        """Mask user and session, and the attributes that they were read from."""
        attributes = dict(changes.get("attributes", span.attributes))
        for field in ("user_id", "session_id"):
            before = getattr(span, field)
            after = changes[field] = self.mask(before, "identity")
            if after != before:
                for name, value in attributes.items():
                    if value == before:
                        attributes[name] = after
        changes["attributes"] = attributes

    def mask(self, value: Any, place: MaskPlace) -> Any:
        """Return a value of `place` with what its rules meet replaced."""
        self._active = [rule for rule in self._rules if place in rule.where]
        if value is None or not self._active:
            return value
        if isinstance(value, msgspec.Raw):
            return self._raw(value)
        return self._walk(value, 0)

    def _raw(self, value: msgspec.Raw) -> Any:
        """Mask JSON text; left as it is where nothing was met."""
        try:
            parsed = msgspec.json.decode(value)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            parsed = bytes(value).decode("utf-8", "replace")
        before = self._met.total()
        masked = self._walk(parsed, 0)
        return value if self._met.total() == before else masked

    def _walk(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._number(value)
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep to be masked")
        if isinstance(value, dict):
            return {self._text(str(name)): self._walk(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(item, depth + 1) for item in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        for rule in self._active:
            if rule.find is None:
                raise ValueError(f"the rule {rule.name!r} cannot be used")
            text, n = rule.find(text, rule.replacement)
            if n:
                self._met[rule.name] += n
        return text

    def _number(self, number: int) -> Any:
        """A card's number may come as a number."""
        text = str(number)
        masked = self._text(text) if len(text) >= 8 else text
        return number if masked == text else masked
