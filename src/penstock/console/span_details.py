"""Everything that is known of one span, put in order for the panel beside a trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.base.digest import short_digest
from penstock.console.formats import format_ms
from penstock.console.messages import Found, Quote, read_citations, read_passages, show_json
from penstock.console.said import ShownMessage, call_names, keep_last, show_messages
from penstock.spec.rendering import PROMPT_IDS_ATTRIBUTE, RENDERER_ATTRIBUTE
from penstock.spec.spans import Span, SpanLink
from penstock.spec.usage import Usage
from penstock.store.spans.types import Payload, ScoreRow
from penstock.traces.conversation import read_exchange
from penstock.traces.outline import Outline
from penstock.traces.tree import CYCLE, EARLY, LATE, ORPHAN, Sums

N_SHOWN = 8
"""Of a long conversation the last messages are shown; those before are folded."""
MAX_ATTRIBUTES = 300
_TALKING = frozenset({"llm", "app", "chain", "agent", "embedding", "retrieval", "attempt", "guard"})
_MARKS = (
    (ORPHAN, "Its parent never arrived, so it hangs at the top."),
    (CYCLE, "It and its parents name each other as parents; the chain was cut here."),
    (EARLY, "It starts before its parent: the clocks of two machines disagree."),
    (LATE, "It ends after its parent: either nobody waited for it, or two clocks disagree."),
)
_TOKEN_CLASSES = (
    ("input_uncached", "input"),
    ("input_cache_read", "input, from cache"),
    ("input_cache_write", "input, into cache"),
    ("input_cache_write_1h", "input, into cache for 1 h"),
    ("input_audio", "input, audio"),
    ("input_image", "input, images"),
    ("output_text", "output"),
    ("output_reasoning", "output, reasoning"),
    ("output_audio", "output, audio"),
    ("output_image", "output, images"),
)


@dataclass(frozen=True, kw_only=True)
class SpanDetail:
    """One span in full."""

    span: Span
    earlier: tuple[ShownMessage, ...]
    """Messages of a long conversation that are folded."""
    n_unshown: int
    """Messages before those."""
    messages: tuple[ShownMessage, ...]
    answered: tuple[ShownMessage, ...]
    tools: tuple[str, ...]
    citations: tuple[Quote, ...]
    passages: tuple[Found, ...]
    tokens: tuple[tuple[str, int, float], ...]
    """Class, count, and percent of all of them."""
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    n_more_attributes: int
    scores: tuple[ScoreRow, ...]
    links: tuple[SpanLink, ...]
    marks: tuple[str, ...]
    sums: Sums | None
    """With everything below it; None where the script adds it."""
    input_json: str | None
    output_json: str | None
    is_dropped: bool
    raw_href: str
    cost_href: str | None
    playground_href: str | None
    curl_url: str | None

    @property
    def has_talk(self) -> bool:
        """Whether there is a conversation to read."""
        return bool(self.messages or self.answered)

    @property
    def shows_input(self) -> bool:
        """Whether what went in can be read as JSON alone, and so stands open before what came out."""
        return not self.messages

    @property
    def shows_output(self) -> bool:
        """Whether what came out can be read as JSON alone."""
        return not self.answered and not self.passages


def list_tokens(usage: Usage | None) -> tuple[tuple[str, int, float], ...]:
    """Return the known token classes by name, with their share in percent."""
    if usage is None:
        return ()
    known = [(label, getattr(usage, name)) for name, label in _TOKEN_CLASSES]
    total = sum(count for _, count in known if count) or 1
    return tuple((label, count, round(100 * count / total, 1)) for label, count in known if count is not None)


def list_facts(span: Span, key_name: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return what is known of a span's call, as label and value."""
    facts = (
        ("service", span.service),
        ("environment", span.environment),
        ("release", span.release),
        ("agent", span.agent),
        ("tool", span.tool),
        ("route", span.route),
        ("provider", span.provider),
        ("model", span.model),
        ("prompt", span.prompt),
        ("renderer", _short(span.attributes.get(RENDERER_ATTRIBUTE))),
        ("prompt ids", _short(span.attributes.get(PROMPT_IDS_ATTRIBUTE))),
        ("cache", span.cache),
        ("HTTP status", span.http_status),
        ("attempts", span.attempts),
        ("streamed", None if span.streamed is None else ("yes" if span.streamed else "no")),
        ("first token", None if span.ttft_ms is None else format_ms(span.ttft_ms)),
        ("gateway overhead", None if span.overhead_ms is None else format_ms(span.overhead_ms)),
        ("key", f"{key_name} ({span.key_id})" if key_name else span.key_id),
        ("user", span.user_id),
        ("session", span.session_id),
        ("tags", ", ".join(span.tags) or None),
        ("instrumentation", span.scope),
        ("span id", span.span_id),
    )
    return tuple((label, str(value)) for label, value in facts if value is not None)


