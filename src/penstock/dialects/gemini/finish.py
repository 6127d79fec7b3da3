"""Why Google's answers end, in the hub's words and back."""

from collections.abc import Sequence

from penstock.spec.hub import Finish, Part, ToolCall

_FROM: dict[str, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "MALFORMED_RESPONSE": "error",
}
_TO: dict[Finish, str | None] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "error": "OTHER",
    "unknown": None,
}
MALFORMED = "MALFORMED_FUNCTION_CALL"


def read_finish(raw: object, *, has_calls: bool) -> Finish:
    """Return the hub's word; `STOP` with function calls means that tools should run. Unknown words stay unknown."""
    found = _FROM.get(raw, "unknown") if isinstance(raw, str) else "unknown"
    return "tool_calls" if found == "stop" and has_calls else found


def write_finish(finish: Finish, raw: str | None, *, is_same: bool) -> str | None:
    """Return Google's word, its own one if it came from there; None where nothing is known."""
    return raw if is_same and raw else _TO[finish]


def has_calls(parts: Sequence[Part]) -> bool:
    """Return whether there is a tool call among `parts`."""
    return any(isinstance(part, ToolCall) for part in parts)
