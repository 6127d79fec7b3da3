"""OpenAI's shapes for what an app answers, with `citations` beside `choices`."""

from typing import Any

import msgspec

from penstock.apps.document_ids import file_id_of
from penstock.apps.types import AppReply, Outcome
from penstock.base.ids import new_id
from penstock.spec.messages import Citation
from penstock.spec.usage import Usage


def wire_usage(usage: Usage | None) -> dict[str, Any] | None:
    """Return OpenAI's usage object; None when nothing was counted."""
    if usage is None:
        return None
    prompt, completion = usage.input_tokens, usage.output_tokens
    total = None if prompt is None or completion is None else prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def wire_citations(citations: tuple[Citation, ...]) -> list[dict[str, Any]]:
    """Return the citations as JSON objects."""
    return [msgspec.to_builtins(citation) for citation in citations]


def wire_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return how a run ended as a JSON object; what does not apply is left out."""
    told: dict[str, Any] = msgspec.to_builtins(outcome)
    return told


def wire_annotations(citations: tuple[Citation, ...]) -> list[dict[str, Any]]:
    """Return the citations in OpenAI's shape: `url_citation` where a reader can open the document, else `file_citation`.

    A citation whose place in the answer is not known has no `url_citation`, which must have one.
    """
    annotations: list[dict[str, Any]] = []
    for citation in citations:
        if citation.url is not None and citation.start is not None and citation.end is not None:
            told = {
                "start_index": citation.start,
                "end_index": citation.end,
                "url": citation.url,
                "title": citation.title or citation.document,
            }
            annotations.append({"type": "url_citation", "url_citation": told})
        else:
            told = {"file_id": file_id_of(citation.document), "filename": citation.document}
            if citation.end is not None:
                told["index"] = citation.end
            annotations.append({"type": "file_citation", "file_citation": told})
    return annotations


def reply_body(reply: AppReply, *, model: str, created_s: int) -> bytes:
    """Return the body of a reply that is not streamed."""
    body = {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": reply.text,
                    "annotations": wire_annotations(reply.citations),
                },
                "finish_reason": reply.finish_reason,
                "logprobs": None,
            }
        ],
        "citations": wire_citations(reply.citations),
        "outcome": wire_outcome(reply.outcome),
        "usage": wire_usage(reply.usage),
    }
    return msgspec.json.encode(body)


class ChunkWriter:
    """Makes the events of one streamed reply."""

    def __init__(self, *, model: str, created_s: int) -> None:
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
        }
        self._has_role = False

    def text(self, piece: str) -> bytes:
        """Return the event for a piece of text."""
        delta: dict[str, Any] = {"content": piece}
        if not self._has_role:
            self._has_role = True
            delta = {"role": "assistant", **delta}
        return self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def end(self, reply: AppReply, *, include_usage: bool) -> bytes:
        """Return the last events: finish reason with the citations, usage if wanted, and `[DONE]`."""
        annotations = wire_annotations(reply.citations)
        delta = {"annotations": annotations} if annotations else {}
        finish = {
            "choices": [{"index": 0, "delta": delta, "finish_reason": reply.finish_reason}],
            "citations": wire_citations(reply.citations),
            "outcome": wire_outcome(reply.outcome),
        }
        events = self._event(finish)
        usage = wire_usage(reply.usage)
        if include_usage and usage is not None:
            events += self._event({"choices": [], "usage": usage})
        return events + b"data: [DONE]\n\n"

    def _event(self, members: dict[str, Any]) -> bytes:
        return b"data: " + msgspec.json.encode({**self._head, **members}) + b"\n\n"
