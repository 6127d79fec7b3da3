"""Writes OpenAI-shaped bodies: completions, stream events, embeddings, model lists and errors."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.base.errors import PenstockError
from penstock.providers.engines.tool_calls import CallReader, Part, ToolCall
from penstock.providers.engines.types import GenerationEnd

encode_json = msgspec.json.encode
STREAM_END = b"data: [DONE]\n\n"
Shape = Literal["chat", "text"]


def usage_fields(end: GenerationEnd) -> dict[str, Any]:
    """Return the `usage` object: exact counts, cached prompt tokens included in `prompt_tokens`."""
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": end.cached_tokens},
    }


def _call_fields(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


class ReplyWriter:
    """Writes one completion, as a whole or as stream events; the parts that stay the same are encoded once."""

    def __init__(
        self,
        *,
        shape: Shape,
        reply_id: str,
        created_s: int,
        model: str,
        fingerprint: str,
        include_usage: bool,
        calls: CallReader | None = None,
    ) -> None:
        """With `calls`, what the model writes is told apart by it into text and calls of tools."""
        self._calls = calls
        self._n_calls = 0
        self._shape = shape
        self._include_usage = include_usage
        kind = "chat.completion" if shape == "chat" else "text_completion"
        self._head: dict[str, Any] = {
            "id": reply_id,
            "object": kind,
            "created": created_s,
            "model": model,
            "system_fingerprint": fingerprint,
        }
        chunk_head = self._head | {"object": f"{kind}.chunk" if shape == "chat" else kind}
        self._event_head = b"data: " + encode_json(chunk_head)[:-1]

    def start(self) -> bytes:
        """Return the event that opens a chat reply (nothing for a text completion)."""
        if self._shape == "text":
            return b""
        return self._event({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def pieces(self, texts: Sequence[str]) -> bytes:
        """Return the events of what the model has written since; none while it may become a call of a tool."""
        if self._calls is None:
            return b"".join(map(self.piece, texts))
        return b"".join(map(self._part, self._calls.feed("".join(texts))))

    def piece(self, text: str) -> bytes:
        """Return the event that carries `text`."""
        content = encode_json(text)
        if self._shape == "chat":
            body = b',"choices":[{"index":0,"delta":{"content":' + content + b'},"finish_reason":null}]'
        else:
            body = b',"choices":[{"index":0,"text":' + content + b',"logprobs":null,"finish_reason":null}]'
        return self._event_head + body + (b',"usage":null}\n\n' if self._include_usage else b"}\n\n")

    def finish(self, end: GenerationEnd) -> bytes:
        """Return the events that close the stream, with usage if it was asked for."""
        choice = (
            {"index": 0, "delta": {}} if self._shape == "chat" else {"index": 0, "text": "", "logprobs": None}
        )
        events = b"" if self._calls is None else b"".join(map(self._part, self._calls.finish()))
        events += self._event(choice | {"finish_reason": self._reason(end)})
        if self._include_usage:
            tail = {"choices": [], "usage": usage_fields(end)}
            events += self._event_head + b"," + encode_json(tail)[1:] + b"\n\n"
        return events + STREAM_END

    def failure(self, error: PenstockError) -> bytes:
        """Return the event that tells of a failure after the stream began."""
        return b"data: " + encode_json(error_fields(error)) + b"\n\n" + STREAM_END

    def whole(self, text: str, end: GenerationEnd) -> bytes:
        """Return the body of a reply that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": end.finish_reason}
        if self._shape == "text":
            choice["text"] = text
        else:
            calls: list[dict[str, Any]] = []
            if self._calls is not None:
                parts = [*self._calls.feed(text), *self._calls.finish()]
                calls = [_call_fields(part) for part in parts if isinstance(part, ToolCall)]
                text = "".join(part for part in parts if isinstance(part, str))
            self._n_calls = len(calls)
            message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
            if calls:
                message |= {"content": text or None, "tool_calls": calls}
            choice |= {"message": message, "finish_reason": self._reason(end)}
        return encode_json(self._head | {"choices": [choice], "usage": usage_fields(end)})

    def _reason(self, end: GenerationEnd) -> str:
        return "tool_calls" if self._n_calls and end.finish_reason == "stop" else end.finish_reason

    def _part(self, part: Part) -> bytes:
        if isinstance(part, str):
            return self.piece(part)
        call = {"index": self._n_calls, **_call_fields(part)}
        self._n_calls += 1
        return self._event({"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None})

    def _event(self, choice: dict[str, Any]) -> bytes:
        fields: dict[str, Any] = {"choices": [choice]}
        if self._include_usage:
            fields["usage"] = None
        return self._event_head + b"," + encode_json(fields)[1:] + b"\n\n"


def embedding_body(
    rows: NDArray[np.float32],
    *,
    model: str,
    n_tokens: int,
    as_base64: bool,
    truncated: Sequence[int],
    note: str | None,
) -> bytes:
    """Return the body of an embeddings reply. `truncated` lists inputs that were cut on request."""
    data = [
        {
            "object": "embedding",
            "index": number,
            "embedding": base64.b64encode(np.ascontiguousarray(row, dtype="<f4").tobytes()).decode()
            if as_base64
            else row.tolist(),
        }
        for number, row in enumerate(rows)
    ]
    body: dict[str, Any] = {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }
    if truncated:
        body["truncated"] = list(truncated)
    if note:
        body["note"] = note
    return encode_json(body)


def error_fields(error: PenstockError) -> dict[str, Any]:
    """Return OpenAI's error object; the code is OpenAI's where it has one, else ours."""
    message = f"{error.message} {error.hint}" if error.hint else error.message
    return {
        "error": {
            "message": message,
            "type": error.kind,
            "param": error.fields.get("param"),
            "code": getattr(error, "openai_code", error.code),
        }
    }
