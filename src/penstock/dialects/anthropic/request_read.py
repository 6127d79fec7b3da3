"""A client's `/v1/messages` request, read into the hub format. Also serves `/v1/messages/count_tokens`."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.anthropic.blocks import read_content
from penstock.dialects.bodies import decode_head, need_model
from penstock.dialects.members import Members, decode_object, one_or_more, wrong
from penstock.dialects.port import Envelope
from penstock.spec.hub import (
    HubRequest,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Role,
    Tool,
    ToolChoice,
)

DECIDING = ("model", "stream")
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Head(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    metadata: _Metadata | None = None
    messages: list[msgspec.Raw] | None = None
    tools: list[msgspec.Raw] | None = None


_head = msgspec.json.Decoder(_Head)


def peek(body: bytes, *, model: str | None, stream: bool | None, max_depth: int) -> Envelope:
    """Return what decides about a request. A stream of this dialect always tells its usage."""
    head = decode_head(_head, body, max_depth=max_depth, deciding=DECIDING)
    return Envelope(
        model=need_model(model if model is not None else head.model),
        stream=bool(head.stream if stream is None else stream),
        wants_usage=True,
        max_tokens=head.max_tokens,
        user=head.metadata.user_id if head.metadata else None,
        n_messages=len(head.messages) if head.messages is not None else None,
        has_tools=bool(head.tools),
    )


def read_request(body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
    """Return the request; raises `InvalidInput` naming the member that is wrong."""
    top = decode_object(body)
    said_model, said_stream = top.text("model"), top.flag("stream")
    request = HubRequest(
        source="anthropic",
        model=need_model(model if model is not None else said_model),
        messages=_read_messages(top),
        max_tokens=top.integer("max_tokens"),
        temperature=top.number("temperature"),
        top_p=top.number("top_p"),
        top_k=top.integer("top_k"),
        stop=one_or_more(top.take("stop_sequences"), "stop_sequences"),
        stream=bool(said_stream if stream is None else stream),
        stream_usage=True,
        tools=[_read_tool(tool) for tool in top.inners("tools")],
    )
    _read_tool_choice(request, top.inner("tool_choice"))
    _read_output(request, top)
    _read_thinking(request, top.inner("thinking"))
    metadata = top.inner("metadata")
    if metadata is not None:
        request.user = metadata.text("user_id")
        if rest := metadata.rest():
            request.extra["metadata"] = rest
    request.extra = {**request.extra, **top.rest()}
    return request


def _read_messages(top: Members) -> list[Message]:
    messages: list[Message] = []
    system = read_content(top.take("system"), "system")
    if system:
        messages.append(Message(role="system", parts=system))
    listed = top.inners("messages")
    if not listed:
        raise InvalidInput("`messages` is missing or empty.", param="messages")
    for item in listed:
        role = _ROLES.get(item.required("role"))
        if role is None:
            raise wrong(item.at("role"), "`user` or `assistant`", None)
        parts = read_content(item.take("content"), item.at("content"))
        messages.append(Message(role=role, parts=parts, extra=item.rest()))
    return messages


def _read_tool(tool: Members) -> Tool:
    kind = tool.peek("type")
    if kind is not None and kind != "custom":
        raw = tool.rest()
        name = raw.get("name")
        return Tool(
            name=name if isinstance(name, str) else str(kind), builtin=Opaque(dialect="anthropic", raw=raw)
        )
    tool.take("type")
    return Tool(
        name=tool.required("name"),
        description=tool.text("description"),
        parameters=tool.table("input_schema"),
        strict=tool.flag("strict"),
        extra=tool.rest(),
    )


def _read_tool_choice(request: HubRequest, choice: Members | None) -> None:
    if choice is None:
        return
    kind = choice.required("type")
    alone = choice.flag("disable_parallel_tool_use")
    if alone is not None:
        request.parallel_tool_calls = not alone
    if kind == "tool":
        request.tool_choice = ToolChoice(kind="named", name=choice.required("name"))
    elif kind == "any":
        request.tool_choice = ToolChoice(kind="required")
    elif kind in ("auto", "none"):
        request.tool_choice = ToolChoice(kind="auto" if kind == "auto" else "none")
    else:
        raise wrong(choice.at("type"), "`auto`, `any`, `tool` or `none`", None)
    if rest := choice.rest():
        request.extra["tool_choice"] = rest


def _read_output(request: HubRequest, top: Members) -> None:
    """Take `output_config`, and `output_format` as it was called before."""
    config = top.inner("output_config")
    wanted = top.inner("output_format")
    if config is not None:
        effort = config.text("effort")
        if effort is not None:
            request.reasoning = Reasoning(effort=effort)
        wanted = config.inner("format") or wanted
        if rest := config.rest():
            request.extra["output_config"] = rest
    if wanted is not None:
        if wanted.required("type") != "json_schema":
            raise wrong(wanted.at("type"), "`json_schema`", None)
        request.response_format = ResponseFormat(kind="schema", schema=wanted.table("schema"))


def _read_thinking(request: HubRequest, thinking: Members | None) -> None:
    if thinking is None:
        return
    kind = thinking.required("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        request.extra["thinking"] = {"type": kind, **thinking.rest()}  # a mode that only Anthropic knows
        return
    reasoning = request.reasoning or Reasoning()
    reasoning.enabled = kind != "disabled"
    reasoning.budget_tokens = thinking.integer("budget_tokens")
    display: Any = thinking.text("display")
    if display in ("summarized", "omitted"):
        reasoning.include_text = display == "summarized"
    request.reasoning = reasoning
    if rest := thinking.rest():
        request.extra["thinking"] = rest
