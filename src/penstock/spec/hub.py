"""The hub format: what any dialect can say, in one vocabulary. Two dialects meet here, so six need six converters.

Parts keep their order. What only one dialect knows travels as it is: unknown members of a message or part lie in its
`extra` (by the dialect that wrote them), whole unknown parts are `Opaque`. A writer of the same dialect puts both back
byte for byte in meaning; a writer of another dialect leaves them out and says so. `None` means "not said".
"""

from typing import Any, Literal

import msgspec

from penstock.spec.routes import DialectName
from penstock.spec.usage import Usage

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "error", "unknown"]
"""Why a reply ended. `unknown` when the provider did not say: never guessed to be `stop`."""
MediaKind = Literal["image", "audio", "document", "video"]


class _Part(msgspec.Struct, kw_only=True, tag_field="part", omit_defaults=True):
    extra: dict[str, Any] = {}
    """Members of the part that the hub has no word for, as the source dialect wrote them (`cache_control` …)."""


class Text(_Part, tag="text"):
    """Plain text."""

    text: str


class Media(_Part, tag="media"):
    """An image, sound, video or document: exactly one of `data`, `url`, `file_id` is set."""

    kind: MediaKind
    media_type: str | None = None
    """MIME type, such as `image/png`."""
    data: str | None = None
    """Base64 text, never decoded on the way."""
    url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    name: str | None = None


class Thinking(_Part, tag="thinking"):
    """Reasoning. `signature` and `sealed` are the provider's own and must come back to it unchanged."""

    text: str | None = None
    signature: str | None = None
    sealed: str | None = None
    """Redacted or encrypted reasoning (Anthropic `redacted_thinking.data`, OpenAI `encrypted_content`)."""
    origin: DialectName | None = None
    """Whose signature it is: it means nothing to another provider family."""
    id: str | None = None


class ToolCall(_Part, tag="tool_call"):
    """The model calls a tool. `arguments` is JSON text as the model wrote it; `""` means none were given."""

    id: str
    name: str
    arguments: str = ""
    signature: str | None = None
    """Gemini's `thoughtSignature`, which must come back with the call."""


class ToolResult(_Part, tag="tool_result"):
    """What a tool gave back. Stands in a user message."""

    call_id: str
    name: str | None = None
    """The tool's name where it is known; Gemini needs it (writers look it up from the call if it is None)."""
    parts: list["Part"] = []
    is_error: bool = False


class Refusal(_Part, tag="refusal"):
    """The model says that it will not."""

    text: str


class Opaque(_Part, tag="opaque"):
    """A part that only `dialect` understands, as it was."""

    dialect: DialectName
    raw: Any


Part = Text | Media | Thinking | ToolCall | ToolResult | Refusal | Opaque


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One message. Tool results stand in user messages; system messages keep their place in the list."""

    role: Role
    parts: list[Part] = []
    name: str | None = None
    extra: dict[str, Any] = {}


class Tool(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function the model may call, or (with `builtin`) a tool of the provider's own, kept as it was."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of the arguments; None when the function takes none."""
    strict: bool | None = None
    builtin: Opaque | None = None
    extra: dict[str, Any] = {}


class ToolChoice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`named` has the tool's name in `name`."""

    kind: Literal["auto", "none", "required", "named"]
    name: str | None = None


class ResponseFormat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`json` asks for any JSON object, `schema` for one that fits `schema`."""

    kind: Literal["text", "json", "schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How much the model should think: an effort, a budget of tokens, or both unsaid with `enabled`."""

    enabled: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None
    include_text: bool | None = None
    """Whether thoughts or a summary of them should be sent along."""


class HubRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request to a chat model."""

    source: DialectName
    model: str
    messages: list[Message]
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    seed: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    stream: bool = False
    stream_usage: bool = False
    """Whether the client asked for usage at the end of a stream (dialects that always send it set True)."""
    user: str | None = None
    metadata: dict[str, str] = {}
    extra: dict[str, Any] = {}
    """Top-level members that the hub has no word for, as the source dialect wrote them."""


class Choice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One answer of a reply."""

    parts: list[Part] = []
    finish: Finish = "unknown"
    finish_raw: str | None = None
    """The provider's own word for `finish`."""
    stop_sequence: str | None = None
    logprobs: Any = None
    """In OpenAI's shape (`{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}`)."""


class HubReply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One reply of a chat model. `choices` has one entry unless the request asked for several."""

    source: DialectName
    id: str | None = None
    model: str | None = None
    created_s: int | None = None
    choices: list[Choice] = []
    usage: Usage | None = None
    extra: dict[str, Any] = {}


# -- streams: the events a reader makes and a writer takes, in the order Start, parts, Finish, (Usage), End


class Start(msgspec.Struct, kw_only=True, tag_field="event", tag="start", omit_defaults=True):
    """The reply begins. Exactly once, first."""

    id: str | None = None
    model: str | None = None
    created_s: int | None = None
    usage: Usage | None = None
    """Input usage that some dialects tell at the start; a later `UsageSeen` replaces it."""


class PartStart(msgspec.Struct, kw_only=True, tag_field="event", tag="part_start", omit_defaults=True):
    """A part begins: `part` has everything known so far, usually empty text or a tool call without arguments."""

    index: int
    """Number of the part within its choice, rising from 0."""
    part: Part
    choice: int = 0


class PartDelta(msgspec.Struct, kw_only=True, tag_field="event", tag="part_delta", omit_defaults=True):
    """More of the part: text of Text, Thinking or Refusal, JSON text of a ToolCall's arguments, or a signature."""

    index: int
    text: str = ""
    signature: str | None = None
    sealed: str | None = None
    """Encrypted reasoning that the provider tells at the end of the part; replaces `Thinking.sealed`."""
    logprobs: Any = None
    extra: Any = None
    """A delta that only the source dialect understands (citations …)."""
    choice: int = 0


class PartEnd(msgspec.Struct, kw_only=True, tag_field="event", tag="part_end", omit_defaults=True):
    """The part is complete. Every PartStart has exactly one, before the next PartStart of its choice."""

    index: int
    choice: int = 0


class FinishSeen(msgspec.Struct, kw_only=True, tag_field="event", tag="finish", omit_defaults=True):
    """The choice has ended. At most once for each choice, after all its parts."""

    finish: Finish
    finish_raw: str | None = None
    stop_sequence: str | None = None
    choice: int = 0


class UsageSeen(msgspec.Struct, kw_only=True, tag_field="event", tag="usage", omit_defaults=True):
    """The usage of the whole reply so far; the last one counts (never to be added up)."""

    usage: Usage


class Failed(msgspec.Struct, kw_only=True, tag_field="event", tag="failed", omit_defaults=True):
    """The provider reported an error inside the stream. Nothing but End may follow."""

    error: "HubError"


class End(msgspec.Struct, kw_only=True, tag_field="event", tag="end", omit_defaults=True):
    """The stream was closed as its dialect closes it (`[DONE]`, `message_stop`, end of the connection).

    `complete` is False when the connection ended before the dialect's own end was seen.
    """

    complete: bool


Event = Start | PartStart | PartDelta | PartEnd | FinishSeen | UsageSeen | Failed | End

ErrorKind = Literal[
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "quota",
    "context_length",
    "content_filter",
    "overloaded",
    "server_error",
    "timeout",
    "unknown",
]


class HubError(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A failure in the words of a provider, or ours to be written in the words of a client's dialect."""

    kind: ErrorKind
    message: str
    status: int
    code: str | None = None
    """The provider's (or our `PS-…`) code."""
    param: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    """When to try again, where the body says it (Google's `RetryInfo`) and no header."""
    raw: Any = None
