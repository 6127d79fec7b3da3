"""What Anthropic's models take, by their names. Dialects read nothing else about a model."""

import re

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?:-[a-z]+)?(?!\d)")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
LEAST_BUDGET = 1024


def thinks_adaptively(model: str) -> bool:
    """Return whether `model` decides itself how much to think and takes an effort.

    Claude 4.6 and later do; earlier ones take a budget of tokens. A name that tells no version counts as new.
    """
    found = _VERSION.search(model)
    if found is None:
        return True
    return (int(found[1]), int(found[2] or 0)) >= (4, 6)


def budget_of_effort(effort: str) -> int:
    """Return the tokens that an effort is worth to a model that takes a budget."""
    return _BUDGETS.get(effort, 8192)
