"""A request of the hub format, written for `/v2/chat`."""

from typing import Any

import msgspec

from penstock.dialects.cohere.content import (
    is_plan,
    own_citations,
    without_citations,
    write_call,
    write_image,
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

_MOST_STOPS = 5
_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, float("inf")),
    "top_p": ("p", 0.01, 0.99),
    "top_k": ("k", 0, 500),
    "frequency_penalty": ("frequency_penalty", 0, 1),
    "presence_penalty": ("presence_penalty", 0, 1),
}
"""What each number of the hub is called here, and the range it is documented for."""
_NO_SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}


def write_request(request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:
    """Return the request for a server that calls its model `model`."""
    writer = _Writer(request, model, quirks)
    body = msgspec.json.encode(writer.write())
    return WrittenRequest(path="/chat", body=body, dropped=writer.losses.listed())


class _Writer:
    def __init__(self, request: HubRequest, model: str, quirks: frozenset[str]) -> None:
        self.request = request
        self.model = model
        self.quirks = quirks
        self.losses = Losses()
        self.is_same = request.source == "cohere"

    def write(self) -> dict[str, Any]:
        request = self.request
        messages = [
            written
            for index, message in enumerate(request.messages)
            for written in self._message(message, f"messages[{index}]")
        ]
        # Clients of this protocol always say whether they stream.
        body: dict[str, Any] = {"model": self.model, "messages": messages, "stream": request.stream}
        self._tools(body)
        self._sampling(body)
        self._format(body)
        if request.reasoning is not None:
            self._reasoning(body, request.reasoning)
        self.losses.if_said("user", request.user)
        self.losses.if_said("metadata", request.metadata)
        for name, value in self.losses.unless_from("cohere", request).items():
            known = body.get(name)  # of what the hub has words for, `extra` has the rest
            body[name] = {**value, **known} if isinstance(known, dict) and isinstance(value, dict) else value
        return body

    # -- settings

    def _sampling(self, body: dict[str, Any]) -> None:
        request = self.request
        if request.max_tokens is not None:
            body["max_tokens"] = request.max_tokens
        for name, (here, least, most) in _RANGES.items():
            value = getattr(request, name)
            if value is None:
                continue
            if self.is_same or least <= value <= most:
                body[here] = value
            else:
                self.losses.add(name)
        if request.seed is not None:
            body["seed"] = request.seed
        if request.logprobs is not None:
            body["logprobs"] = request.logprobs
        self.losses.if_said("top_logprobs", request.top_logprobs or None)
        if request.n is not None and request.n != 1:
            self.losses.add("n")
        if request.stop:
            most_stops = len(request.stop) if self.is_same else _MOST_STOPS
            body["stop_sequences"] = request.stop[:most_stops]
            self.losses.add_all(f"stop[{index}]" for index in range(most_stops, len(request.stop)))

    def _format(self, body: dict[str, Any]) -> None:
        wanted = self.request.response_format
        if wanted is None:
            return
        if wanted.kind == "text":
            body["response_format"] = {"type": "text"}
        elif body.get("tools") and not self.is_same:
            self.losses.add("response_format")  # Cohere refuses it beside tools
        else:
            body["response_format"] = {"type": "json_object"}
            if wanted.schema is not None and "no_json_schema" not in self.quirks:
                body["response_format"]["json_schema"] = wanted.schema
            elif wanted.kind == "schema":
                self.losses.add("response_format.schema")

    def _reasoning(self, body: dict[str, Any], asked: Reasoning) -> None:
        enabled = False if asked.effort == "none" else asked.enabled
        if asked.effort not in (None, "none"):
            enabled = True
            self.losses.add("reasoning.effort")
        if asked.include_text is False:
            self.losses.add("reasoning.include_text")
        thinking: dict[str, Any] = {}
        if enabled is not None or asked.budget_tokens is not None:
            thinking["type"] = "disabled" if enabled is False else "enabled"
        if asked.budget_tokens is not None:
            thinking["token_budget"] = asked.budget_tokens
        if thinking:
            body["thinking"] = thinking

    # -- tools

    def _tools(self, body: dict[str, Any]) -> None:
        request = self.request
        written = [self._tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools)]
        tools = [tool for tool in written if tool is not None]
        if tools:
            body["tools"] = tools
            self._strict(body)
        choice = request.tool_choice
        if choice is not None and choice.kind in ("required", "named"):
            if tools:
                body["tool_choice"] = "REQUIRED"
            if not tools:
                self.losses.add("tool_choice")
            elif choice.kind == "named" and len(tools) > 1:
                self.losses.add("tool_choice.name")
        elif choice is not None and choice.kind == "none" and tools:
            body["tool_choice"] = "NONE"
        if tools and request.parallel_tool_calls is False:
            self.losses.add("parallel_tool_calls")

    def _strict(self, body: dict[str, Any]) -> None:
        """Strictness is for all tools or for none here."""
        said = [tool.strict for tool in self.request.tools]
        if len(set(said)) == 1:
            if said[0] is not None:
                body["strict_tools"] = said[0]
            return
        self.losses.add_all(f"tools[{index}].strict" for index, strict in enumerate(said) if strict)

    def _tool(self, tool: Tool, path: str) -> dict[str, Any] | None:
        if tool.builtin is not None:
            self.losses.add(f"{path}.builtin")
            return None
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.parameters if tool.parameters is not None else _NO_SCHEMA
        extra = dict(self.losses.inner_extra("cohere", self.request, tool.extra, path))
        function |= extra.pop("function", {})
        return {"type": "function", "function": function, **extra}

    # -- messages

    def _message(self, message: Message, path: str) -> list[dict[str, Any]]:
        """Tool results are messages of their own and come first."""
        self.losses.if_said(f"{path}.name", message.name)
        extra = self.losses.inner_extra("cohere", self.request, message.extra, path)
        if message.role == "assistant":
            return self._assistant(message, extra, path)
        written = [self._result(part, path) for part in message.parts if isinstance(part, ToolResult)]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        blocks = [block for part in rest if (block := self._block(part, message.role, path)) is not None]
        if blocks or (rest and not written):
            written.append({"role": message.role, "content": _shortest(blocks), **extra})
        return written

    def _result(self, part: ToolResult, path: str) -> dict[str, Any]:
        path = f"{path}.tool_result"
        if part.is_error:
            self.losses.add(f"{path}.is_error")
        blocks = [block for held in part.parts if (block := self._block(held, "tool", path)) is not None]
        extra = self.losses.inner_extra("cohere", self.request, part.extra, path)
        return {"role": "tool", "tool_call_id": part.call_id, "content": _shortest(blocks), **extra}

    def _assistant(self, message: Message, extra: dict[str, Any], path: str) -> list[dict[str, Any]]:
        written: dict[str, Any] = {"role": "assistant"}
        blocks: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        citations: list[Any] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(self._call(part, path))
            elif isinstance(part, Thinking) and is_plan(part):
                written["tool_plan"] = written.get("tool_plan", "") + (part.text or "")
            elif (block := self._block(part, "assistant", path)) is not None:
                blocks.append(block)
                if isinstance(part, Text) and self.is_same:
                    citations += own_citations(part)
        if blocks:
            written["content"] = _shortest(blocks)
        if calls:
            written["tool_calls"] = calls
        if citations:
            written["citations"] = citations
        return [{**written, **extra}] if len(written) > 1 or extra else []

    def _call(self, part: ToolCall, path: str) -> dict[str, Any]:
        if part.signature is not None:
            self.losses.add(f"{path}.tool_calls.signature")
        extra = self.losses.inner_extra("cohere", self.request, part.extra, f"{path}.tool_calls")
        return write_call(part, extra)

    def _block(self, part: Part, role: str, path: str) -> dict[str, Any] | None:
        written: dict[str, Any] | None = None
        extra = part.extra
        if isinstance(part, Text):
            if not part.text:
                return None
            written = {"type": "text", "text": part.text}
            extra = without_citations(part).extra if self.is_same else extra
        elif isinstance(part, Refusal):
            written = {"type": "text", "text": part.text}
        elif isinstance(part, Thinking):
            if part.signature or part.sealed:
                self.losses.add(f"{path}.thinking.signature")
            if role != "assistant" or not part.text:
                return None
            written = {"type": "thinking", "thinking": part.text}
        elif isinstance(part, Media):
            written = write_image(part) if role == "user" else None
            if written is None:
                self.losses.add(f"{path}.{part.kind}")
        elif isinstance(part, Opaque) and part.dialect == "cohere" and isinstance(part.raw, dict):
            return part.raw
        elif isinstance(part, Opaque):
            kind = part.raw.get("type") if isinstance(part.raw, dict) else None
            self.losses.add(f"{path}.{kind if isinstance(kind, str) else 'opaque'}")
        if written is None:
            return None
        return {**written, **self.losses.inner_extra("cohere", self.request, extra, path)}


def _shortest(blocks: list[dict[str, Any]]) -> Any:
    """Return one plain text as a string, nothing as an empty one, anything more as the list it is."""
    if not blocks:
        return ""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks
