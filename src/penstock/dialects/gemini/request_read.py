"""From a generateContent request to the hub."""

from typing import Any

from penstock.base.errors import InvalidInput
from penstock.dialects.gemini.members import proto, proto_inner, proto_list
from penstock.dialects.gemini.parts import CallIds, read_part
from penstock.dialects.members import Members, decode_object, wrong
from penstock.dialects.schemas import raise_schema
from penstock.spec.hub import (
    HubRequest,
    Message,
    Opaque,
    Part,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolChoice,
)

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "user", "tool": "user"}


def read_request(body: bytes, *, model: str, stream: bool) -> HubRequest:
    """Return the request in `body`; raises `InvalidInput` naming what is wrong."""
    members = proto(decode_object(body).rest(), "")
    members.take("model")
    messages = _system(members)
    ids = CallIds()
    contents = members.take("contents")
    if not isinstance(contents, list | dict | str) or not contents:
        raise InvalidInput("`contents` is missing.", param="contents")
    for index, content in enumerate(contents if isinstance(contents, list) else [contents]):
        messages.append(_message(content, f"contents[{index}]", ids))
    request = HubRequest(
        source="gemini",
        model=model,
        messages=messages,
        tools=_tools(members),
        stream=stream,
        stream_usage=True,
    )
    _tool_config(members, request)
    config = proto_inner(members, "generationConfig")
    if config is not None and (kept := _generation(config, request)):
        request.extra["generationConfig"] = kept
    request.extra |= members.rest()
    return request


def _system(members: Members) -> list[Message]:
    value = members.take("systemInstruction")
    if value is None:
        return []
    if isinstance(value, str):
        return [Message(role="system", parts=[Text(text=value)])]
    message = _message(value, "systemInstruction", CallIds())
    message.role = "system"
    return [message]


def _message(value: Any, path: str, ids: CallIds) -> Message:
    if isinstance(value, str):
        return Message(role="user", parts=[Text(text=value)])
    members = proto(value, path)
    said = members.text("role") or "user"
    role = _ROLES.get(said)
    if role is None and path != "systemInstruction":
        raise InvalidInput(f"`{members.at('role')}` must be `user` or `model`.", param=members.at("role"))
    parts: list[Part] = []
    raw = members.take("parts") if isinstance(members.peek("parts"), dict) else members.listed("parts")
    for index, item in enumerate([raw] if isinstance(raw, dict) else raw):
        place = f"{members.at('parts')}[{index}]"
        if isinstance(item, str):
            parts.append(Text(text=item))
        elif (part := read_part(item, place, ids)) is not None:
            parts.append(part)
    return Message(role=role or "system", parts=parts, extra=members.rest())


def _tools(members: Members) -> list[Tool]:
    tools: list[Tool] = []
    for entry in proto_list(members, "tools"):
        for function in proto_list(entry, "functionDeclarations"):
            schema = function.table("parametersJsonSchema")
            lowered = function.table("parameters")
            tools.append(
                Tool(
                    name=function.required("name"),
                    description=function.text("description"),
                    parameters=schema if schema is not None or lowered is None else raise_schema(lowered),
                    extra=function.rest(),
                )
            )
        tools += [
            Tool(name=name, builtin=Opaque(dialect="gemini", raw={name: value}))
            for name, value in entry.rest().items()
        ]
    return tools


def _tool_config(members: Members, request: HubRequest) -> None:
    config = proto_inner(members, "toolConfig")
    if config is None:
        return
    calling = proto_inner(config, "functionCallingConfig")
    if calling is not None:
        mode = (calling.text("mode") or "AUTO").upper()
        allowed = calling.listed("allowedFunctionNames")
        kept: dict[str, Any] = calling.rest()
        if mode == "NONE":
            request.tool_choice = ToolChoice(kind="none")
        elif mode == "ANY" and len(allowed) == 1 and isinstance(allowed[0], str):
            request.tool_choice = ToolChoice(kind="named", name=allowed[0])
            allowed = []
        elif mode == "ANY":
            request.tool_choice = ToolChoice(kind="required")
        else:
            request.tool_choice = ToolChoice(kind="auto")
            if mode == "VALIDATED":
                kept["mode"] = mode
        if allowed:
            kept["allowedFunctionNames"] = allowed
        if kept:
            request.extra["functionCallingConfig"] = kept
    if rest := config.rest():
        request.extra["toolConfig"] = rest


def _generation(config: Members, request: HubRequest) -> dict[str, Any]:
    """Read what the hub has words for; return the rest."""
    request.max_tokens = config.integer("maxOutputTokens")
    request.temperature = config.number("temperature")
    request.top_p = config.number("topP")
    request.top_k = config.integer("topK")
    stop = config.listed("stopSequences")
    if not all(isinstance(text, str) for text in stop):
        raise wrong(config.at("stopSequences"), "a list of strings", stop)
    request.stop = stop
    request.n = config.integer("candidateCount")
    request.seed = config.integer("seed")
    request.presence_penalty = config.number("presencePenalty")
    request.frequency_penalty = config.number("frequencyPenalty")
    request.logprobs = config.flag("responseLogprobs")
    request.top_logprobs = config.integer("logprobs")
    kept: dict[str, Any] = {}
    request.response_format = _format(config, kept)
    request.reasoning = _reasoning(config, kept)
    return config.rest() | kept


def _format(config: Members, kept: dict[str, Any]) -> ResponseFormat | None:
    kind = config.text("responseMimeType")
    schema = config.table("responseJsonSchema")
    lowered = config.table("responseSchema")
    if kind not in ("application/json", "text/plain", None):  # `text/x.enum` is Google's own
        said = {"responseMimeType": kind, "responseSchema": lowered, "responseJsonSchema": schema}
        kept |= {name: value for name, value in said.items() if value is not None}
        return None
    if lowered is not None and schema is None:
        schema = raise_schema(lowered)
    if schema is not None:
        return ResponseFormat(kind="schema", schema=schema)
    return None if kind is None else ResponseFormat(kind="json" if kind == "application/json" else "text")


def _reasoning(config: Members, kept: dict[str, Any]) -> Reasoning | None:
    thinking = proto_inner(config, "thinkingConfig")
    if thinking is None:
        return None
    budget = thinking.integer("thinkingBudget")
    level = thinking.text("thinkingLevel")
    reasoning = Reasoning(
        effort=level.lower() if level and level != "THINKING_LEVEL_UNSPECIFIED" else None,
        include_text=thinking.flag("includeThoughts"),
    )
    if budget is not None and budget > 0:
        reasoning.budget_tokens = budget
    elif budget is not None:
        reasoning.enabled = budget < 0  # -1 lets the model choose, 0 turns thinking off
    if rest := thinking.rest():
        kept["thinkingConfig"] = rest
    return reasoning
