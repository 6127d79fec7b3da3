"""Nouns of the engine process: a model to host, how it samples, and the renderer it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from penstock.spec.messages import Message

ModelKind = Literal["chat", "embedding", "rerank"]


class SamplingPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Defaults that belong to a model version. Every value is sent with every call, so that no engine's own
    default ever decides. Temperature 0 means greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means all tokens."""
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    max_tokens: int | None = None
    """None means up to the end of the context."""


class ServedAdapter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A low-rank adapter of a served model. Its digest is its name to the engine: a name is never used again."""

    name: str
    """Of the asset, without `model:`."""
    version: str
    """Such as `model:pocket-adapter@1 sha256:0123456789ab`."""
    digest: str
    """Of the version."""
    gguf: Path
    scale: float = 1.0


class ServedModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model version as the engine process hosts it, all files local."""

    name: str
    kind: ModelKind
    version: str
    """Such as `model:pocket@1 sha256:0123456789ab`."""
    gguf: Path
    renderer: Path
    """`renderer.json`; its tokenizer lies at `tokenizer`."""
    tokenizer: Path
    context_length: int
    dims: int | None = None
    """Length of an embedding; None for chat models."""
    sampling: SamplingPolicy = SamplingPolicy()
    description: str = ""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a reply, as the version states them; empty for versions that state none (the file's then)."""
    adapters: tuple[ServedAdapter, ...] = ()
    digest: str = ""
    """Of the version, whole."""


class PromptRenderer(Protocol):
    """Turns text into the token ids that the model was trained on."""

    @property
    def digest(self) -> str:
        """Content digest of template, tokenizer and special tokens."""
        ...

    @property
    def template_names(self) -> frozenset[str]:
        """Every name and literal text in the chat template; empty without one."""
        ...

    def render_chat(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the ids of the conversation and the start of the assistant's turn.

        Control tokens written inside a message are plain text. Raises a `CallerError` if the template refuses.
        """
        ...

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text with the model's own start and end tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class HostedModel:
    """A model and the renderer that speaks its language."""

    served: ServedModel
    renderer: PromptRenderer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What one call asks for, complete: nothing is left to the engine."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int | None
    json_schema: dict[str, object] | None = None
    choices: tuple[str, ...] = ()
    """When not empty, the reply is one of these texts."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""
    grammar: str | None = None
    """When set, the reply is one of this grammar's sentences (GBNF)."""
    shown_tokens: tuple[str, ...] = ()
    """Texts that are to stand in the reply also where the tokenizer holds them as control tokens."""


FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class GenerationEnd:
    """How a generation ended and what it took."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
