"""Reads OpenAI-shaped bodies into complete requests, and refuses by name what an engine here does not do.

Fields that only describe the call (`user`, `metadata` …) are accepted and left alone. Anything else that is not
listed is refused: a parameter that is silently dropped is a wrong answer.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec

from penstock.base.errors import InvalidInput
from penstock.providers.engines.choices import read_choice_bias, read_choices
from penstock.providers.engines.errors import UnsupportedParameter
from penstock.providers.engines.tool_requests import NO_TOOLS, AskedTools, check_calls, read_tools
from penstock.providers.engines.types import Sampling, SamplingPolicy
from penstock.spec.messages import Message, Role

Number = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Penalty = Annotated[float, msgspec.Meta(ge=-2.0, le=2.0)]
Count = Annotated[int, msgspec.Meta(ge=1)]

_DESCRIPTIVE = frozenset(
    (
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "parallel_tool_calls",  # where tools are read, they say whether it means something
        "verbosity",
    )
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # parameters that may be spelled out as long as they ask for nothing
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "web_search_options": (None,),
}
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_MAX_INPUTS = 2048
Wire = TypeVar("Wire", bound=msgspec.Struct)


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False
    include_obfuscation: bool = False


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _WireMessage(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    function_call: Any = None


class _WireGeneration(msgspec.Struct):
    """What chat and text completions share."""

    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: Number | None = None
    top_p: Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    min_p: Share | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    """Extension, as vLLM has it: `{"choice": [texts]}` holds the reply to one of the texts. Ours beyond that:
    `"choice_bias": {text: number}`, added to the logit of that choice's first token."""


class _WireChat(_WireGeneration, kw_only=True):
    messages: list[_WireMessage]
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None


class _WireCompletion(_WireGeneration, kw_only=True):
    prompt: str | list[Any]


class _WireEmbedding(msgspec.Struct):
    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A checked request for text: either `messages` or `prompt` (text or ids) is set."""

    model: str
    messages: tuple[Message, ...] | None
    prompt: str | tuple[int, ...] | None
    wire: _WireGeneration
    stream: bool
    include_usage: bool
    choices: tuple[str, ...] = ()
    """When not empty, the reply is one of these texts."""
    choice_bias: Mapping[str, float] = field(default_factory=dict)
    """What to add to the logit of a choice's first token."""
    tools: AskedTools = NO_TOOLS

    def complete_sampling(self, policy: SamplingPolicy) -> Sampling:
        """Return all sampling parameters: the request's own, else those of the model version."""
        wire = self.wire
        stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
        return Sampling(
            temperature=policy.temperature if wire.temperature is None else wire.temperature,
            top_p=policy.top_p if wire.top_p is None else wire.top_p,
            top_k=policy.top_k if wire.top_k is None else wire.top_k,
            min_p=policy.min_p if wire.min_p is None else wire.min_p,
            repeat_penalty=policy.repeat_penalty,
            frequency_penalty=wire.frequency_penalty or 0.0,
            presence_penalty=wire.presence_penalty or 0.0,
            max_tokens=wire.max_completion_tokens or wire.max_tokens or policy.max_tokens,
            stop=stop,
            seed=None if wire.seed is None else wire.seed % 2**32,
            json_schema=_read_schema(wire.response_format),
            choices=self.choices,
        )


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest:
    """A checked request for vectors: texts, or lists of token ids."""

    model: str
    texts: tuple[str, ...] | None
    ids: tuple[tuple[int, ...], ...] | None
    as_base64: bool
    dimensions: int | None
    truncate: bool
    """Extension: cut texts that are too long (and count them in the reply) instead of refusing them."""


def read_chat(body: bytes) -> GenerationRequest:
    """Return the request in a `/v1/chat/completions` body; raise `InvalidInput` or `UnsupportedParameter`."""
    wire = _decode(body, _WireChat)
    if not wire.messages:
        raise InvalidInput("`messages` is empty.", param="messages")
    messages = tuple(_read_message(number, message) for number, message in enumerate(wire.messages))
    tools = read_tools(wire.tools, wire.tool_choice, parallel=wire.parallel_tool_calls)
    request = _read_generation(wire, messages=messages, prompt=None)
    if tools.tools and (request.choices or _read_schema(wire.response_format) is not None):
        raise UnsupportedParameter(
            "A reply that is held to a form can be no call of a tool: leave out `tools`, or the form.",
            param="tools",
        )
    return dataclasses.replace(request, tools=tools)


def read_completion(body: bytes) -> GenerationRequest:
    """Return the request in a `/v1/completions` body; raise `InvalidInput` or `UnsupportedParameter`."""
    wire = _decode(body, _WireCompletion)
    prompt: str | tuple[int, ...]
    if isinstance(wire.prompt, str):
        prompt = wire.prompt
    elif _is_ids(wire.prompt):
        prompt = tuple(wire.prompt)
    elif len(wire.prompt) == 1 and isinstance(wire.prompt[0], str):
        prompt = wire.prompt[0]
    else:
        raise InvalidInput("`prompt` must be one text or one list of token ids.", param="prompt")
    return _read_generation(wire, messages=None, prompt=prompt)


