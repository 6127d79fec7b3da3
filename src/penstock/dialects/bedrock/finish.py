"""Why Bedrock's answers end, in the hub's words and back."""

from penstock.spec.hub import Finish

_FROM: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
    "refusal": "refusal",
    "pause_turn": "pause",
}
_TO: dict[Finish, str | None] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "error": "malformed_model_output",
    "pause": None,
    "unknown": None,
}
_OWN = frozenset(_FROM) - {"refusal", "pause_turn"}
MALFORMED = "malformed_tool_use"


def read_finish(raw: object) -> Finish:
    """Return the hub's word; what is not known stays unknown."""
    return _FROM.get(raw, "unknown") if isinstance(raw, str) else "unknown"


def write_finish(finish: Finish, raw: str | None, stop_sequence: str | None) -> str | None:
    """Return Bedrock's word, its own one if `raw` is one that means the same; None where nothing is known."""
    if raw in _OWN and _FROM[raw] == finish:
        return raw
    return "stop_sequence" if finish == "stop" and stop_sequence is not None else _TO[finish]