def _short(digest: object) -> str | None:
    """Return the beginning of a digest, which stands whole among the attributes; None for what is none."""
    return short_digest(digest) if isinstance(digest, str) else None


def link_versions(versions: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Return each version with the page of the asset: `model:pocket` is at `/assets/model/pocket`."""
    found = []
    for asset, told in versions.items():
        stamp = told.removeprefix(f"{asset}@")
        number = stamp.partition("@")[0].partition(" ")[0]
        tail = f"/{number}" if number.isdigit() else ""
        found.append((asset, stamp, f"/assets/{asset.replace(':', '/', 1)}{tail}"))
    return tuple(found)


def build_detail(
    span: Span,
    payload: Payload,
    *,
    key_name: str | None,
    scores: tuple[ScoreRow, ...] = (),
    outline: Outline | None = None,
    gateway_url: str = "",
) -> SpanDetail:
    """Return everything the panel shows of one span; `outline` adds what the tree says of it."""
    exchange = read_exchange(payload.input, payload.output) if span.kind in _TALKING else None
    asked = exchange.asked if exchange else []
    names = call_names([*asked, *(exchange.answered if exchange else [])])
    latest, n_early = keep_last(asked, N_SHOWN) if len(asked) > N_SHOWN + 2 else (asked, 0)
    early, n_unshown = keep_last(asked[:n_early])
    row = outline.row_of(span.span_id) if outline else None
    flags = outline.tree.flags[row] if outline and row is not None else 0
    path = _endpoint(span, payload.input)
    attributes = sorted(span.attributes.items())
    return SpanDetail(
        span=span,
        earlier=show_messages(early, names),
        n_unshown=n_unshown,
        messages=show_messages(latest, names),
        answered=show_messages(exchange.answered, names) if exchange else (),
        tools=tuple(exchange.tools) if exchange else (),
        citations=read_citations(payload.output),
        passages=read_passages(payload.output) if span.kind in {"retrieval", "rerank"} else (),
        tokens=list_tokens(span.usage),
        facts=list_facts(span, key_name),
        versions=link_versions(span.versions),
        attributes=tuple((name, _plain(value)) for name, value in attributes[:MAX_ATTRIBUTES]),
        n_more_attributes=max(0, len(attributes) - MAX_ATTRIBUTES),
        scores=scores,
        links=tuple(span.links),
        marks=tuple(words for flag, words in _MARKS if flags & flag),
        sums=outline.tree.sums(row) if outline and row is not None and outline.tree.n_below[row] else None,
        input_json=show_json(payload.input),
        output_json=show_json(payload.output),
        is_dropped=payload.dropped or span.payload_dropped,
        raw_href=f"/api/v1/traces/{span.trace_id}/spans/{span.span_id}/payload",
        cost_href=f"/cost/calls/{span.span_id}"
        if span.cost_usd is not None and not span.is_foreign
        else None,
        playground_href=f"/playground?span={span.trace_id}/{span.span_id}"
        if span.kind == "llm" and asked and exchange
        else None,
        curl_url=f"{gateway_url.rstrip('/')}{path}" if path and gateway_url else None,
    )


def _endpoint(span: Span, sent: Any) -> str | None:
    """Return where a request of this shape is sent to, as far as its payload tells."""
    if span.is_foreign or span.service != "gateway" or not isinstance(sent, Mapping):
        return None
    if isinstance(sent.get("messages"), list):
        return "/v1/messages" if "system" in sent and "max_tokens" in sent else "/v1/chat/completions"
    if "input" in sent:
        return "/v1/embeddings" if span.kind == "embedding" else "/v1/responses"
    return None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else (show_json(value) or "null")