def read_embedding(body: bytes) -> EmbeddingRequest:
    """Return the request in a `/v1/embeddings` body; raise `InvalidInput`."""
    wire = _decode(body, _WireEmbedding)
    if wire.encoding_format not in (None, "float", "base64"):
        raise InvalidInput("`encoding_format` must be `float` or `base64`.", param="encoding_format")
    given: list[Any] = (
        [wire.input] if isinstance(wire.input, str) or _is_ids(wire.input) else list(wire.input)
    )
    if not given or len(given) > _MAX_INPUTS:
        raise InvalidInput(
            f"`input` must hold 1 to {_MAX_INPUTS} items; it holds {len(given)}.", param="input"
        )
    texts = tuple(given) if all(isinstance(item, str) for item in given) else None
    ids = tuple(map(tuple, given)) if texts is None and all(map(_is_ids, given)) else None
    if texts is None and ids is None:
        raise InvalidInput("`input` must be a text, a list of texts, or lists of token ids.", param="input")
    if not all(given):
        raise InvalidInput(
            f"`input` item {[bool(item) for item in given].index(False)} is empty.", param="input"
        )
    return EmbeddingRequest(
        model=wire.model,
        texts=texts,
        ids=ids,
        as_base64=wire.encoding_format == "base64",
        dimensions=wire.dimensions,
        truncate=bool(wire.truncate),
    )


def _is_ids(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(type(item) is int and 0 <= item < 2**31 for item in value)


def _decode(body: bytes, kind: type[Wire]) -> Wire:
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"The body is not JSON: {error}.") from error
    if not isinstance(raw, dict):
        raise InvalidInput("The body must be a JSON object.")
    known = set(kind.__struct_fields__)
    for name, value in raw.items():
        if name in known or name in _DESCRIPTIVE:
            continue
        if name in _NEUTRAL:
            if value not in _NEUTRAL[name] or (value is True and name == "n"):
                raise UnsupportedParameter(f"`{name}` is not supported by the local engine.", param=name)
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else None
        raise UnsupportedParameter(f"Unknown parameter `{name}`.", hint=hint, param=name)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        param = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else None
        raise InvalidInput(f"The request does not fit: {text}.", param=param) from error


def _read_message(number: int, wire: _WireMessage) -> Message:
    role = _ROLES.get(wire.role)
    where = f"messages[{number}]"
    if role is None:
        raise InvalidInput(
            f"{where} has the unknown role {wire.role!r}; known: {', '.join(_ROLES)}.", param=where
        )
    if wire.function_call:
        raise UnsupportedParameter(f"{where} has a function_call; write it as tool_calls.", param=where)
    if wire.content is None and not wire.tool_calls:
        raise InvalidInput(f"{where} has no content.", param=where)
    texts = []
    for part in [] if wire.content is None or isinstance(wire.content, str) else wire.content:
        if part.type != "text" or part.text is None:
            raise UnsupportedParameter(
                f"{where} has a part of type {part.type!r}; the local engine reads text.", param=where
            )
        texts.append(part.text)
    return Message(
        role=role,
        content=wire.content if isinstance(wire.content, str) else "".join(texts),
        reasoning=wire.reasoning_content or None,
        tool_calls=check_calls(wire.tool_calls, where) if wire.tool_calls else (),
        tool_call_id=wire.tool_call_id,
        name=wire.name,
    )


def _read_generation(
    wire: _WireGeneration, *, messages: tuple[Message, ...] | None, prompt: str | tuple[int, ...] | None
) -> GenerationRequest:
    stop = [wire.stop] if isinstance(wire.stop, str) else wire.stop or []
    if len(stop) > 4 or not all(stop):
        raise InvalidInput("`stop` must be at most 4 texts, none of them empty.", param="stop")
    schema, choices = _read_schema(wire.response_format), read_choices(wire.structured_outputs)
    if schema is not None and choices:
        raise InvalidInput(
            "`response_format` and `structured_outputs` exclude each other.", param="structured_outputs"
        )
    return GenerationRequest(
        model=wire.model,
        messages=messages,
        prompt=prompt,
        wire=wire,
        stream=bool(wire.stream),
        include_usage=wire.stream_options is not None and wire.stream_options.include_usage,
        choices=choices,
        choice_bias=read_choice_bias(wire.structured_outputs, choices),
    )


def _read_schema(wanted: dict[str, Any] | None) -> dict[str, object] | None:
    """Return the schema to hold the reply to. Schemas of the caller's are refused: the engine drops those it
    cannot compile without a word, and a reply that only seems to be constrained is worse than none."""
    kind = "text" if wanted is None else wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    raise UnsupportedParameter(
        f"`response_format` {kind!r} is not supported by the local engine; known: text, json_object.",
        param="response_format",
    )
