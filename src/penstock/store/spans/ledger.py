"""The ledger: one row for each billed call to a model, written with its span and kept when traces are deleted.

A row stands for one request that the gateway sent to a provider (or answered from its cache). Spans of apps and
clients make no rows, whatever they call themselves, nor do the gateway's own spans around an app: the calls that the app makes have rows of their own,
so nothing is counted twice. Money is what was computed at the time of the call.
"""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec

from penstock.base.digest import digest_request
from penstock.spec.spans import FOREIGN_MARK, Span
from penstock.spec.usage import TOKEN_CLASSES
from penstock.store.spans.json_text import json_texts

BILLED_KINDS = frozenset({"llm", "embedding", "attempt"})
NOT_SENT = "not sent"
PASSED_ON = "billed with the calls it made"
NOT_BILLED = frozenset({NOT_SENT, "refused", "free of charge", PASSED_ON})
"""Sources of costs that are 0 because no provider charges: never sent, answered with an error, a free service, or an app,
whose own calls are billed."""
CACHE_STATE = "penstock.cache"
SAVED_USD = "penstock.saved_usd"
RATES = "penstock.cost.rates"
REQUEST_DIGEST = "penstock.request_digest"
MIN_PREFIX_TOKENS = 1024
"""What providers' prompt caches take at least."""
_HIT_STATES = frozenset({"hit", "semantic", "shared"})
_FIRST_ROLES = frozenset({"system", "developer"})
_OF_CALL = (
    "start_ns",
    "kind",
    "project",
    "key_id",
    "user_id",
    "session_id",
    "route",
    "provider",
    "model",
)
_TOLD = ("trace_id", *_OF_CALL, "cost_source", "error_code")
"""Columns that hold what the span says."""
_told_cells = attrgetter(*_TOLD)

_TYPES = {
    "trace_id": "UUID",
    "span_id": "UBIGINT",
    "parent_id": "UBIGINT",
    "start_ns": "BIGINT",
    "prefix_tokens": "BIGINT",
    "estimated": "BOOLEAN",
    "cached": "BOOLEAN",
    "cost_usd": "DECIMAL(38,18)",
    "saved_usd": "DECIMAL(38,18)",
    **dict.fromkeys(TOKEN_CLASSES, "BIGINT"),
}
LEDGER_COLUMNS: tuple[tuple[str, str], ...] = tuple(
    (name, _TYPES.get(name, "VARCHAR"))
    for name in (
        "trace_id",
        "span_id",
        "parent_id",
        *_OF_CALL,
        "prompt",
        "step",
        "versions",
        *TOKEN_CLASSES,
        "estimated",
        "cost_usd",
        "cost_source",
        "rates",
        "cached",
        "saved_usd",
        "error_code",
        "request_digest",
        "prefix_digest",
        "prefix_tokens",
    )
)
"""Tables of older stores may have the same columns in another order: always name them."""


