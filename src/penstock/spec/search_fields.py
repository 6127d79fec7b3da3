"""The fields that a search can ask for: one table for parser, completion, error messages and documentation.

What a field is in a store stands with that store. A field means the span in question; in a list of traces `of_trace`
says what it is asked of: the root span, the trace's sum, or any span of the trace.
"""

from typing import Literal, get_args

import msgspec

from penstock.spec.spans import SpanKind, SpanStatus

FieldType = Literal[
    "text", "choice", "id", "tag", "number", "money", "duration", "time", "age", "flag", "payload"
]
OfTrace = Literal["root", "sum", "any", "trace"]
"""What is asked in a list of traces: the root span, the sum over the trace, any span of it, the trace as a whole."""


class SearchField(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the search language."""

    name: str
    type: FieldType
    help: str
    example: str
    aliases: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """All values that there are, of a `choice`."""
    of_trace: OfTrace = "root"


def _field(
    name: str,
    kind: FieldType,
    text: str,
    example: str,
    *aliases: str,
    of_trace: OfTrace = "root",
    values: tuple[str, ...] = (),
) -> SearchField:
    return SearchField(
        name=name, type=kind, help=text, example=example, aliases=aliases, of_trace=of_trace, values=values
    )


CACHE_STATES = ("hit", "semantic", "shared", "miss", "bypass")

FIELDS: tuple[SearchField, ...] = (
    _field("name", "text", "What the span is called.", "name:chat*"),
    _field("kind", "choice", "What kind of work it was.", "kind:llm,tool", values=get_args(SpanKind)),
    _field("status", "choice", "How it ended.", "status:error", values=get_args(SpanStatus)),
    _field("error_code", "text", "Code of the error.", "error_code:PS-42*", "error"),
    _field("duration", "duration", "From start to end.", "duration>2s", "latency", "took"),
    _field("ttft", "duration", "Time to the first token.", "ttft<300ms", "time_to_first_token"),
    _field("overhead", "duration", "What the gateway itself took.", "overhead>5ms"),
    _field("start", "time", "When it began, UTC.", "start>=2026-11-20T08:00", "time", "date"),
    _field("age", "age", "How long ago it began.", "age<2h"),
    _field(
        "cost", "money", "Dollars; of a trace over its model calls.", "cost>=0.01", "cost_usd", of_trace="sum"
    ),
    _field("tokens", "number", "Tokens in and out.", "tokens>10k", of_trace="sum"),
    _field("input_tokens", "number", "Tokens in.", "input_tokens>4000", "tokens_in", of_trace="sum"),
    _field("output_tokens", "number", "Tokens out.", "output_tokens<10", "tokens_out", of_trace="sum"),
    _field(
        "cached_tokens",
        "number",
        "Tokens in that a provider's cache held.",
        "cached_tokens>0",
        of_trace="any",
    ),
    _field("model", "text", "The model that answered.", "model:gpt-4*", of_trace="any"),
    _field("provider", "text", "The provider that answered.", "provider:openai,anthropic", of_trace="any"),
    _field("route", "text", "The name the client put into `model`.", "route:handbook"),
    _field("user", "text", "Whose call it was.", "user:alice", "user_id"),
    _field("session", "text", "The conversation it belongs to.", "session:s-1", "session_id"),
    _field("key", "text", "Id of the key that was used.", "key:key_*", "key_id"),
    _field("project", "text", "The project.", "project:default"),
    _field("environment", "text", "Where it ran.", "environment:production", "env"),
    _field("release", "text", "Version of the program that made it.", "release:1.4.*"),
    _field("service", "text", "Program that made it.", "service:gateway", of_trace="any"),
    _field("scope", "text", "Instrumentation that made it.", "scope:*langchain*", of_trace="any"),
    _field("agent", "text", "The agent at work.", "agent:planner", of_trace="any"),
    _field("tool", "text", "The tool that ran.", "tool:get_weather", of_trace="any"),
    _field("prompt", "text", "The prompt and its version.", "prompt:triage@3", of_trace="any"),
    _field("cache", "choice", "What the gateway's cache did.", "cache:hit", values=CACHE_STATES),
    _field("tag", "tag", "A tag that it bears.", "tag:beta", "tags", of_trace="any"),
    _field("http_status", "number", "Status of the reply over HTTP.", "http_status>=500"),
    _field("attempts", "number", "Requests to providers until it was answered.", "attempts>1"),
    _field("streamed", "flag", "Whether the answer came piece by piece.", "streamed:yes", "stream"),
    _field(
        "passages", "number", "Passages that a retrieval found.", "passages:0", "documents", of_trace="any"
    ),
    _field("links", "number", "Links to other spans.", "links>0", of_trace="any"),
    _field("dropped", "flag", "Whether its input and output were dropped.", "dropped:yes", of_trace="any"),
    _field("input", "payload", "Words of what went in.", 'input:"refund"', of_trace="any"),
    _field("output", "payload", "Words of what came out.", "output:sorry", of_trace="any"),
    _field(
        "trace", "id", "Id of the trace, or its beginning.", "trace:4bf92f35*", "trace_id", of_trace="trace"
    ),
    _field("span", "id", "Id of the span, or its beginning.", "span:00f067aa*", "span_id", of_trace="any"),
    _field("spans", "number", "Spans of the trace.", "spans>100", of_trace="trace"),
    _field("errors", "number", "Spans of the trace that failed.", "errors>0", of_trace="trace"),
    _field(
        "model_calls", "number", "Calls of models in the trace.", "model_calls>10", "calls", of_trace="trace"
    ),
    _field(
        "unpriced", "number", "Calls of models in the trace without a price.", "unpriced>0", of_trace="trace"
    ),
)

BY_NAME: dict[str, SearchField] = {name: field for field in FIELDS for name in (field.name, *field.aliases)}

ATTRIBUTE, METADATA, SCORE, VERSION = "attr.", "metadata.", "score.", "version."
PREFIXES: tuple[tuple[str, str, str], ...] = (
    (ATTRIBUTE, "An attribute as it was sent.", "attr.gen_ai.request.temperature>0.5"),
    (METADATA, "Metadata by its name, whoever sent it.", "metadata.plan:pro"),
    (SCORE, "A score of the span; in a list of traces of any span, or of the trace.", "score.helpful<0.5"),
    (VERSION, "The version of an asset that shaped the answer.", "version.prompt:triage:3"),
)
"""Beginnings of names that are not in the table: beginning, what they mean, example."""

NUMERIC_TYPES = frozenset({"number", "money", "duration", "time", "age"})
"""Fields that can be compared with < and >."""
