"""The nouns of apps: declarations, requests, replies, and the ports that `main` fills."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from penstock.base.digest import digest_json, short_digest
from penstock.spec.messages import Citation
from penstock.spec.prompts import ChainOfThought
from penstock.spec.spans import Span
from penstock.spec.usage import Usage

StepName = Literal["retrieve", "answer"]
PromptStyle = Literal["marked", "instructed"]


class AppDeclaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chain that answers questions from a knowledge base. Immutable: a change is another version."""

    name: str
    """The model name that clients use."""
    knowledge: str
    model: str
    """The route that the answer step calls through the gateway."""
    steps: tuple[StepName, ...] = ("retrieve", "answer")
    prompt: PromptStyle = "instructed"
    """`marked` is Pocket's trained form without instructions; `instructed` explains the marks to any model."""
    k: int = 5
    """Passages to find."""
    max_sentences: int = 14
    """Sentences to put before the model, in rank order of their passages."""
    max_prompt_words: int = 320
    """Bound on the words of these sentences: about 500 tokens of a small tokenizer."""
    min_dense_score: float = 0.16
    """A passage that shares no word with the question counts only from this cosine on, and where no passage
    comes so near, the question has nothing to do with the documents."""
    min_relative_score: float = 0.0
    """Passages below this share of the best one's score are left out: they distract small models."""
    quote_only: bool = False
    """Hold the reply to one of the sentences shown, or to not knowing. Needs a model whose server understands
    `structured_outputs.choice` (the embedded engine, vLLM)."""
    decline_bias: float = 0.0
    """Added to the model's inclination to say that it does not know, when it may only quote (embedded engine only)."""
    max_tokens: int = 256
    temperature: float = 0.0
    retrieve_timeout_s: float = 15.0
    answer_timeout_s: float = 120.0
    unknown_text: str = "I do not know. The documents hold no answer to this."
    """The reply when the model says that the passages hold no answer."""
    nothing_found_text: str = "I answer questions from my documents, and found nothing in them about this."
    """The reply when no passage comes near the question; no model is called."""

    @property
    def version(self) -> str:
        """Digest of the declaration, as spans and headers show it."""
        return f"sha256:{short_digest(digest_json(msgspec.to_builtins(self)))}"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a chat request that an app uses."""

    model: str
    question: str
    """The text of the last user message."""
    messages: list[Any]
    """All messages as they came, for the trace."""
    stream: bool = False
    include_usage: bool = False
    overrides: dict[str, Any] = {}
    """Sampling parameters the caller set; they go to the answer step."""


class AppReply(msgspec.Struct, frozen=True, kw_only=True):
    """What an app answered."""

    text: str
    citations: tuple[Citation, ...]
    usage: Usage | None
    """The usage of its model calls; None when no model was called or none was told."""
    finish_reason: str
    trace_id: str


class FoundPassage(Protocol):
    """A passage as the retrieve step gets it; `knowledge.types.Hit` is one."""

    @property
    def passage_id(self) -> str: ...
    @property
    def document(self) -> str: ...
    @property
    def section(self) -> str | None: ...
    @property
    def text(self) -> str: ...
    @property
    def sentences(self) -> tuple[str, ...]: ...
    @property
    def score(self) -> float: ...
    @property
    def dense_score(self) -> float | None: ...
    @property
    def lexical_score(self) -> float | None: ...


class Found(Protocol):
    """The answer to one search; `knowledge.types.Retrieval` is one."""

    @property
    def hits(self) -> Sequence[FoundPassage]: ...
    @property
    def generation(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def embedder(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def note(self) -> str | None: ...


class Retriever(Protocol):
    """Searches knowledge. Blocking: it runs in a thread."""

    def retrieve(self, name: str, query: str, k: int = 5, *, traceparent: str | None = None) -> Found:
        """Return at most `k` passages, best first; raise `PenstockError` when it cannot search."""


class PreparedPrompt(Protocol):
    """A chat request that a prompt has made; `prompts.serving.PreparedCall` is one."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def stamp(self) -> str: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def variables(self) -> dict[str, Any]: ...
    @property
    def chain_of_thought(self) -> ChainOfThought | None: ...
    @property
    def examples(self) -> list[str]: ...
    @property
    def warnings(self) -> list[str]: ...


class PromptSource(Protocol):
    """Knows the prompts that answer as models. Blocking: it runs in a thread."""

    def prepare(self, body: Mapping[str, Any]) -> PreparedPrompt:
        """Return the request to send for a request whose `model` is a prompt; raise `PenstockError`."""


class Recorder(Protocol):
    """Takes finished spans; `telemetry.recorder.SpanRecorder` is one."""

    def record(self, span: Span) -> None:
        """Keep `span`. Never raises, never waits."""


OnText = Callable[[str], Awaitable[None]]
"""Receives pieces of the answer as they come."""
