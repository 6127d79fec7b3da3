"""From the hub to a Converse request. Roles alternate, and the results of one turn stand together, first."""

from typing import Any
from urllib.parse import quote

import msgspec

from penstock.dialects.arguments import need_arguments
from penstock.dialects.bedrock.parts import write_media, write_thinking
from penstock.dialects.bedrock.reasoning import family_of, write_reasoning, write_top_k
from penstock.dialects.losses import Losses
from penstock.dialects.port import WrittenRequest
from penstock.dialects.schemas import resolve_references
from penstock.spec.hub import (
    HubRequest,
    Media,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)


def write_request(request: HubRequest, *, model: str) -> WrittenRequest:
    """Return the request for `model`; raises `InvalidInput` only for tool calls whose arguments are no object."""
    writing = _Writing(request, model)
    body = writing.body()
    method = "converse-stream" if request.stream else "converse"
    return WrittenRequest(
        path=f"/model/{quote(model, safe='')}/{method}",
        body=msgspec.json.encode(body),
        dropped=writing.losses.listed(),
    )


class _Writing:
    """One request on its way out."""

    def __init__(self, request: HubRequest, model: str) -> None:
        self.request = request
        self.model = model
        self.family = family_of(model)
        self.losses = Losses()
        self.is_same = request.source == "bedrock"

    def body(self) -> dict[str, Any]:
        request = self.request
        extra = self.losses.unless_from("bedrock", request)
        body: dict[str, Any] = {"messages": self._messages()}
        system = [
            block
            for index, message in enumerate(request.messages)
            if message.role == "system"
            for block in self._blocks(message, f"messages[{index}]")
        ]
        if system:
            body["system"] = system
        if config := {**self._inference(), **_table(extra.pop("inferenceConfig", None))}:
            body["inferenceConfig"] = config
        rest = _table(extra.pop("toolConfig", None))
        if tools := {**self._tool_config(), **rest}:
            body["toolConfig"] = tools
        if fields := {**self._fields(), **_table(extra.pop("additionalModelRequestFields", None))}:
            body["additionalModelRequestFields"] = fields
        if output := {**self._format(), **_table(extra.pop("outputConfig", None))}:
            body["outputConfig"] = output
        if request.metadata:
            body["requestMetadata"] = request.metadata
        self._unsaid()
        return {**body, **extra}

    def _unsaid(self) -> None:
        request = self.request
        for name in (
            "seed",
            "n",
            "frequency_penalty",
            "presence_penalty",
            "logprobs",
            "top_logprobs",
            "user",
        ):
            value = getattr(request, name)
            if not (name == "n" and value == 1):
                self.losses.if_said(name, value)
        if request.parallel_tool_calls is False:
            self.losses.add("parallel_tool_calls")

    # -- messages

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        for index, message in enumerate(self.request.messages):
            if message.role == "system":
                continue
            path = f"messages[{index}]"
            blocks = self._blocks(message, path)
            extra = self.losses.inner_extra("bedrock", self.request, message.extra, path)
            self.losses.if_said(f"{path}.name", message.name)
            if not blocks:
                continue
            if messages and messages[-1]["role"] == message.role:
                messages[-1]["content"] += blocks
            else:
                messages.append({"role": message.role, "content": blocks, **extra})
        if not self.is_same:
            for written in messages:
                written["content"].sort(key=lambda block: "toolResult" not in block)
        return messages

    def _blocks(self, message: Message, path: str) -> list[dict[str, Any]]:
        return [block for part in message.parts if (block := self._block(part, path)) is not None]

    def _block(self, part: Part, path: str) -> dict[str, Any] | None:
        if isinstance(part, Opaque):
            if part.dialect == "bedrock" and isinstance(part.raw, dict):
                return part.raw
            kind = part.raw.get("type") if isinstance(part.raw, dict) else None
            self.losses.add(f"{path}.{kind if isinstance(kind, str) else 'opaque'}")
            return None
        if isinstance(part, Thinking):
            return self._thinking(part, path)
        if isinstance(part, ToolResult):
            return {"toolResult": self._result(part, f"{path}.tool_result")}
        if isinstance(part, ToolCall):
            path = f"{path}.tool_calls"
            if part.signature is not None:
                self.losses.add(f"{path}.signature")
            extra = self.losses.inner_extra("bedrock", self.request, part.extra, path)
            arguments = need_arguments(part.arguments, path)
            return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": arguments, **extra}}
        extra = self.losses.inner_extra("bedrock", self.request, part.extra, path)
        if isinstance(part, Media):
            return self._media(part, extra, path)
        return {"text": part.text, **extra} if part.text else None  # blank blocks are refused

    def _media(self, part: Media, extra: dict[str, Any], path: str) -> dict[str, Any] | None:
        if part.detail not in (None, "auto"):
            self.losses.add(f"{path}.{part.kind}.detail")
        block = write_media(part, extra)
        if block is None:
            self.losses.add(f"{path}.{part.kind}")
        return block

    def _thinking(self, part: Thinking, path: str) -> dict[str, Any] | None:
        """Claude's signatures hold wherever Claude runs; those of others mean nothing here."""
        origin = part.origin or self.request.source
        is_ours = origin == "bedrock" or (origin == "anthropic" and self.family == "claude")
        block = write_thinking(part) if is_ours else None
        if block is None and not is_ours:
            self.losses.add(f"{path}.thinking")
        return block

    def _result(self, result: ToolResult, path: str) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for part in result.parts:
            if isinstance(part, Text) and self.is_same and part.extra.get("json") is True:
                content.append({"json": msgspec.json.decode(part.text)})
            elif isinstance(part, Text):
                self.losses.inner_extra("bedrock", self.request, part.extra, path)
                content.append({"text": part.text})
            elif (block := self._block(part, path)) is not None:
                content.append(block)
        written: dict[str, Any] = {"toolUseId": result.call_id, "content": content}
        if result.is_error:
            written["status"] = "error"
        return {**written, **self.losses.inner_extra("bedrock", self.request, result.extra, path)}

    # -- tools

    def _tool_config(self) -> dict[str, Any]:
        request = self.request
        choice = request.tool_choice
        tools = [
            written
            for index, tool in enumerate(request.tools)
            if (written := self._tool(tool, f"tools[{index}]")) is not None
        ]
        called = self._called_names()
        if choice is not None and choice.kind == "none":
            if not called:
                return {}  # tools that may not be called need not be told: there is no word for `none`
            self.losses.add("tool_choice")
        if not tools:
            if choice is not None and choice.kind in ("required", "named"):
                self.losses.add("tool_choice")
            # a conversation with calls is refused unless the tools are told again
            return {"tools": [_spec(name, None, {}) for name in called]} if called else {}
        config: dict[str, Any] = {"tools": tools}
        if choice is not None and choice.kind == "named":
            config["toolChoice"] = {"tool": {"name": choice.name}}
        elif choice is not None and choice.kind != "none":
            config["toolChoice"] = {"any" if choice.kind == "required" else "auto": {}}
        return config

    def _called_names(self) -> list[str]:
        parts = [part for message in self.request.messages for part in message.parts]
        return list(dict.fromkeys(part.name for part in parts if isinstance(part, ToolCall)))

    def _tool(self, tool: Tool, path: str) -> dict[str, Any] | None:
        if tool.builtin is not None:
            if tool.builtin.dialect == "bedrock":
                return tool.builtin.raw if isinstance(tool.builtin.raw, dict) else None
            self.losses.add(f"{path}.builtin")
            return None
        schema = tool.parameters
        if schema is not None and self.family != "claude":
            schema = resolve_references(schema)
        more: dict[str, Any] = {} if tool.strict is None else {"strict": tool.strict}
        more |= self.losses.inner_extra("bedrock", self.request, tool.extra, path)
        return _spec(tool.name, tool.description, more, schema)

    # -- settings

    def _inference(self) -> dict[str, Any]:
        request = self.request
        temperature = request.temperature
        if temperature is not None and temperature > 1 and not self.is_same and self.family == "claude":
            self.losses.add("temperature")
            temperature = None
        said = {
            "maxTokens": request.max_tokens,
            "temperature": temperature,
            "topP": request.top_p,
            "stopSequences": request.stop or None,
        }
        return {name: value for name, value in said.items() if value is not None}

    def _fields(self) -> dict[str, Any]:
        request = self.request
        fields: dict[str, Any] = {}
        if request.top_k is not None:
            written = write_top_k(request.top_k, self.family)
            if written is None and self.is_same:
                written = {"top_k": request.top_k}
            if written is None:
                self.losses.add("top_k")
            fields |= written or {}
        if request.reasoning is not None:
            written, lost = write_reasoning(request, self.model)
            fields |= written
            self.losses.add_all(lost)
        return fields

    def _format(self) -> dict[str, Any]:
        wanted = self.request.response_format
        if wanted is None or wanted.kind == "text":
            return {}
        if wanted.schema is None:
            self.losses.add("response_format")
            return {}
        inner: dict[str, Any] = {"schema": msgspec.json.encode(wanted.schema).decode()}
        if wanted.name is not None:
            inner["name"] = wanted.name
        if wanted.description is not None:
            inner["description"] = wanted.description
        return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": inner}}}


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _spec(
    name: str, description: str | None, more: dict[str, Any], schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    said = {} if not description else {"description": description}
    whole = schema if schema and "type" in schema else {"type": "object", **(schema or {"properties": {}})}
    return {"toolSpec": {"name": name, **said, "inputSchema": {"json": whole}, **more}}
