"""Why a reply ended, between OpenAI's words (and those of servers that copy it) and the hub's."""

from penstock.spec.hub import Finish

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
    "error": "error",
    "insufficient_system_resource": "error",
}
_WORDS: dict[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}


def read_finish(word: object, *, has_calls: bool) -> tuple[Finish, str | None]:
    """Return the hub's word and the provider's own.

    Some servers say `stop` where the model calls tools; a client that waits for `tool_calls` would stop there.
    """
    if not isinstance(word, str) or not word:
        return "unknown", None
    finish = _FINISH.get(word.lower(), "unknown")
    return ("tool_calls" if finish == "stop" and has_calls else finish), word


def write_finish(finish: Finish) -> str | None:
    """Return OpenAI's word; None where it has none, for a reason is never made up."""
    return _WORDS.get(finish)
