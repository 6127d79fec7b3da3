"""A request of the hub format, written as a chat completion request for one server with its quirks."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.dialects.losses import Losses
from penstock.dialects.openai.models import is_plain, is_reasoning, refuses_stop
from penstock.dialects.openai.parts import write_media
from penstock.dialects.port import WrittenRequest
from penstock.dialects.quirks import find_reasoning_field
from penstock.spec.hub import (
    HubRequest,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

SHARED_EXTRA = (
    "service_tier",
    "store",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
)
"""Members that OpenAI's two dialects have in common beside what the hub names."""

PROMPT_EXTRA = ("prompt_variables", "prompt_model")
"""Members that a prompt takes when it is asked as a model, whatever the caller's dialect."""


def write_request(request: HubRequest, *, model: str, quirks: frozenset[str]) -> WrittenRequest:
    """Return the request for a server that calls its model `model`."""
    writer = _Writer(request, model, quirks)
    return WrittenRequest(
        path="/chat/completions",
        body=msgspec.json.encode(writer.write()),
        dropped=writer.losses.listed(),
    )


class _Writer:
    def __init__(self, request: HubRequest, model: str, quirks: frozenset[str]) -> None:
        self.request = request
        self.model = model
        self.quirks = quirks
        self.losses = Losses()
        self.is_same = request.source == "openai"

    def write(self) -> dict[str, Any]:
        request = self.request
        body: dict[str, Any] = {"model": self.model, "messages": self._messages()}
        self._tools(body)
        self._sampling(body)
        if request.response_format is not None:
            self._format(body, request.response_format)
        if request.reasoning is not None:
            self._reasoning(body, request.reasoning)
        if request.stream:
            body["stream"] = True
            if "no_stream_usage" not in self.quirks:
                body["stream_options"] = {"include_usage": True}
        self._put(body, "user", request.user, refused_by="no_user")
        self._put(body, "metadata", request.metadata or None, refused_by="no_metadata")
        self._extra(body)
        return body

    def _put(self, body: dict[str, Any], name: str, value: object, *, refused_by: str) -> None:
        if value is None:
            return
        if refused_by in self.quirks:
            self.losses.add(name)
        else:
            body[name] = value

    def _extra(self, body: dict[str, Any]) -> None:
        kept = (*SHARED_EXTRA, "text") if self.request.source == "responses" else ()
        if self.model.startswith("prompt:"):
            kept = (*kept, *PROMPT_EXTRA)
        extra = self.losses.unless_from("openai", self.request, kept)
        if self.request.source == "responses" and isinstance(text := extra.pop("text", None), dict):
            extra["verbosity"] = text.get("verbosity")
            self.losses.add_all(f"text.{name}" for name in text if name != "verbosity")
        if "no_metadata" in self.quirks:
            extra.pop("store", None)
        options = extra.pop("stream_options", None)
        if isinstance(options, dict) and isinstance(kept_options := body.get("stream_options"), dict):
            body["stream_options"] = {**options, **kept_options}
        for name, value in extra.items():
            if value is not None:
                body.setdefault(name, value)

    # -- sampling

    def _sampling(self, body: dict[str, Any]) -> None:
        request = self.request
        thinks = is_reasoning(self.model)
        if request.max_tokens is not None:
            wants_new = "max_tokens" not in self.quirks and (thinks or "max_completion_tokens" in self.quirks)
            body["max_completion_tokens" if wants_new else "max_tokens"] = request.max_tokens
        effort = request.reasoning.effort if request.reasoning is not None else None
        is_fixed = thinks and effort != "none"
        fixed = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "frequency_penalty": None if "no_penalties" in self.quirks else request.frequency_penalty,
            "presence_penalty": None if "no_penalties" in self.quirks else request.presence_penalty,
            "logprobs": None if "no_logprobs" in self.quirks else request.logprobs,
            "top_logprobs": None if "no_logprobs" in self.quirks else request.top_logprobs,
        }
        for name, value in fixed.items():
            if value is not None and not is_fixed:
                body[name] = value
            elif is_fixed or value is None:
                self._note_sampling(name)
        if request.stop:
            self._stop(body, request.stop)
        if request.seed is not None:
            seed = "random_seed" if "random_seed" in self.quirks else "seed"
            self._put(body, seed, request.seed, refused_by="no_seed")
        if request.top_k is not None:
            if "top_k" in self.quirks or self.is_same:
                body["top_k"] = request.top_k
            else:
                self.losses.add("top_k")
        if request.n is not None and not (request.n == 1 and "no_n" in self.quirks):
            self._put(body, "n", request.n, refused_by="no_n")

    def _note_sampling(self, name: str) -> None:
        """Note a sampling member that was said, unless its value is the one the model has anyway."""
        value = getattr(self.request, name)
        usual = {
            "temperature": 1,
            "top_p": 1,
            "frequency_penalty": 0,
            "presence_penalty": 0,
            "logprobs": False,
        }
        if value is not None and value != usual.get(name):
            self.losses.add(name)

    def _stop(self, body: dict[str, Any], stop: list[str]) -> None:
        if refuses_stop(self.model):
            self.losses.add("stop")
            return
        if len(stop) > 4 and not self.is_same:
            self.losses.add_all(f"stop[{index}]" for index in range(4, len(stop)))
            stop = stop[:4]
        body["stop"] = stop

    def _reasoning(self, body: dict[str, Any], reasoning: Reasoning) -> None:
        effort = reasoning.effort
        if effort is None and reasoning.budget_tokens is not None:
            effort = effort_of_budget(reasoning.budget_tokens)
            self.losses.add("reasoning.budget_tokens")
        if effort is not None:
            if "no_reasoning_effort" in self.quirks or is_plain(self.model):
                self.losses.add("reasoning.effort")
            else:
                body["reasoning_effort"] = effort
        elif reasoning.enabled is not None and not (reasoning.enabled and is_reasoning(self.model)):
            self.losses.add("reasoning.enabled")
        if reasoning.include_text:
            self.losses.add("reasoning.include_text")

    def _format(self, body: dict[str, Any], wanted: ResponseFormat) -> None:
        if wanted.kind == "schema" and "no_json_schema" not in self.quirks:
            schema = {
                "name": wanted.name or "response",
                "description": wanted.description,
                "schema": wanted.schema,
                "strict": wanted.strict,
            }
            said = {name: value for name, value in schema.items() if value is not None}
            body["response_format"] = {"type": "json_schema", "json_schema": said}
            return
        if wanted.kind == "schema":
            self.losses.add("response_format.schema")
        body["response_format"] = {"type": "text" if wanted.kind == "text" else "json_object"}

    # -- tools

    def _tools(self, body: dict[str, Any]) -> None:
        request = self.request
        tools = [
            written
            for index, tool in enumerate(request.tools)
            if (written := self._tool(tool, f"tools[{index}]"))
        ]
        if tools:
            body["tools"] = tools
        if request.tool_choice is not None:
            if tools:
                body["tool_choice"] = self._tool_choice(request.tool_choice)
            elif request.tool_choice.kind not in ("none", "auto"):
                self.losses.add("tool_choice")
        if request.parallel_tool_calls is not None and tools:
            self._put(
                body, "parallel_tool_calls", request.parallel_tool_calls, refused_by="no_parallel_tools"
            )

    def _tool(self, tool: Tool, path: str) -> dict[str, Any] | None:
        if tool.builtin is not None:
            if tool.builtin.dialect == "openai" and isinstance(tool.builtin.raw, dict):
                return tool.builtin.raw
            self.losses.add(f"{path}.builtin")
            return None
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.parameters is not None:
            function["parameters"] = tool.parameters
        if tool.strict is not None:
            if "no_strict_tools" not in self.quirks:
                function["strict"] = tool.strict
            elif tool.strict:
                self.losses.add(f"{path}.strict")
        extra = self.losses.inner_extra("openai", self.request, tool.extra, path)
        return {"type": "function", "function": function, **extra}

    def _tool_choice(self, choice: ToolChoice) -> Any:
        required = "any" if "tool_choice_any" in self.quirks else "required"
        if choice.kind == "named":
            if "no_named_tool_choice" in self.quirks:
                self.losses.add("tool_choice.name")
                return required
            return {"type": "function", "function": {"name": choice.name}}
        return required if choice.kind == "required" else choice.kind

    # -- messages

    def _messages(self) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for index, message in enumerate(self.request.messages):
            path = f"messages[{index}]"
            if message.role == "assistant":
                written.append(self._assistant(message, path))
            else:
                written += self._other(message, path)
        return written

    def _base(self, role: str, message: Message, path: str) -> dict[str, Any]:
        base: dict[str, Any] = {"role": role}
        if message.name is not None:
            base["name"] = message.name
        return {**base, **self.losses.inner_extra("openai", self.request, message.extra, path)}

    def _other(self, message: Message, path: str) -> list[dict[str, Any]]:
        """Tool results come first, each as its own message; media they hold follow in a user message, because a tool
        message takes text only."""
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        rest = [part for part in message.parts if not isinstance(part, ToolResult)]
        written = [self._result(result, path) for result in results]
        moved = [part for result in results for part in result.parts if isinstance(part, Media)]
        if moved and (pieces := self._pieces(moved, path)):
            written.append({"role": "user", "content": pieces})
        if rest or not results:
            base = self._base(message.role, message, path)
            written.append({**base, "content": self._content(rest, path)})
        return written

    def _result(self, result: ToolResult, path: str) -> dict[str, Any]:
        if result.is_error:
            self.losses.add(f"{path}.tool_result.is_error")
        said = [part for part in result.parts if not isinstance(part, Media)]
        extra = self.losses.inner_extra("openai", self.request, result.extra, f"{path}.tool_result")
        content = self._content(said, f"{path}.tool_result")
        return {"role": "tool", "tool_call_id": result.call_id, **extra, "content": content}

    def _assistant(self, message: Message, path: str) -> dict[str, Any]:
        base = self._base("assistant", message, path)
        texts = [part for part in message.parts if isinstance(part, Text) or self._may_answer(part, path)]
        base["content"] = self._content(texts, path) if texts else None
        refusals = [part.text for part in message.parts if isinstance(part, Refusal)]
        if refusals:
            base["refusal"] = "".join(refusals)
        self._thoughts(base, [part for part in message.parts if isinstance(part, Thinking)], path)
        calls: list[Any] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(self._call(part, path))
            elif isinstance(part, Opaque):
                if part.dialect == "openai":
                    calls.append(part.raw)
                else:
                    self.losses.add(f"{path}.{opaque_name(part)}")
        if calls:
            base["tool_calls"] = calls
        elif base["content"] is None and "refusal" not in base:
            base["content"] = ""
        return base

    def _may_answer(self, part: Part, path: str) -> bool:
        """Return whether `part` is a medium that an assistant's message may hold."""
        if not isinstance(part, Media):
            return False
        if not self.is_same:
            self.losses.add(f"{path}.{part.kind}")
        return self.is_same

    def _thoughts(self, base: dict[str, Any], thoughts: list[Thinking], path: str) -> None:
        if not thoughts:
            return
        field = find_reasoning_field(self.quirks) or ("reasoning_content" if self.is_same else None)
        text = "".join(thought.text or "" for thought in thoughts)
        if field is None:
            self.losses.add(f"{path}.thinking")
        elif text:
            base[field] = text
        if any(thought.signature or thought.sealed for thought in thoughts):
            if self.is_same:
                base["thinking_blocks"] = [write_block(thought) for thought in thoughts]
            else:
                self.losses.add(f"{path}.thinking.signature")

    def _call(self, call: ToolCall, path: str) -> dict[str, Any]:
        extra = self.losses.inner_extra("openai", self.request, call.extra, f"{path}.tool_calls")
        if call.signature is not None and not self.is_same:
            self.losses.add(f"{path}.tool_calls.signature")
            call = msgspec.structs.replace(call, signature=None)
        return {**write_call(call), **extra}

    def _content(self, parts: Sequence[Part], path: str) -> Any:
        """One text is written as a string, anything more as a list of pieces."""
        pieces = self._pieces(parts, path)
        if all(piece.keys() == {"type", "text"} for piece in pieces) and len(pieces) <= 1:
            return pieces[0]["text"] if pieces else ""
        if "string_content" in self.quirks:
            if any(piece["type"] != "text" for piece in pieces):
                self.losses.add(f"{path}.media")
            return "\n\n".join(piece["text"] for piece in pieces if piece["type"] == "text")
        return pieces

    def _pieces(self, parts: Sequence[Part], path: str) -> list[dict[str, Any]]:
        pieces: list[dict[str, Any]] = []
        for part in parts:
            written: dict[str, Any] | None = None
            if isinstance(part, Text):
                written = {"type": "text", "text": part.text}
            elif isinstance(part, Media):
                written = write_media(part, can_video=self.is_same or "video_url" in self.quirks)
                if written is None:
                    self.losses.add(f"{path}.{part.kind}")
            elif isinstance(part, Refusal):
                written = {"type": "refusal", "refusal": part.text}
            elif isinstance(part, Opaque) and part.dialect == "openai":
                written = part.raw
            elif isinstance(part, Opaque):
                self.losses.add(f"{path}.{opaque_name(part)}")
            elif isinstance(part, Thinking | ToolCall):
                self.losses.add(f"{path}.{'thinking' if isinstance(part, Thinking) else 'tool_calls'}")
            if written is not None:
                extra = self.losses.inner_extra("openai", self.request, part.extra, path)
                pieces.append({**written, **extra})
        return pieces


def write_call(call: ToolCall) -> dict[str, Any]:
    """Return a tool call as it stands in a message. Clients and servers parse arguments, so none is `{}`."""
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    written: dict[str, Any] = {"id": call.id, "type": "function", "function": function}
    if call.signature is not None:
        written["extra_content"] = {"google": {"thought_signature": call.signature}}
    return written


def write_block(thought: Thinking) -> dict[str, Any]:
    """Return a `thinking_blocks` entry, from which `read_request` gets the same part again."""
    sealed_only = thought.text is None and thought.signature is None
    said = {
        "type": "redacted_thinking" if sealed_only else "thinking",
        "thinking": thought.text,
        "signature": thought.signature,
        "data": thought.sealed,
        "id": thought.id,
        "origin": thought.origin if thought.origin != "anthropic" else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def effort_of_budget(budget_tokens: int) -> str:
    """Return the effort that comes nearest to a budget of thinking tokens."""
    return "low" if budget_tokens <= 2048 else "medium" if budget_tokens <= 8192 else "high"


def opaque_name(part: Opaque) -> str:
    """Return what to call a part that cannot be said: its own type, or `opaque`."""
    kind = part.raw.get("type") if isinstance(part.raw, dict) else None
    return kind if isinstance(kind, str) else "opaque"
