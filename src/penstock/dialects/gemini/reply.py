"""Whole generateContent replies, both ways, and token probabilities in OpenAI's shape."""

from typing import Any

import msgspec

from penstock.base.errors import InvalidInput
from penstock.dialects.arguments import read_arguments
from penstock.dialects.gemini.finish import MALFORMED, has_calls, read_finish, write_finish
from penstock.dialects.gemini.parts import SIGNATURE, CallIds, read_part, write_call, write_media
from penstock.dialects.gemini.usage import read_usage, write_usage
from penstock.spec.hub import Choice, HubReply, Media, Opaque, Part, Thinking, ToolCall, ToolResult
from penstock.spec.routes import DialectName

_READ = frozenset({"content", "finishReason", "index", "logprobsResult"})


def read_reply(body: bytes) -> HubReply:
    """Return the reply in `body`; raises `ValueError` if it is none."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(value, dict) or not value.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        raise ValueError("not a generateContent reply")
    ids = CallIds()
    candidates = value.get("candidates")
    listed = [item for item in candidates if isinstance(item, dict)] if isinstance(candidates, list) else []
    reply = HubReply(
        source="gemini",
        id=_text(value.get("responseId")),
        model=_text(value.get("modelVersion")),
        choices=[_choice(item, ids) for item in listed],
        usage=read_usage(value.get("usageMetadata")),
    )
    if (blocked := block_reason(value)) is not None and not reply.choices:
        reply.choices = [Choice(finish="content_filter", finish_raw=blocked)]
    rests = [{name: item for name, item in entry.items() if name not in _READ} for entry in listed]
    if any(rests):
        reply.extra["candidates"] = rests
    if value.get("promptFeedback"):
        reply.extra["promptFeedback"] = value["promptFeedback"]
    return reply


def block_reason(value: dict[str, Any]) -> str | None:
    """Return why the prompt was refused, if it was."""
    feedback = value.get("promptFeedback")
    return _text(feedback.get("blockReason")) if isinstance(feedback, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _choice(candidate: dict[str, Any], ids: CallIds) -> Choice:
    parts = read_candidate_parts(candidate, ids)
    raw = _text(candidate.get("finishReason"))
    return Choice(
        parts=parts,
        finish=read_finish(raw, has_calls=has_calls(parts)),
        finish_raw=raw,
        logprobs=read_logprobs(candidate.get("logprobsResult")),
    )


def read_candidate_parts(candidate: dict[str, Any], ids: CallIds) -> list[Part]:
    """Return the parts of a candidate. A part that is not as documented stays as it is."""
    content = candidate.get("content")
    listed = content.get("parts") if isinstance(content, dict) else None
    parts: list[Part] = []
    for item in listed if isinstance(listed, list) else ():
        try:
            part = read_part(item, "parts", ids)
        except InvalidInput:
            part = Opaque(dialect="gemini", raw=item)
        if part is not None:
            parts.append(part)
    return parts


def write_reply(reply: HubReply, *, model: str) -> bytes:
    """Return the body for a client that asked for `model`."""
    is_same = reply.source == "gemini"
    rests = reply.extra.get("candidates") if is_same else None
    candidates = []
    for index, choice in enumerate(reply.choices):
        rest = rests[index] if isinstance(rests, list) and index < len(rests) else {}
        candidates.append({**write_candidate(choice, index, reply.source), **rest})
    body: dict[str, Any] = {"candidates": candidates}
    if is_same and (feedback := reply.extra.get("promptFeedback")) is not None:
        body["promptFeedback"] = feedback
        if all(not choice.parts for choice in reply.choices):
            del body["candidates"]
    if reply.usage is not None:
        body["usageMetadata"] = write_usage(reply.usage)
    body["modelVersion"] = model
    if reply.id is not None:
        body["responseId"] = reply.id
    return msgspec.json.encode(body)


def write_candidate(choice: Choice, index: int, source: DialectName) -> dict[str, Any]:
    """Return one candidate. A call whose arguments are no JSON object ends it as Google ends such answers."""
    parts: list[dict[str, Any]] = []
    finish = write_finish(choice.finish, choice.finish_raw, is_same=source == "gemini")
    message: str | None = None
    for part in choice.parts:
        if isinstance(part, ToolCall) and read_arguments(part.arguments) is None:
            finish, message = MALFORMED, f"Malformed function call: {part.name}({part.arguments})"
        elif (piece := write_part(part, source)) is not None:
            parts.append(piece)
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish is not None:
        candidate["finishReason"] = finish
    if message is not None:
        candidate["finishMessage"] = message
    candidate["index"] = index
    if (logprobs := write_logprobs(choice.logprobs)) is not None:
        candidate["logprobsResult"] = logprobs
    return candidate


def write_part(part: Part, source: DialectName) -> dict[str, Any] | None:
    """Return a part of an answer; None for what only another dialect understands."""
    is_same = source == "gemini"
    if isinstance(part, ToolResult):
        return None
    if isinstance(part, Opaque):
        return part.raw if part.dialect == "gemini" and isinstance(part.raw, dict) else None
    extra = part.extra if is_same else {}
    if isinstance(part, Media):
        return write_media(msgspec.structs.replace(part, extra=extra))
    if isinstance(part, ToolCall):
        return write_call(part, read_arguments(part.arguments) or {}, extra)
    if isinstance(part, Thinking):
        piece: dict[str, Any] = {"text": part.text or "", "thought": True}
        if part.signature is not None and part.origin == "gemini":
            piece[SIGNATURE] = part.signature
        elif not part.text:
            return None
        return {**piece, **extra}
    return {"text": part.text, **extra}


def read_logprobs(value: Any) -> Any:
    """Return `logprobsResult` in OpenAI's shape, or None."""
    chosen = value.get("chosenCandidates") if isinstance(value, dict) else None
    if not isinstance(chosen, list) or not chosen:
        return None
    tops = value.get("topCandidates")
    content = []
    for index, item in enumerate(chosen):
        top = tops[index] if isinstance(tops, list) and index < len(tops) else None
        others = top.get("candidates") if isinstance(top, dict) else None
        content.append(
            {
                **_token(item),
                "top_logprobs": [_token(one) for one in others] if isinstance(others, list) else [],
            }
        )
    return {"content": content}


def _token(item: Any) -> dict[str, Any]:
    item = item if isinstance(item, dict) else {}
    token = item.get("token")
    text = token if isinstance(token, str) else ""
    return {"token": text, "logprob": item.get("logProbability", 0.0), "bytes": list(text.encode())}


def write_logprobs(value: Any) -> Any:
    """Return OpenAI's token probabilities as `logprobsResult`, or None."""
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list) or not content:
        return None
    items = [item for item in content if isinstance(item, dict)]
    return {
        "chosenCandidates": [_candidate(item) for item in items],
        "topCandidates": [
            {
                "candidates": [
                    _candidate(one) for one in item.get("top_logprobs") or () if isinstance(one, dict)
                ]
            }
            for item in items
        ],
    }


def _candidate(item: dict[str, Any]) -> dict[str, Any]:
    return {"token": item.get("token", ""), "logProbability": item.get("logprob", 0.0)}
