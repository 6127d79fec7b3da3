"""Citations of a text: OpenAI's two dialects write the same thing nested and flat. The hub keeps either."""

from typing import Any

_KINDS = ("url_citation", "file_citation")


def nest_annotations(listed: Any) -> list[Any]:
    """Return annotations as chat completions write them: `{"type": T, T: {…}}`."""
    return [_nest(one) for one in listed] if isinstance(listed, list) else []


def flatten_annotations(listed: Any) -> list[Any]:
    """Return annotations as the responses API writes them: `{"type": T, …}`."""
    return [_flatten(one) for one in listed] if isinstance(listed, list) else []


def _nest(one: Any) -> Any:
    kind = one.get("type") if isinstance(one, dict) else None
    if kind not in _KINDS or kind in one:
        return one
    return {"type": kind, kind: {name: value for name, value in one.items() if name != "type"}}


def _flatten(one: Any) -> Any:
    kind = one.get("type") if isinstance(one, dict) else None
    if kind in _KINDS and isinstance(one.get(kind), dict):
        return {"type": kind, **one[kind]}
    return one
