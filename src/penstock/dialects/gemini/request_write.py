"""From the hub to a generateContent request. What it cannot say is listed; roles alternate; ids of ours stay here."""

import re
from typing import Any
from urllib.parse import quote

import msgspec

from penstock.dialects.arguments import need_arguments
from penstock.dialects.gemini.parts import SIGNATURE, write_call, write_media, write_response
from penstock.dialects.losses import Losses
from penstock.dialects.minted_ids import is_minted
from penstock.dialects.port import WrittenRequest
from penstock.dialects.schemas import lower_schema, resolve_references
from penstock.spec.hub import (
    HubRequest,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

_HAS_LEVELS = re.compile(r"gemini-(?:[3-9]|[1-9]\d)")
_BUDGETS = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 24_576,
    "max": 24_576,
}
_LEVELS = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls that another model made: without it models that check signatures refuse them."""


def write_request(request: HubRequest, *, model: str) -> WrittenRequest:
    """Return the request for `model`; raises `InvalidInput` only for tool calls whose arguments are no object."""
    writing = _Writing(request, model)
    body = writing.body()
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    return WrittenRequest(
        path=f"{model_path(model)}:{method}",
        body=msgspec.json.encode(body),
        dropped=writing.losses.listed(),
    )


def model_path(model: str) -> str:
    """Return the path of a model's resource below the base URL."""
    for kind in ("models", "tunedModels", "endpoints"):
        if model.startswith(f"{kind}/"):
            return f"/{kind}/{quote(model[len(kind) + 1 :], safe='')}"
    return f"/models/{quote(model, safe='')}"


