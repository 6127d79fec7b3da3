"""Log probabilities: Cohere tells them by chunks of text, the hub (as OpenAI) by tokens.

A chunk of several tokens becomes one entry with the probability of the chunk; numbers of tokens are lost.
"""

from typing import Any


def read_logprobs(value: Any) -> dict[str, Any] | None:
    """Return the hub's shape of a list of chunks or of one, None if it holds none."""
    listed = value if isinstance(value, list) else [value]
    entries = [entry for one in listed if (entry := _entry(one)) is not None]
    return {"content": entries} if entries else None


def _entry(chunk: Any) -> dict[str, Any] | None:
    if not isinstance(chunk, dict):
        return None
    text, told = chunk.get("text"), chunk.get("logprobs")
    if not isinstance(text, str) or not isinstance(told, list) or not told:
        return None
    if not all(isinstance(one, int | float) for one in told):
        return None
    return {"token": text, "logprob": sum(told), "bytes": list(text.encode()), "top_logprobs": []}


def write_logprobs(logprobs: Any) -> list[dict[str, Any]]:
    """Return one chunk for each token of the hub's shape."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [
        {"text": entry.get("token"), "token_ids": [], "logprobs": [entry.get("logprob")]}
        for entry in (content if isinstance(content, list) else ())
        if isinstance(entry, dict)
    ]
