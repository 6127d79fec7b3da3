"""A request of the responses API, read into the hub format."""

from typing import Any, Literal

from penstock.base.errors import InvalidInput
from penstock.dialects.members import Members, decode_object, wrong
from penstock.dialects.openai.request_read import read_metadata
from penstock.dialects.responses.items_read import read_content, read_items
from penstock.spec.hub import (
    HubRequest,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
)

LOGPROBS = "message.output_text.logprobs"
_CHOICES: dict[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
}


def read_request(body: bytes, *, model: str | None, stream: bool | None) -> HubRequest:
    """Return the request; raises `InvalidInput` naming the member that is wrong."""
    members = decode_object(body)
    named, said_stream = members.text("model"), members.flag("stream")
    includes = members.listed("include")
    response_format = _read_format(members)
    reasoning = _read_reasoning(members)
    request = HubRequest(
        source="responses",
        model=model or named or "",
        messages=_read_messages(members),
        tools=[_read_tool(tool) for tool in members.inners("tools")],
        tool_choice=_read_tool_choice(members),
        parallel_tool_calls=members.flag("parallel_tool_calls"),
        max_tokens=members.integer("max_output_tokens"),
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        logprobs=True if LOGPROBS in includes else None,
        top_logprobs=members.integer("top_logprobs"),
        response_format=response_format,
        reasoning=reasoning,
        stream=bool(said_stream if stream is None else stream),
        stream_usage=True,
        user=members.text("user"),
        metadata=read_metadata(members),
    )
    request.extra = members.rest()
    if kept := [one for one in includes if one != LOGPROBS]:
        request.extra["include"] = kept
    return request


def _read_messages(members: Members) -> list[Message]:
    messages: list[Message] = []
    instructions = members.text("instructions")
    if instructions:
        messages.append(Message(role="system", parts=[Text(text=instructions)]))
    said = members.take("input")
    if isinstance(said, str):
        return [*messages, Message(role="user", parts=read_content(said, "input"))]
    if said is not None and not isinstance(said, list):
        raise wrong("input", "a string or a list of items", said)
    return [*messages, *read_items(said or [], "input")]


def _read_tool(tool: Members) -> Tool:
    kind = tool.required("type")
    if kind == "function":
        return Tool(
            name=tool.required("name"),
            description=tool.text("description"),
            parameters=tool.table("parameters"),
            strict=tool.flag("strict"),
            extra=tool.rest(),
        )
    raw: dict[str, Any] = {"type": kind, **tool.rest()}
    return Tool(name=str(raw.get("name") or kind), builtin=Opaque(dialect="responses", raw=raw))


def _read_tool_choice(members: Members) -> ToolChoice | None:
    choice = members.peek("tool_choice")
    if isinstance(choice, str) and (kind := _CHOICES.get(choice)) is not None:
        members.take("tool_choice")
        return ToolChoice(kind=kind)
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str):
        members.take("tool_choice")
        return ToolChoice(kind="named", name=choice["name"])
    return None  # built-in tools stay in `extra`


def _read_format(members: Members) -> ResponseFormat | None:
    text = members.peek("text")
    if not isinstance(text, dict) or not isinstance(text.get("format"), dict):
        return None
    inner = members.inner("text")
    found = inner.inner("format") if inner is not None else None
    if inner is None or found is None:
        return None
    if rest := inner.rest():
        members.put("text", rest)
    kind = found.required("type")
    if kind == "json_schema":
        return ResponseFormat(
            kind="schema",
            name=found.text("name"),
            schema=found.table("schema"),
            strict=found.flag("strict"),
            description=found.text("description"),
        )
    if kind not in ("text", "json_object"):
        raise InvalidInput(f"`text.format.type` is {kind!r}.", param="text.format.type")
    return ResponseFormat(kind="text" if kind == "text" else "json")


def _read_reasoning(members: Members) -> Reasoning | None:
    inner = members.inner("reasoning")
    if inner is None:
        return None
    summary = inner.text("summary") or inner.text("generate_summary")
    if summary not in (None, "auto"):
        members.put("reasoning", {"summary": summary})
    return Reasoning(effort=inner.text("effort"), include_text=None if summary is None else True)
