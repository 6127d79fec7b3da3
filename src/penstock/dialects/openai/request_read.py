"""A chat completion request, read into the hub format."""

from typing import Any, Literal

from penstock.base.errors import InvalidInput
from penstock.dialects.members import Members, decode_object, one_or_more
from penstock.dialects.openai.parts import read_content
from penstock.spec.hub import (
    HubRequest,
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
from penstock.spec.routes import DialectName

_ORIGINS: dict[str, DialectName] = {
    "responses": "responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "bedrock": "bedrock",
    "cohere": "cohere",
}

_CHOICES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",  # Mistral's word
}


def read_request(body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
    """Return the request; raises `InvalidInput` naming the member that is wrong."""
    members = decode_object(body)
    options = members.inner("stream_options")
    include_usage = options.flag("include_usage") if options else None
    old_max, new_max = members.integer("max_tokens"), members.integer("max_completion_tokens")
    named = members.text("model")
    said_stream = members.flag("stream")
    request = HubRequest(
        source="openai",
        model=model or named or "",
        messages=_read_messages(members),
        tools=[_read_tool(tool) for tool in members.inners("tools")],
        tool_choice=_read_tool_choice(members),
        parallel_tool_calls=members.flag("parallel_tool_calls"),
        max_tokens=old_max if new_max is None else new_max,
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        top_k=members.integer("top_k"),
        stop=one_or_more(members.take("stop"), "stop"),
        seed=members.integer("seed"),
        n=members.integer("n"),
        frequency_penalty=members.number("frequency_penalty"),
        presence_penalty=members.number("presence_penalty"),
        logprobs=members.flag("logprobs"),
        top_logprobs=members.integer("top_logprobs"),
        response_format=_read_format(members),
        reasoning=_read_reasoning(members),
        stream=bool(said_stream if stream is None else stream),
        stream_usage=include_usage is True,
        user=members.text("user"),
        metadata=read_metadata(members),
    )
    request.extra = members.rest()
    if options is not None and (others := options.rest()):
        request.extra["stream_options"] = others
    return request


def read_metadata(members: Members) -> dict[str, str]:
    """Return the texts of `metadata`; numbers and flags are written as JSON would."""
    found = members.table("metadata") or {}
    return {name: _as_text(value) for name, value in found.items() if value is not None}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _read_messages(members: Members) -> list[Message]:
    messages: list[Message] = []
    follows_result = False
    for item in members.inners("messages"):
        role = item.required("role")
        if role == "tool":
            result = _read_result(item)
            if follows_result:
                messages[-1].parts.append(result)
            else:
                messages.append(Message(role="user", parts=[result]))
        else:
            messages.append(_read_message(item, role))
        follows_result = role == "tool"
    return messages


def _read_message(item: Members, role: str) -> Message:
    if role == "assistant":
        parts = _read_assistant(item)
        return Message(role="assistant", parts=parts, name=item.text("name"), extra=item.rest())
    parts = read_content(item.take("content"), item.at("content"))
    if role in ("system", "developer"):
        return Message(role="system", parts=parts, name=item.text("name"), extra=item.rest())
    if role == "user":
        return Message(role="user", parts=parts, name=item.text("name"), extra=item.rest())
    raise InvalidInput(
        f"`{item.at('role')}` is {role!r}, which cannot be said to another kind of provider.",
        hint="Use system, developer, user, assistant or tool.",
        param=item.at("role"),
    )


def _read_assistant(item: Members) -> list[Part]:
    thoughts = read_thoughts(item)
    parts = read_content(item.take("content"), item.at("content"))
    if refusal := item.text("refusal"):
        parts.append(Refusal(text=refusal))
    return [*thoughts, *parts, *read_tool_calls(item)]


def read_thoughts(item: Members) -> list[Part]:
    """Return earlier thoughts of an assistant message.

    `thinking_blocks` is where replies of ours carry signatures that a provider wants back; else the text stands in
    `reasoning_content` or `reasoning`.
    """
    blocks = item.inners("thinking_blocks")
    texts = [item.peek(name) for name in ("reasoning_content", "reasoning")]
    for name in ("reasoning_content", "reasoning"):
        if isinstance(item.peek(name), str):
            item.take(name)
    if blocks:
        return [_read_block(block) for block in blocks]
    text = next((text for text in texts if isinstance(text, str) and text), None)
    return [] if text is None else [Thinking(text=text, origin="openai")]


def _read_block(block: Members) -> Thinking:
    origin = _ORIGINS.get(block.text("origin") or "", "anthropic")
    if block.text("type") == "redacted_thinking":
        return Thinking(sealed=block.text("data"), id=block.text("id"), origin=origin)
    return Thinking(
        text=block.text("thinking"),
        signature=block.text("signature"),
        sealed=block.text("data"),
        id=block.text("id"),
        origin=origin,
    )


def read_tool_calls(item: Members) -> list[Part]:
    """Return the calls of `tool_calls`, in order; a call that is no function's is kept as it was."""
    parts: list[Part] = []
    for index, raw in enumerate(item.listed("tool_calls")):
        call = Members(raw, f"{item.at('tool_calls')}[{index}]")
        call.take("index")
        function = call.inner("function")
        if (call.text("type") or "function") != "function" or function is None:
            parts.append(Opaque(dialect="openai", raw=raw))
            continue
        name, arguments = function.required("name"), function.text("arguments") or ""
        found = ToolCall(id=call.text("id") or f"call_{index}", name=name, arguments=arguments)
        found.signature = _take_signature(call)
        found.extra = call.rest()
        parts.append(found)
    return parts


def _take_signature(call: Members) -> str | None:
    """Gemini's own OpenAI endpoint carries the signature of a call in this place."""
    held = call.peek("extra_content")
    google = held.get("google") if isinstance(held, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if not isinstance(signature, str):
        return None
    if held == {"google": {"thought_signature": signature}}:
        call.take("extra_content")
    return signature


def _read_result(item: Members) -> ToolResult:
    return ToolResult(
        call_id=item.required("tool_call_id"),
        name=item.text("name"),
        parts=read_content(item.take("content"), item.at("content")),
        extra=item.rest(),
    )


def _read_tool(tool: Members) -> Tool:
    function = tool.inner("function")
    kind = tool.text("type")
    if kind in (None, "function") and function is not None:
        return Tool(
            name=function.required("name"),
            description=function.text("description"),
            parameters=function.table("parameters"),
            strict=function.flag("strict"),
            extra={**tool.rest(), **function.rest()},
        )
    raw: dict[str, Any] = {"type": kind, **tool.rest()}
    named = raw.get(str(kind))
    name = named.get("name") if isinstance(named, dict) else None
    return Tool(name=str(name or kind), builtin=Opaque(dialect="openai", raw=raw))


def _read_tool_choice(members: Members) -> ToolChoice | None:
    choice = members.peek("tool_choice")
    if isinstance(choice, str) and (kind := _CHOICES.get(choice)) is not None:
        members.take("tool_choice")
        return ToolChoice(kind=kind)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str):
        members.take("tool_choice")
        return ToolChoice(kind="named", name=name)
    return None  # `allowed_tools` and custom tools stay in `extra`


def _read_format(members: Members) -> ResponseFormat | None:
    found = members.peek("response_format")
    kind = found.get("type") if isinstance(found, dict) else None
    if kind == "json_schema":
        inner = members.inner("response_format")
        schema = inner.inner("json_schema") if inner is not None else None
        if schema is None:
            raise InvalidInput(
                "`response_format.json_schema` is missing.", param="response_format.json_schema"
            )
        return ResponseFormat(
            kind="schema",
            name=schema.text("name"),
            schema=schema.table("schema"),
            strict=schema.flag("strict"),
            description=schema.text("description"),
        )
    if kind in ("text", "json_object"):
        members.take("response_format")
        return ResponseFormat(kind="text" if kind == "text" else "json")
    return None


def _read_reasoning(members: Members) -> Reasoning | None:
    """`reasoning_effort` is OpenAI's, `reasoning` OpenRouter's."""
    effort = members.text("reasoning_effort")
    inner = members.inner("reasoning")
    if inner is None:
        return None if effort is None else Reasoning(effort=effort)
    exclude = inner.flag("exclude")
    return Reasoning(
        enabled=inner.flag("enabled"),
        effort=inner.text("effort") or effort,
        budget_tokens=inner.integer("max_tokens"),
        include_text=None if exclude is None else not exclude,
    )


def joined_text(parts: list[Part]) -> str:
    """Return the texts of `parts` as one, nothing between them."""
    return "".join(part.text for part in parts if isinstance(part, Text))
