"""What OpenAI's models refuse, by their names. Names of other providers match nothing."""

import re

_REASONS = re.compile(r"(?:^|/)(?:o[134](?:-|$)|gpt-5(?!.*-chat)|codex-)")
_NO_STOP = re.compile(r"(?:^|/)(?:o[34](?:-|$)|gpt-5(?!.*-chat)|codex-)")
_PLAIN = re.compile(r"(?:^|/)(?:gpt-3\.5|gpt-4|chatgpt-4o|gpt-5.*-chat)")


def is_reasoning(model: str) -> bool:
    """Return whether `model` thinks: it wants `max_completion_tokens` and refuses to have its sampling set."""
    return _REASONS.search(model) is not None


def refuses_stop(model: str) -> bool:
    """Return whether `model` refuses stop sequences."""
    return _NO_STOP.search(model) is not None


def is_plain(model: str) -> bool:
    """Return whether `model` is one of OpenAI's that do not think, and refuse to be told how much."""
    return _PLAIN.search(model) is not None