class RequestMarks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of a request to find repeats: of the whole, and of the part that providers can cache."""

    request_digest: str | None = None
    prefix_digest: str | None = None
    prefix_tokens: int | None = None


NO_MARKS = RequestMarks()
_MARKS = RequestMarks.__struct_fields__
_mark_cells = attrgetter(*_MARKS)


def is_billed(span: Span) -> bool:
    """Return whether `span` is one that the ledger keeps."""
    return (
        span.service == "gateway"
        and not span.is_foreign
        and span.kind in BILLED_KINDS
        and span.cost_source is not None
        and span.cost_source not in NOT_BILLED
        and not any(name.startswith("app:") for name in span.versions)
    )


def mark_request(request: Any, attributes: Mapping[str, Any]) -> RequestMarks:
    """Return the marks of a decoded request; without one, the digest that the gateway noted."""
    if not isinstance(request, dict) or "penstock_cut" in request:
        noted = attributes.get(REQUEST_DIGEST)
        return RequestMarks(request_digest=noted) if isinstance(noted, str) else NO_MARKS
    prefix, n_tokens = _prefix(request)
    return RequestMarks(
        request_digest=digest_request(request),
        prefix_digest=prefix,
        prefix_tokens=n_tokens if prefix else None,
    )


def ledger_columns(spans: Sequence[Span], marks: Sequence[RequestMarks]) -> dict[str, Sequence[Any]]:
    """Return the rows of billed spans by column, without ids, tokens, `estimated`, `cost_usd` and `step`."""
    columns: dict[str, Sequence[Any]] = dict(
        zip(_TOLD, zip(*map(_told_cells, spans), strict=True), strict=True)
    )
    columns.update(zip(_MARKS, zip(*map(_mark_cells, marks), strict=True), strict=True))
    attributes = [span.attributes for span in spans]
    columns["prompt"] = [_prompt(span.versions) if span.versions else None for span in spans]
    columns["versions"] = json_texts([span.versions for span in spans])
    columns["rates"] = json_texts([each.get(RATES) for each in attributes])
    columns["cached"] = [each.get(CACHE_STATE) in _HIT_STATES for each in attributes]
    columns["saved_usd"] = [_money(each.get(SAVED_USD)) for each in attributes]
    return columns


def step_of(kind: str, name: str) -> str:
    """Return how the span around a call is named as a step, such as `retrieval search`."""
    return name if name.startswith(f"{kind} ") or name == kind else f"{kind} {name}"


def create_ledger_statement() -> str:
    """Return the statement that makes an empty ledger."""
    return f"CREATE TABLE IF NOT EXISTS ledger ({', '.join(f'{name} {sql}' for name, sql in LEDGER_COLUMNS)})"


FILL_FROM_SPANS = f"""
INSERT INTO ledger (trace_id, span_id, parent_id, start_ns, kind, project, key_id, user_id, session_id, route,
                    provider, model, step, versions, {", ".join(TOKEN_CLASSES)}, estimated, cost_usd, cost_source,
                    cached, error_code)
SELECT s.trace_id, s.span_id, s.parent_id, s.start_ns, s.kind, s.project, s.key_id, s.user_id, s.session_id, s.route,
       s.provider, s.model, p.kind || ' ' || p.name, s.versions,
       {", ".join("s." + name for name in TOKEN_CLASSES)},
       coalesce(s.usage_estimated, false), s.cost_usd, s.cost_source, false, s.error_code
FROM spans s LEFT JOIN spans p ON p.trace_id = s.trace_id AND p.span_id = s.parent_id
WHERE s.service = 'gateway' AND s.kind IN ('llm', 'embedding') AND s.cost_source <> '{NOT_SENT}'
  AND NOT contains(coalesce(s.versions, ''), '"app:')
  AND NOT contains(coalesce(s.attributes, ''), '"{FOREIGN_MARK}"')
"""  # noqa: S608 - names of ours
"""Brings a store that had no ledger up to date."""


def _prompt(versions: Mapping[str, str]) -> str | None:
    return next((f"{name}@{stamp}" for name, stamp in versions.items() if name.startswith("prompt:")), None)


def _prefix(request: Mapping[str, Any]) -> tuple[str | None, int]:
    """Return digest and estimated tokens of what stands before the conversation: tools and instructions."""
    first: list[Any] = [
        request.get(name)
        for name in ("tools", "system", "instructions", "systemInstruction")
        if name in request
    ]
    messages = request.get("messages")
    if isinstance(messages, list):
        for message in messages:
            if not isinstance(message, dict) or message.get("role") not in _FIRST_ROLES:
                break
            first.append(message.get("content"))
    if not first:
        return None, 0
    text = msgspec.json.encode(first, order="sorted")
    n_tokens = len(text) // 4
    if n_tokens < MIN_PREFIX_TOKENS:
        return None, 0
    return hashlib.sha256(text).hexdigest()[:16], n_tokens


def _money(value: Any) -> str | None:
    """Return an amount of an attribute as text for its column; None for what is no amount."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return f"{amount:f}" if amount.is_finite() and abs(amount) < 10**18 else None
