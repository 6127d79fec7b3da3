"""From a Converse request to the hub."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.bedrock.parts import read_block
from penstock.dialects.bedrock.reasoning import read_fields
from penstock.dialects.members import Members, decode_object
from penstock.spec.hub import HubRequest, Message, Opaque, ResponseFormat, Tool, ToolChoice


def read_request(body: bytes, *, model: str, stream: bool) -> HubRequest:
    """Return the request in `body`; raises `InvalidInput` naming what is wrong."""
    members = decode_object(body)
    request = HubRequest(source="bedrock", model=model, messages=[], stream=stream, stream_usage=True)
    system = [read_block(item, f"system[{index}]") for index, item in enumerate(members.listed("system"))]
    if system:
        request.messages.append(Message(role="system", parts=system))
    if members.peek("messages") is None:
        raise InvalidInput("`messages` is missing.", param="messages")
    for message in members.inners("messages"):
        role = message.required("role")
        if role not in ("user", "assistant"):
            raise InvalidInput(
                f"`{message.at('role')}` must be `user` or `assistant`.", param=message.at("role")
            )
        content = message.listed("content")
        parts = [read_block(item, f"{message.at('content')}[{index}]") for index, item in enumerate(content)]
        request.messages.append(
            Message(role="user" if role == "user" else "assistant", parts=parts, extra=message.rest())
        )
    config = members.inner("inferenceConfig")
    if config is not None:
        request.max_tokens = config.integer("maxTokens")
        request.temperature = config.number("temperature")
        request.top_p = config.number("topP")
        request.stop = [text for text in config.listed("stopSequences") if isinstance(text, str)]
        if rest := config.rest():
            request.extra["inferenceConfig"] = rest
    _tools(members, request)
    metadata = members.table("requestMetadata") or {}
    request.metadata = {name: text for name, text in metadata.items() if isinstance(text, str)}
    fields = dict(members.table("additionalModelRequestFields") or {})
    read_fields(fields, request)
    if fields:
        request.extra["additionalModelRequestFields"] = fields
    _format(members, request)
    request.extra |= members.rest()
    return request


def _tools(members: Members, request: HubRequest) -> None:
    config = members.inner("toolConfig")
    if config is None:
        return
    for entry in config.inners("tools"):
        spec = entry.inner("toolSpec")
        if spec is None:
            raw = entry.rest()
            request.tools.append(
                Tool(name=next(iter(raw), "tool"), builtin=Opaque(dialect="bedrock", raw=raw))
            )
            continue
        schema = spec.inner("inputSchema")
        request.tools.append(
            Tool(
                name=spec.required("name"),
                description=spec.text("description"),
                parameters=schema.table("json") if schema is not None else None,
                strict=spec.flag("strict"),
                extra=spec.rest(),
            )
        )
    choice = config.inner("toolChoice")
    if choice is not None:
        named = choice.inner("tool")
        if named is not None:
            request.tool_choice = ToolChoice(kind="named", name=named.required("name"))
        elif choice.peek("any") is not None:
            request.tool_choice = ToolChoice(kind="required")
        elif choice.peek("auto") is not None:
            request.tool_choice = ToolChoice(kind="auto")
    if rest := config.rest():
        request.extra["toolConfig"] = rest


def _format(members: Members, request: HubRequest) -> None:
    """Read `outputConfig.textFormat`, whose schema is JSON text."""
    config = members.table("outputConfig")
    text_format = config.get("textFormat") if config else None
    structure = text_format.get("structure") if isinstance(text_format, dict) else None
    wanted = structure.get("jsonSchema") if isinstance(structure, dict) else None
    schema = _schema(wanted.get("schema")) if isinstance(wanted, dict) else None
    if config and (schema is None or not isinstance(wanted, dict)):
        request.extra["outputConfig"] = config
    elif config and isinstance(wanted, dict):
        request.response_format = ResponseFormat(
            kind="schema", schema=schema, name=wanted.get("name"), description=wanted.get("description")
        )
        if rest := {name: value for name, value in config.items() if name != "textFormat"}:
            request.extra["outputConfig"] = rest


def _schema(text: Any) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
