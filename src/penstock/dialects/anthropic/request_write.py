"""A request of the hub format, written for `/v1/messages`.

`max_tokens` must be said here: where the request leaves it open, it is 4096, or the budget for thinking plus 4096.
Its one surprise: thinking that another dialect asked for is left out where Anthropic would refuse the request with
it (a tool is forced, or earlier calls of this turn lack the thoughts that led to them).
"""

import re
from typing import Any

import msgspec

from penstock.base.digest import digest_bytes, short_digest
from penstock.base.errors import InvalidInput
from penstock.dialects.anthropic.blocks import object_text, write_media
from penstock.dialects.anthropic.models import (
    LEAST_BUDGET,
    budget_of_effort,
    refuses_sampling,
    takes_one_sampler,
    thinks_adaptively,
    thinks_unasked,
)
from penstock.dialects.losses import Losses
from penstock.dialects.port import WrittenRequest
from penstock.spec.hub import (
    HubRequest,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

DEFAULT_MAX_TOKENS = 4096
_KEPT = ("cache_control",)
"""Members that clients of other dialects also use to mark what a provider should cache."""
_GOOD_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NO_SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}


def write_request(request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:
    """Return the request for a server that calls its model `model`.

    Raises `InvalidInput` for a tool call whose arguments are no JSON object.
    """
    writer = _Writer(request, model, quirks)
    body = msgspec.json.encode(writer.write())
    return WrittenRequest(path="/messages", body=body, dropped=writer.losses.listed())


class _Writer:
    def __init__(self, request: HubRequest, model: str, quirks: frozenset[str]) -> None:
        self.request = request
        self.model = model
        self.quirks = quirks
        self.losses = Losses()
        self.is_same = request.source == "anthropic"

    def write(self) -> dict[str, Any]:
        request = self.request
        most = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        body: dict[str, Any] = {"model": self.model, "max_tokens": most}
        self._messages(body)
        tools = [self._tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools)]
        if said := [tool for tool in tools if tool is not None]:
            body["tools"] = said
        self._tool_choice(body)
        extra = self.losses.unless_from("anthropic", request, kept=_KEPT)
        self._reasoning(body, extra)
        self._output(body, extra)
        self._sampling(body)
        if request.stream:
            body["stream"] = True
        metadata = extra.pop("metadata", {})
        if request.user is not None:
            metadata = {"user_id": request.user, **metadata}
        if metadata:
            body["metadata"] = metadata
        self.losses.if_said("metadata", request.metadata)
        return {**body, **{name: value for name, value in extra.items() if name not in body}}

    # -- settings

    def _sampling(self, body: dict[str, Any]) -> None:
        request = self.request
        for name in ("temperature", "top_p", "top_k"):
            value = getattr(request, name)
            if value is None:
                continue
            if self.is_same or self._takes(name, value, body):
                body[name] = value
            elif name == "top_k" or value != 1:  # else it is what the model does anyway
                self.losses.add(name)
        if stop := [text for text in request.stop if self.is_same or text.strip()]:
            body["stop_sequences"] = stop
        self.losses.add_all(f"stop[{index}]" for index, text in enumerate(request.stop) if text not in stop)
        for name in ("seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs"):
            value = getattr(request, name)
            if value is not None and (name == "seed" or value):
                self.losses.add(name)
        if request.n is not None and request.n != 1:
            self.losses.add("n")

    def _takes(self, name: str, value: float, body: dict[str, Any]) -> bool:
        """Whether the model takes what another dialect said of sampling."""
        if refuses_sampling(self.model):
            return False
        thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        if name == "temperature":
            return value == 1 if thinks else 0 <= value <= 1
        if name == "top_p":
            if takes_one_sampler(self.model) and "temperature" in body:
                return False
            return not thinks or value >= 0.95
        return not thinks

    def _output(self, body: dict[str, Any], extra: dict[str, Any]) -> None:
        config: dict[str, Any] = {**body.pop("output_config", {}), **extra.pop("output_config", {})}
        wanted = self.request.response_format
        if wanted is not None and wanted.kind != "text":
            if wanted.kind == "schema" and wanted.schema is not None and "no_json_schema" not in self.quirks:
                config["format"] = {"type": "json_schema", "schema": wanted.schema}
            else:
                self.losses.add("response_format")
        if config:
            body["output_config"] = config

    def _reasoning(self, body: dict[str, Any], extra: dict[str, Any]) -> None:
        reasoning = self.request.reasoning
        if reasoning is None:
            return
        wanted = reasoning if self.is_same else self._fit_reasoning(reasoning, body)
        if wanted is None:
            return
        thinking: dict[str, Any] | None = None
        if wanted.enabled is False:
            thinking = {"type": "disabled"}
        elif wanted.budget_tokens is not None:
            thinking = {"type": "enabled", "budget_tokens": wanted.budget_tokens}
            if self.request.max_tokens is None:
                body["max_tokens"] = wanted.budget_tokens + DEFAULT_MAX_TOKENS
        elif wanted.enabled:
            thinking = {"type": "adaptive"}
        if thinking is not None and "thinking" not in body:
            if wanted.include_text is not None and wanted.enabled is not False:
                thinking["display"] = "summarized" if wanted.include_text else "omitted"
            body["thinking"] = {**thinking, **extra.pop("thinking", {})}
        if wanted.effort is not None:
            body["output_config"] = {"effort": wanted.effort}

    def _fit_reasoning(self, asked: Reasoning, body: dict[str, Any]) -> Reasoning | None:
        """Return what this model can be told of the thinking that another dialect asked for."""
        if asked.enabled is False or asked.effort == "none":
            return Reasoning(enabled=False) if thinks_unasked(self.model) else None
        if asked.effort is None and asked.budget_tokens is None and not asked.enabled:
            return None  # nothing was asked but to show thoughts, should there be any
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            self.losses.add("reasoning")
            return None
        if thinks_adaptively(self.model):
            if asked.budget_tokens is not None and asked.effort is None:
                self.losses.add("reasoning.budget_tokens")
            effort = "low" if asked.effort == "minimal" else asked.effort
            return Reasoning(enabled=True, effort=effort, include_text=asked.include_text)
        budget = asked.budget_tokens
        if budget is None or budget < LEAST_BUDGET:
            budget = budget_of_effort(asked.effort or "medium") if budget is None else LEAST_BUDGET
        if self.request.max_tokens is not None:
            budget = min(budget, self.request.max_tokens - 1)
        if budget < LEAST_BUDGET or _lacks_thoughts(self.request.messages):
            self.losses.add("reasoning")
            return None
        return Reasoning(enabled=True, budget_tokens=budget)

    # -- tools

    def _tool(self, tool: Tool, path: str) -> Any:
        if tool.builtin is not None:
            if tool.builtin.dialect == "anthropic":
                return tool.builtin.raw
            self.losses.add(f"{path}.builtin")
            return None
        written: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            written["description"] = tool.description
        schema = tool.parameters if tool.parameters is not None else _NO_SCHEMA
        written["input_schema"] = schema if self.is_same or "type" in schema else {"type": "object", **schema}
        if tool.strict is not None and (tool.strict or self.is_same):
            if "no_strict_tools" in self.quirks:
                self.losses.add(f"{path}.strict")
            else:
                written["strict"] = tool.strict
        return {**written, **self._extra(tool.extra, path)}

    def _tool_choice(self, body: dict[str, Any]) -> None:
        choice, alone = self.request.tool_choice, self.request.parallel_tool_calls is False
        if not body.get("tools"):
            if choice is not None and choice.kind not in ("none", "auto"):
                self.losses.add("tool_choice")
            return
        if choice is None and not alone:
            return
        kind = choice.kind if choice is not None else "auto"
        written: dict[str, Any] = {"type": {"required": "any", "named": "tool"}.get(kind, kind)}
        if choice is not None and kind == "named":
            written["name"] = choice.name
        if alone and kind != "none":
            written["disable_parallel_tool_use"] = True
        kept = self.request.extra.get("tool_choice") if self.is_same else None
        body["tool_choice"] = {**written, **kept} if isinstance(kept, dict) else written

    # -- messages

    def _messages(self, body: dict[str, Any]) -> None:
        system: list[dict[str, Any]] = []
        messages: list[dict[str, Any]] = []
        for index, message in enumerate(self.request.messages):
            path = f"messages[{index}]"
            self.losses.if_said(f"{path}.name", message.name)
            if message.role == "system":
                if messages:
                    self.losses.add(f"{path}.position")
                system += self._blocks(message, path)
                continue
            extra = self.losses.inner_extra("anthropic", self.request, message.extra, path)
            blocks = self._blocks(message, path)
            if not blocks:
                continue
            if messages and messages[-1]["role"] == message.role and not extra:
                messages[-1]["content"] += blocks
            else:
                messages.append({"role": message.role, "content": blocks, **extra})
        if system:
            body["system"] = _shortest(system)
        for written in messages:
            written["content"] = _shortest(_results_first(written["content"]))
        body["messages"] = messages

    def _blocks(self, message: Message, path: str) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            block = self._block(part, message.role, path)
            if block is not None:
                blocks.append(block)
        return blocks

    def _block(self, part: Part, role: str, path: str) -> dict[str, Any] | None:
        if isinstance(part, Text | Refusal):
            # Anthropic refuses empty texts, and they say nothing.
            return {"type": "text", "text": part.text, **self._extra(part.extra, path)} if part.text else None
        if isinstance(part, ToolCall):
            return self._call(part, path)
        if isinstance(part, ToolResult):
            return self._result(part, path)
        if isinstance(part, Thinking):
            return self._thinking(part, path)
        if isinstance(part, Media):
            block = write_media(part, may_use_files=self.is_same) if role == "user" or self.is_same else None
            if block is None:
                self.losses.add(f"{path}.{part.kind}")
                return None
            if part.detail not in (None, "auto"):
                self.losses.add(f"{path}.{part.kind}.detail")
            return {**block, **self._extra(part.extra, path)}
        if part.dialect == "anthropic" and isinstance(part.raw, dict):
            return part.raw
        self.losses.add(f"{path}.{_name(part)}")
        return None

    def _call(self, part: ToolCall, path: str) -> dict[str, Any]:
        arguments = object_text(part.arguments)
        if arguments is None:
            raise InvalidInput(
                f"The arguments of the tool call {part.id!r} in `{path}` are no JSON object.",
                hint="Send them as the model wrote them, or as `{}`.",
                param=f"{path}.tool_calls",
            )
        if part.signature is not None:
            self.losses.add(f"{path}.tool_calls.signature")
        extra = self._extra(part.extra, path)
        return {"type": "tool_use", "id": _safe_id(part.id), "name": part.name, "input": arguments, **extra}

    def _result(self, part: ToolResult, path: str) -> dict[str, Any]:
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _safe_id(part.call_id)}
        inner = [self._block(held, "user", f"{path}.tool_result") for held in part.parts]
        if content := [held for held in inner if held is not None]:
            block["content"] = _shortest(content)
        if part.is_error:
            block["is_error"] = True
        return {**block, **self._extra(part.extra, path)}

    def _thinking(self, part: Thinking, path: str) -> dict[str, Any] | None:
        """Thoughts of a Claude model that Bedrock serves bear the same signatures; all others mean nothing here."""
        if part.origin in ("anthropic", "bedrock"):
            extra = self._extra(part.extra, path)
            if part.sealed is not None:
                return {"type": "redacted_thinking", "data": part.sealed, **extra}
            if part.signature is not None:
                return {
                    "type": "thinking",
                    "thinking": part.text or "",
                    "signature": part.signature,
                    **extra,
                }
        self.losses.add(f"{path}.thinking")
        return None

    def _extra(self, extra: dict[str, Any], path: str) -> dict[str, Any]:
        if not extra or self.is_same:
            return extra
        kept = {name: extra[name] for name in _KEPT if isinstance(extra.get(name), dict)}
        self.losses.add_all(f"{path}.{name}" for name in extra if name not in kept)
        return kept


def _lacks_thoughts(messages: list[Message]) -> bool:
    """Return whether the turn that goes on was begun without thoughts that can be shown: with a budget for thinking,
    the assistant's message before tool results must begin with them."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if last is None or not any(isinstance(part, ToolCall) for part in last.parts):
        return False
    return not any(
        isinstance(part, Thinking) and part.origin in ("anthropic", "bedrock") for part in last.parts
    )


def _results_first(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of tools must stand before anything else of their message."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _shortest(blocks: list[dict[str, Any]]) -> Any:
    """Return one plain text as a string, anything more as the list it is."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


def _safe_id(number: str) -> str:
    """Return an id that Anthropic takes; the same for a call and its result."""
    if _GOOD_ID.fullmatch(number):
        return number
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', number)}_{short_digest(digest_bytes(number.encode()))}"


def _name(part: Opaque) -> str:
    kind = part.raw.get("type") if isinstance(part.raw, dict) else None
    return kind if isinstance(kind, str) else "opaque"
