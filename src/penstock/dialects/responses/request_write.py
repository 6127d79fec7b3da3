"""A request of the hub format, written as a request of the responses API."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.data_urls import join_data_url
from penstock.dialects.losses import Losses
from penstock.dialects.openai.models import is_plain, is_reasoning
from penstock.dialects.openai.request_write import SHARED_EXTRA, effort_of_budget, opaque_name
from penstock.dialects.port import WrittenRequest
from penstock.dialects.responses.request_read import LOGPROBS
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

_PIECES = ("input_", "output_")
"""Types of content pieces begin so; other unknown types are items of their own."""


def write_request(request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:  # noqa: ARG001
    """Return the request for a server that calls its model `model`; no quirks of servers are known."""
    writer = _Writer(request, model)
    return WrittenRequest(
        path="/responses", body=msgspec.json.encode(writer.write()), dropped=writer.losses.listed()
    )


class _Writer:
    def __init__(self, request: HubRequest, model: str) -> None:
        self.request = request
        self.model = model
        self.losses = Losses()
        self.is_same = request.source == "responses"

    def write(self) -> dict[str, Any]:
        request = self.request
        body: dict[str, Any] = {"model": self.model}
        messages = list(enumerate(request.messages))
        if messages and (instructions := self._instructions(messages[0][1])):
            body["instructions"] = instructions
            messages = messages[1:]
        body["input"] = [item for index, message in messages for item in self._items(message, index)]
        self._tools(body)
        self._sampling(body)
        self._text(body)
        if request.reasoning is not None:
            self._reasoning(body, request.reasoning)
        if request.stream:
            body["stream"] = True
        if request.user is not None:
            body["user"] = request.user
        if request.metadata:
            body["metadata"] = request.metadata
        self._extra(body)
        return body

    def _extra(self, body: dict[str, Any]) -> None:
        kept = (*SHARED_EXTRA, "verbosity") if self.request.source == "openai" else ()
        extra = self.losses.unless_from("responses", self.request, kept)
        text = extra.pop("text", None) or {}
        if "verbosity" in extra:
            text = {**text, "verbosity": extra.pop("verbosity")}
        if isinstance(text, dict) and text:
            body["text"] = {**text, **body.get("text", {})}
        if isinstance(reasoning := extra.pop("reasoning", None), dict):
            body["reasoning"] = {**body.get("reasoning", {}), **reasoning}
        if not self.is_same:
            extra.setdefault("store", False)  # keeping replies is this API's default, not that of the others
        include = extra.pop("include", None)
        if isinstance(include, list):
            body["include"] = [*include, *body.get("include", [])]
        for name, value in extra.items():
            body.setdefault(name, value)

    def _sampling(self, body: dict[str, Any]) -> None:
        request = self.request
        if request.max_tokens is not None:
            body["max_output_tokens"] = request.max_tokens
        effort = request.reasoning.effort if request.reasoning is not None else None
        is_fixed = is_reasoning(self.model) and effort != "none" and not self.is_same
        for name in ("temperature", "top_p"):
            value = getattr(request, name)
            if value is None or (is_fixed and value == 1):
                continue
            if is_fixed:
                self.losses.add(name)
            else:
                body[name] = value
        if request.logprobs:
            body["include"] = [LOGPROBS]
        if request.top_logprobs is not None:
            body["top_logprobs"] = request.top_logprobs
        self.losses.if_said("stop", request.stop)
        for name in ("seed", "top_k", "frequency_penalty", "presence_penalty"):
            value = getattr(request, name)
            if value is not None and (name in ("seed", "top_k") or value != 0):
                self.losses.add(name)
        if request.n is not None and request.n != 1:
            self.losses.add("n")

    def _text(self, body: dict[str, Any]) -> None:
        wanted = self.request.response_format
        if wanted is None:
            return
        found: dict[str, Any] = {
            "type": {"text": "text", "json": "json_object"}.get(wanted.kind, "json_schema")
        }
        if wanted.kind == "schema":
            said = {
                "name": wanted.name or "response",
                "description": wanted.description,
                "schema": wanted.schema,
                "strict": wanted.strict,
            }
            found |= {name: value for name, value in said.items() if value is not None}
        body["text"] = {"format": found}

    def _reasoning(self, body: dict[str, Any], reasoning: Reasoning) -> None:
        effort = reasoning.effort
        if effort is None and reasoning.budget_tokens is not None:
            effort = effort_of_budget(reasoning.budget_tokens)
            self.losses.add("reasoning.budget_tokens")
        said: dict[str, Any] = {}
        if effort is not None:
            if is_plain(self.model):
                self.losses.add("reasoning.effort")
            else:
                said["effort"] = effort
        elif reasoning.enabled is not None and not (reasoning.enabled and is_reasoning(self.model)):
            self.losses.add("reasoning.enabled")
        if reasoning.include_text and not is_plain(self.model):
            said["summary"] = "auto"
        if said:
            body["reasoning"] = said

    # -- tools

    def _tools(self, body: dict[str, Any]) -> None:
        request = self.request
        listed = (self._tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools))
        tools = [tool for tool in listed if tool is not None]
        if tools:
            body["tools"] = tools
        choice = request.tool_choice
        if choice is not None and tools:
            named = {"type": "function", "name": choice.name}
            body["tool_choice"] = named if choice.kind == "named" else choice.kind
        elif choice is not None and choice.kind not in ("none", "auto"):
            self.losses.add("tool_choice")
        if request.parallel_tool_calls is not None and (tools or self.is_same):
            body["parallel_tool_calls"] = request.parallel_tool_calls

    def _tool(self, tool: Tool, path: str) -> dict[str, Any] | None:
        if tool.builtin is not None:
            if tool.builtin.dialect == "responses" and isinstance(tool.builtin.raw, dict):
                return tool.builtin.raw
            self.losses.add(f"{path}.builtin")
            return None
        written: dict[str, Any] = {"type": "function", "name": tool.name}
        if tool.description is not None:
            written["description"] = tool.description
        if tool.parameters is not None:
            written["parameters"] = tool.parameters
        elif not self.is_same:
            written["parameters"] = {"type": "object", "properties": {}}
        if tool.strict is not None:
            written["strict"] = tool.strict
        elif not self.is_same:
            written["strict"] = False  # unsaid means true here, and false everywhere else
        return {**written, **self.losses.inner_extra("responses", self.request, tool.extra, path)}

    # -- items

    def _instructions(self, message: Message) -> str | None:
        """Return the text of a leading system message, if it is nothing but text."""
        if message.role != "system" or (self.is_same and message.extra):
            return None
        texts = [part for part in message.parts if isinstance(part, Text)]
        if len(texts) != len(message.parts) or (self.is_same and any(part.extra for part in texts)):
            return None
        for part in texts:
            self.losses.inner_extra("responses", self.request, part.extra, "messages[0]")
        self.losses.inner_extra("responses", self.request, message.extra, "messages[0]")
        return "\n\n".join(part.text for part in texts)

    def _items(self, message: Message, index: int) -> list[dict[str, Any]]:
        """Items of a message, in the order of its parts; neighbouring pieces of content share a message."""
        path = f"messages[{index}]"
        items: list[dict[str, Any]] = []
        pieces: list[dict[str, Any]] = []
        self.losses.if_said(f"{path}.name", message.name)
        extra = self.losses.inner_extra("responses", self.request, message.extra, path)

        def close_message() -> None:
            if pieces:
                items.append({"type": "message", "role": message.role, **extra, "content": _shorten(pieces)})
                pieces.clear()

        for part in message.parts:
            piece = self._piece(part, path, is_answer=message.role == "assistant")
            if piece is not None:
                pieces.append(piece)
                continue
            item = self._item(part, path)
            if item is not None:
                close_message()
                items.append(item)
        close_message()
        if not message.parts and message.role != "assistant":
            items.append({"type": "message", "role": message.role, **extra, "content": ""})
        return items

    def _item(self, part: Part, path: str) -> dict[str, Any] | None:
        if isinstance(part, ToolCall):
            if part.signature is not None:
                self.losses.add(f"{path}.tool_calls.signature")
            extra = self.losses.inner_extra("responses", self.request, part.extra, f"{path}.tool_calls")
            call = {"type": "function_call", "call_id": part.id, "name": part.name}
            return {**call, **extra, "arguments": part.arguments or "{}"}
        if isinstance(part, ToolResult):
            return self._result(part, path)
        if isinstance(part, Thinking):
            return self._thought(part, path)
        if isinstance(part, Opaque) and part.dialect == "responses" and isinstance(part.raw, dict):
            return part.raw
        self.losses.add(f"{path}.{opaque_name(part) if isinstance(part, Opaque) else _kind(part)}")
        return None

    def _thought(self, part: Thinking, path: str) -> dict[str, Any] | None:
        """Only thoughts of this dialect have the id that the API asks for."""
        if part.origin != "responses" or part.id is None:
            self.losses.add(f"{path}.thinking")
            return None
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        item: dict[str, Any] = {"type": "reasoning", "id": part.id, **part.extra, "summary": summary}
        return item if part.sealed is None else {**item, "encrypted_content": part.sealed}

    def _result(self, result: ToolResult, path: str) -> dict[str, Any]:
        path = f"{path}.tool_result"
        if result.is_error:
            self.losses.add(f"{path}.is_error")
        extra = self.losses.inner_extra("responses", self.request, result.extra, path)
        listed = [(part, self._piece(part, path, is_answer=False)) for part in result.parts]
        for part, piece in listed:
            if piece is None and not isinstance(part, Media):
                self.losses.add(f"{path}.{opaque_name(part) if isinstance(part, Opaque) else _kind(part)}")
        pieces = [piece for _, piece in listed if piece is not None]
        return {
            "type": "function_call_output",
            "call_id": result.call_id,
            **extra,
            "output": _shorten(pieces) if pieces else "",
        }

    def _piece(self, part: Part, path: str, *, is_answer: bool) -> dict[str, Any] | None:
        """Return a content piece, or None if `part` is an item of its own or cannot be said (then it is noted)."""
        written: dict[str, Any] | None = None
        if isinstance(part, Text):
            written = {"type": "output_text" if is_answer else "input_text", "text": part.text}
        elif isinstance(part, Refusal):
            written = {"type": "refusal", "refusal": part.text}
        elif isinstance(part, Media) and not is_answer:
            written = write_media(part)
        elif isinstance(part, Opaque) and part.dialect == "responses":
            kind = part.raw.get("type") if isinstance(part.raw, dict) else None
            if isinstance(kind, str) and kind.startswith(_PIECES):
                return dict(part.raw)
        if isinstance(part, Media) and written is None:
            self.losses.add(f"{path}.{part.kind}")
        if written is None:
            return None
        return {**written, **self.losses.inner_extra("responses", self.request, part.extra, path)}


def write_media(part: Media) -> dict[str, Any] | None:
    """Return the content piece for `part`, or None if a message cannot hold it."""
    if part.kind == "image":
        image: dict[str, Any] = {"type": "input_image"}
        if part.file_id is not None:
            image["file_id"] = part.file_id
        else:
            image["image_url"] = part.url or join_data_url(part.media_type, part.data or "")
        return image if part.detail is None else {**image, "detail": part.detail}
    if part.kind == "document":
        file: dict[str, Any] = {"type": "input_file"}
        if part.file_id is not None:
            file["file_id"] = part.file_id
        elif part.url is not None:
            file["file_url"] = part.url
        else:
            data = part.data or ""
            file["file_data"] = join_data_url(part.media_type, data) if part.media_type else data
            file["filename"] = part.name or "document.pdf"
            return file
        return file if part.name is None else {**file, "filename": part.name}
    if part.kind == "audio" and part.data is not None:
        name = (part.media_type or "audio/wav").partition("/")[2]
        name = "mp3" if name == "mpeg" else name
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": name}}
    return None


def _shorten(pieces: Sequence[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One plain text of a user is written as a string."""
    if len(pieces) == 1 and pieces[0].keys() == {"type", "text"} and pieces[0]["type"] == "input_text":
        return str(pieces[0]["text"])
    return list(pieces)


def _kind(part: Part) -> str:
    return part.kind if isinstance(part, Media) else type(part).__name__.lower()