class _Writing:
    """One request on its way out."""

    def __init__(self, request: HubRequest, model: str) -> None:
        self.request = request
        self.model = model
        self.losses = Losses()
        self.is_same = request.source == "gemini"
        self.names = {
            part.id: part.name
            for message in request.messages
            for part in message.parts
            if isinstance(part, ToolCall)
        }

    def body(self) -> dict[str, Any]:
        request = self.request
        extra = self.losses.unless_from("gemini", request)
        body: dict[str, Any] = {}
        system = [
            piece
            for index, message in enumerate(request.messages)
            if message.role == "system"
            for piece in self._parts(message, f"messages[{index}]")
        ]
        if system:
            body["systemInstruction"] = {"parts": system}
        body["contents"] = self._contents()
        calling = extra.pop("functionCallingConfig", None)
        tool_config = extra.pop("toolConfig", None)
        config = extra.pop("generationConfig", None)
        if tools := self._tools():
            body["tools"] = tools
        if tool_config := self._tool_config(calling, tool_config, has_tools=bool(tools)):
            body["toolConfig"] = tool_config
        if generation := {**self._generation(config), **self._rest(config)}:
            body["generationConfig"] = generation
        self._unsaid()
        return {**body, **extra}

    def _rest(self, config: Any) -> dict[str, Any]:
        if not isinstance(config, dict):
            return {}
        return {name: value for name, value in config.items() if name != "thinkingConfig"}

    def _unsaid(self) -> None:
        request, losses = self.request, self.losses
        losses.if_said("user", request.user)
        losses.if_said("metadata", request.metadata)
        if request.parallel_tool_calls is False:
            losses.add("parallel_tool_calls")

    # -- contents

    def _contents(self) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        for index, message in enumerate(self.request.messages):
            if message.role == "system":
                continue
            path = f"messages[{index}]"
            role = "model" if message.role == "assistant" else "user"
            parts = self._parts(message, path)
            extra = self.losses.inner_extra("gemini", self.request, message.extra, path)
            self.losses.if_said(f"{path}.name", message.name)
            if not parts:
                continue
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts, **extra})
        return contents

    def _parts(self, message: Message, path: str) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        has_call = False
        for part in message.parts:
            piece = self._part(part, path)
            if piece is None:
                continue
            if isinstance(part, ToolCall):
                if (
                    not has_call
                    and SIGNATURE not in piece
                    and not self.is_same
                    and _HAS_LEVELS.search(self.model)
                ):
                    piece[SIGNATURE] = _NO_SIGNATURE
                has_call = True
            written.append(piece)
        return written

    def _part(self, part: Part, path: str) -> dict[str, Any] | None:
        if isinstance(part, Opaque):
            if part.dialect == "gemini" and isinstance(part.raw, dict):
                return part.raw
            kind = part.raw.get("type") if isinstance(part.raw, dict) else None
            self.losses.add(f"{path}.{kind if isinstance(kind, str) else 'opaque'}")
            return None
        if isinstance(part, Thinking):
            return self._thinking(part, path)
        if isinstance(part, ToolResult):
            return self._result(part, path)
        if isinstance(part, ToolCall):
            args = need_arguments(part.arguments, f"{path}.tool_calls")
            extra = self.losses.inner_extra("gemini", self.request, part.extra, f"{path}.tool_calls")
            return write_call(part, args, extra)
        extra = self.losses.inner_extra("gemini", self.request, part.extra, path)
        if isinstance(part, Media):
            return self._media(part, extra, path)
        return {"text": part.text, **extra} if part.text or extra else None

    def _thinking(self, part: Thinking, path: str) -> dict[str, Any] | None:
        origin = part.origin or self.request.source
        if origin != "gemini":
            self.losses.add(f"{path}.thinking")
            return None
        piece: dict[str, Any] = {"text": part.text or "", "thought": True}
        if part.signature is not None:
            piece[SIGNATURE] = part.signature
        return {**piece, **self.losses.inner_extra("gemini", self.request, part.extra, path)}

    def _media(self, part: Media, extra: dict[str, Any], path: str) -> dict[str, Any] | None:
        if part.detail not in (None, "auto"):
            self.losses.add(f"{path}.{part.kind}.detail")
        piece = write_media(msgspec.structs.replace(part, extra=extra))
        if piece is None:
            self.losses.add(f"{path}.{part.kind}")
        return piece

    def _result(self, result: ToolResult, path: str) -> dict[str, Any]:
        path = f"{path}.tool_result"
        more = dict(self.losses.inner_extra("gemini", self.request, result.extra, path))
        media: list[dict[str, Any]] = []
        texts: list[str] = []
        names: list[str] = []
        for part in result.parts:
            if isinstance(part, Text):
                texts.append(part.text)
                self.losses.inner_extra("gemini", self.request, part.extra, path)
            elif (piece := self._part(part, path)) is not None:
                media.append(piece)
                names += [part.name] if isinstance(part, Media) and part.name else []
        inner = more.pop("functionResponse", None)
        function: dict[str, Any] = {} if is_minted(result.call_id) else {"id": result.call_id}
        function["name"] = result.name or self.names.get(result.call_id) or "tool"
        text = "\n\n".join(texts)
        function["response"] = write_response(text, is_error=result.is_error, names=frozenset(names))
        if media:
            function["parts"] = media
        if isinstance(inner, dict):
            function |= inner
        return {"functionResponse": function, **more}

    # -- tools

    def _tools(self) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        declarations: list[dict[str, Any]] = []
        for index, tool in enumerate(self.request.tools):
            path = f"tools[{index}]"
            if tool.builtin is None:
                declarations.append(self._declaration(tool, path))
            elif tool.builtin.dialect == "gemini":
                tools.append(tool.builtin.raw)
            else:
                self.losses.add(f"{path}.builtin")
        return [{"functionDeclarations": declarations}, *tools] if declarations else tools

    def _declaration(self, tool: Tool, path: str) -> dict[str, Any]:
        declaration: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            declaration["description"] = tool.description
        if tool.strict:
            self.losses.add(f"{path}.strict")
        if tool.parameters and tool.parameters.get(
            "properties", True
        ):  # an object without properties is refused
            lowered = lower_schema(tool.parameters)
            if lowered.is_exact:
                declaration["parameters"] = lowered.schema
            else:
                declaration["parametersJsonSchema"] = resolve_references(tool.parameters)
        return {**declaration, **self.losses.inner_extra("gemini", self.request, tool.extra, path)}

    def _tool_config(self, calling: Any, config: Any, *, has_tools: bool) -> dict[str, Any]:
        written: dict[str, Any] = {}
        choice = self.request.tool_choice
        if choice is not None and has_tools:
            modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
            written = {"mode": modes[choice.kind]}
            if choice.kind == "named":
                written["allowedFunctionNames"] = [choice.name]
        elif choice is not None and choice.kind not in ("auto", "none"):
            self.losses.add("tool_choice")
        if isinstance(calling, dict):
            written |= calling
        inner = {"functionCallingConfig": written} if written else {}
        return {**inner, **config} if isinstance(config, dict) else inner

    # -- settings

    def _generation(self, kept: Any) -> dict[str, Any]:
        request = self.request
        said: dict[str, Any] = {
            "maxOutputTokens": request.max_tokens,
            "temperature": request.temperature,
            "topP": request.top_p,
            "topK": request.top_k,
            "stopSequences": request.stop or None,
            "candidateCount": request.n,
            "seed": request.seed,
            "presencePenalty": request.presence_penalty,
            "frequencyPenalty": request.frequency_penalty,
            "responseLogprobs": request.logprobs,
            "logprobs": request.top_logprobs,
        }
        config = {name: value for name, value in said.items() if value is not None}
        if request.response_format is not None:
            config |= self._format(request.response_format)
        thinking = {} if request.reasoning is None else self._reasoning(request.reasoning)
        if isinstance(kept, dict) and isinstance(kept.get("thinkingConfig"), dict):
            thinking |= kept["thinkingConfig"]
        if thinking:
            config["thinkingConfig"] = thinking
        return config

    def _format(self, wanted: ResponseFormat) -> dict[str, Any]:
        if wanted.kind == "text":
            return {"responseMimeType": "text/plain"}
        written: dict[str, Any] = {"responseMimeType": "application/json"}
        if wanted.schema is not None:
            lowered = lower_schema(wanted.schema)
            if lowered.is_exact:
                written["responseSchema"] = lowered.schema
            else:
                written["responseJsonSchema"] = resolve_references(wanted.schema)
        return written

    def _reasoning(self, reasoning: Reasoning) -> dict[str, Any]:
        written: dict[str, Any] = {}
        effort = reasoning.effort
        if reasoning.budget_tokens is not None:
            written["thinkingBudget"] = reasoning.budget_tokens
            if effort is not None:  # both together are refused
                self.losses.add("reasoning.effort")
        elif effort is not None:
            if effort in _LEVELS and (_HAS_LEVELS.search(self.model) or self.is_same):
                written["thinkingLevel"] = _LEVELS[effort]
            elif effort in _BUDGETS:
                written["thinkingBudget"] = _BUDGETS[effort]
            else:
                self.losses.add("reasoning.effort")
        elif reasoning.enabled is not None:
            written["thinkingBudget"] = -1 if reasoning.enabled else 0
        if reasoning.include_text is not None:
            written["includeThoughts"] = reasoning.include_text
        return written
