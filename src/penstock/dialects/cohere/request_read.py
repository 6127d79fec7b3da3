"""A client's `/v2/chat` request, read into the hub format."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.bodies import decode_head, need_model
from penstock.dialects.cohere.content import read_assistant, read_content
from penstock.dialects.members import Members, decode_object, one_or_more, wrong
from penstock.dialects.port import Envelope
from penstock.spec.hub import (
    HubRequest,
    Message,
    Reasoning,
    ResponseFormat,
    Tool,
    ToolChoice,
    ToolResult,
)

_DECIDING = ("model", "stream")


class _Head(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    messages: list[msgspec.Raw] | None = None
    tools: list[msgspec.Raw] | None = None


_head = msgspec.json.Decoder(_Head)


def peek(body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
    """Return what decides about a request. A stream of this dialect always tells its usage."""
    head = decode_head(_head, body, max_depth=max_depth, deciding=_DECIDING)
    return Envelope(
        model=need_model(model if model is not None else head.model),
        stream=bool(head.stream if stream is None else stream),
        wants_usage=True,
        max_tokens=head.max_tokens,
        n_messages=len(head.messages) if head.messages is not None else None,
        has_tools=bool(head.tools),
    )


def read_request(body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
    """Return the request; raises `InvalidInput` naming the member that is wrong."""
    top = decode_object(body)
    said_model, said_stream = top.text("model"), top.flag("stream")
    strict = top.flag("strict_tools")
    request = HubRequest(
        source="cohere",
        model=need_model(model if model is not None else said_model),
        messages=_read_messages(top.inners("messages")),
        tools=[_read_tool(tool, strict) for tool in top.inners("tools")],
        tool_choice=_read_tool_choice(top),
        max_tokens=top.integer("max_tokens"),
        temperature=top.number("temperature"),
        top_p=top.number("p"),
        top_k=top.integer("k"),
        stop=one_or_more(top.take("stop_sequences"), "stop_sequences"),
        seed=top.integer("seed"),
        frequency_penalty=top.number("frequency_penalty"),
        presence_penalty=top.number("presence_penalty"),
        logprobs=top.flag("logprobs"),
        stream=bool(said_stream if stream is None else stream),
        stream_usage=True,
    )
    request.response_format, more_format = _read_format(top.inner("response_format"))
    request.reasoning, more_thinking = _read_thinking(top.inner("thinking"))
    more = {"response_format": more_format, "thinking": more_thinking}
    request.extra = {**top.rest(), **{name: rest for name, rest in more.items() if rest}}
    return request


def _read_messages(listed: list[Members]) -> list[Message]:
    if not listed:
        raise InvalidInput("`messages` is missing or empty.", param="messages")
    messages: list[Message] = []
    follows_result = False
    for item in listed:
        role = item.required("role")
        if role == "tool":
            result = _read_result(item)
            if follows_result:  # results of one turn stand together
                messages[-1].parts.append(result)
            else:
                messages.append(Message(role="user", parts=[result]))
        elif role == "assistant":
            messages.append(Message(role="assistant", parts=read_assistant(item), extra=item.rest()))
        elif role in ("system", "user"):
            parts = read_content(item.take("content"), item.at("content"))
            messages.append(
                Message(role="system" if role == "system" else "user", parts=parts, extra=item.rest())
            )
        else:
            raise wrong(item.at("role"), "`system`, `user`, `assistant` or `tool`", None)
        follows_result = role == "tool"
    return messages


def _read_result(item: Members) -> ToolResult:
    number = item.required("tool_call_id")
    parts = read_content(item.take("content"), item.at("content"))
    return ToolResult(call_id=number, parts=parts, extra=item.rest())


def _read_tool(tool: Members, strict: bool | None) -> Tool:
    tool.take("type")
    function = tool.inner("function")
    if function is None:
        raise wrong(tool.at("function"), "an object", None)
    read = Tool(
        name=function.required("name"),
        description=function.text("description"),
        parameters=function.table("parameters"),
        strict=strict,
        extra=tool.rest(),
    )
    if rest := function.rest():
        read.extra["function"] = rest
    return read


def _read_tool_choice(top: Members) -> ToolChoice | None:
    said = top.text("tool_choice")
    if said is None:
        return None
    if said not in ("REQUIRED", "NONE"):
        raise wrong("tool_choice", "`REQUIRED` or `NONE`", None)
    return ToolChoice(kind="required" if said == "REQUIRED" else "none")


def _read_format(wanted: Members | None) -> tuple[ResponseFormat | None, dict[str, Any]]:
    """Return the format, and what else is said of it."""
    if wanted is None:
        return None, {}
    kind = wanted.required("type")
    if kind not in ("text", "json_object"):
        raise wrong(wanted.at("type"), "`text` or `json_object`", None)
    if kind == "text":
        return ResponseFormat(kind="text"), wanted.rest()
    older = wanted.table("schema")
    schema = wanted.table("json_schema") or older
    return ResponseFormat(kind="json" if schema is None else "schema", schema=schema), wanted.rest()


def _read_thinking(thinking: Members | None) -> tuple[Reasoning | None, dict[str, Any]]:
    """Return what is asked of thinking, and what else is said of it."""
    if thinking is None:
        return None, {}
    kind = thinking.text("type")
    if kind not in (None, "enabled", "disabled"):
        raise wrong(thinking.at("type"), "`enabled` or `disabled`", None)
    enabled = None if kind is None else kind == "enabled"
    return Reasoning(enabled=enabled, budget_tokens=thinking.integer("token_budget")), thinking.rest()
