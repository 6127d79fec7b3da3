"""Why a reply ended, between Cohere's `finish_reason` and the hub."""

from penstock.spec.hub import Finish

_FINISHES: dict[str, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_REASONS: dict[Finish, str] = {
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR_TOXIC",
    "refusal": "ERROR_TOXIC",
    "error": "ERROR",
}


def read_finish(reason: str | None) -> Finish:
    """Return the hub's word; `unknown` for none and for one that is not documented."""
    return _FINISHES.get(reason or "", "unknown")


def write_finish(finish: Finish, raw: str | None, stop_sequence: str | None) -> str | None:
    """Return the `finish_reason`, None where the provider did not say why (it is never guessed).

    `raw` counts where it is a word of this dialect that means `finish`.
    """
    if raw is not None and _FINISHES.get(raw) == finish:
        return raw
    if finish == "stop":
        return "COMPLETE" if stop_sequence is None else "STOP_SEQUENCE"
    return _REASONS.get(finish)
