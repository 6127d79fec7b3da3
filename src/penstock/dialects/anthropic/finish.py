"""Why a reply ended, between Anthropic's `stop_reason` and the hub."""

from penstock.spec.hub import Finish

_FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
_REASONS: dict[Finish, str] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "pause": "pause_turn",
    "refusal": "refusal",
    "content_filter": "refusal",
}


def read_finish(reason: str | None) -> Finish:
    """Return the hub's word; `unknown` for none and for one that is not documented."""
    return _FINISHES.get(reason or "", "unknown")


def write_finish(finish: Finish, raw: str | None, stop_sequence: str | None) -> str | None:
    """Return the `stop_reason`, None where the provider did not say why (it is never guessed).

    `raw` counts where it is a word of this dialect that means `finish`.
    """
    if raw is not None and _FINISHES.get(raw) == finish:
        return raw
    if finish == "stop":
        return "end_turn" if stop_sequence is None else "stop_sequence"
    return _REASONS.get(finish)
