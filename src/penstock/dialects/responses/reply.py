"""A response object, between its body and the hub format."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.base.ids import new_trace_id
from penstock.dialects.members import Members, decode_object
from penstock.dialects.openai.reply import created_s
from penstock.dialects.responses.items_read import read_answer_item, read_content
from penstock.dialects.responses.items_write import write_output
from penstock.dialects.responses.request_write import write_request
from penstock.dialects.responses.usage import read_usage, write_usage
from penstock.spec.hub import Choice, Finish, HubReply, HubRequest, Part, Refusal, Text, ToolCall

_CUT: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_REASONS: dict[Finish, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_WHOLE = ("stop", "tool_calls", "refusal", "pause")


def read_reply(body: bytes) -> HubReply:
    """Return the reply; raises `ValueError` if `body` is no response or one that failed."""
    try:
        members = decode_object(body)
        if members.peek("status") == "failed" or members.peek("error"):
            raise InvalidInput("The response failed.")
        if not isinstance(members.peek("output"), list):
            raise InvalidInput("There is no `output`.")
        parts, logprobs = read_output(members.listed("output"))
        created = members.number("created_at")
        finish, raw = read_finish(members, has_calls=any(isinstance(part, ToolCall) for part in parts))
        reply = HubReply(
            source="responses",
            id=members.text("id") or None,
            model=members.text("model") or None,
            created_s=None if created is None else int(created),
            choices=[Choice(parts=parts, finish=finish, finish_raw=raw, logprobs=logprobs)],
            usage=read_usage(members.take("usage")),
        )
        reply.extra = members.rest()
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return reply


def read_output(items: list[Any]) -> tuple[list[Part], Any]:
    """Return the parts of an answer and its log probabilities in the hub's shape."""
    parts: list[Part] = []
    logprobs: list[Any] = []
    for index, raw in enumerate(items):
        path = f"output[{index}]"
        item = Members(raw, path)
        if item.peek("type") != "message":
            parts.append(read_answer_item(raw, path))
            continue
        for part in read_content(item.take("content"), item.at("content")):
            if isinstance(part, Text) and isinstance(found := part.extra.pop("logprobs", None), list):
                logprobs += found
            parts.append(part)
    return parts, ({"content": logprobs} if logprobs else None)


def read_finish(members: Members, *, has_calls: bool) -> tuple[Finish, str | None]:
    """Return why a response ended, and the provider's own word; takes both members that tell."""
    status = members.take("status")
    details = members.take("incomplete_details")
    members.take("error")
    members.take("object")
    if status == "completed":
        return ("tool_calls" if has_calls else "stop"), "completed"
    reason = details.get("reason") if isinstance(details, dict) else None
    if status == "incomplete" and isinstance(reason, str):
        return _CUT.get(reason, "unknown"), reason
    if status == "failed":
        return "error", "failed"
    return "unknown", status if isinstance(status, str) else None


def write_reply(reply: HubReply, *, model: str, request: HubRequest) -> bytes:
    """Return the body of a response; the members that repeat the request are those of `request`."""
    return msgspec.json.encode(response_object(reply, model=model, request=request))


def response_object(reply: HubReply, *, model: str, request: HubRequest) -> dict[str, Any]:
    """Return a finished response. Of several choices only the first can be said."""
    ident = reply.id or mint_id()
    choice = reply.choices[0] if reply.choices else Choice()
    body = response_head(ident, created_s(reply.created_s), model=model, request=request)
    if reply.source == "responses":
        body |= reply.extra
    status, body["incomplete_details"], body["error"] = _status(choice)
    body["status"] = status
    body["output"] = write_output(choice.parts, ident, choice.logprobs)
    body["usage"] = None if reply.usage is None else write_usage(reply.usage)
    return body


def response_head(ident: str, created: int, *, model: str, request: HubRequest) -> dict[str, Any]:
    """Return a response that has only begun: clients expect every one of these members, null where empty."""
    echoed = msgspec.json.decode(write_request(request, model=model, quirks=frozenset()).body)
    return {
        "id": ident,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": echoed.get("instructions"),
        "max_output_tokens": request.max_tokens,
        "metadata": request.metadata,
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.extra.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None, **echoed.get("reasoning", {})},
        "store": request.extra.get("store") is True,
        "temperature": request.temperature,
        "text": {"format": {"type": "text"}, **echoed.get("text", {})},
        "tool_choice": echoed.get("tool_choice", "auto"),
        "tools": echoed.get("tools", []),
        "top_p": request.top_p,
        "truncation": request.extra.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
    }


def mint_id() -> str:
    """Return an id for a response whose provider gave none."""
    return f"resp_{new_trace_id()}"


def _status(choice: Choice) -> tuple[str, dict[str, str] | None, dict[str, str] | None]:
    """Return status, `incomplete_details` and `error`. An end without a reason is incomplete, not made up; a refusal
    that nothing in the output tells of is told as a filtered reply."""
    finish = choice.finish
    if finish == "refusal" and not any(isinstance(part, Refusal) for part in choice.parts):
        finish = "content_filter"
    if finish in _WHOLE:
        return "completed", None, None
    if finish == "error":
        return (
            "failed",
            None,
            {"code": "server_error", "message": "The provider ended its reply with an error."},
        )
    reason = _REASONS.get(finish)
    return "incomplete", None if reason is None else {"reason": reason}, None
